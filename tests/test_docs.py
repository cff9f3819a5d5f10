"""Claims about the documentation: what it names is there, and its code runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium as gym
import keras
import numpy as np
import pytest
from documentation import PAGES, blocks, languages
from repository import ROOT

import run
from baselines_acktr import a2c, kfac, load
from baselines_acktr.session.options import FLAGS
from baselines_acktr.session.settling import settle
from common.vec_env.env_state import ResumableEnv

pytestmark = pytest.mark.long
REQUESTS = 1000  # to the server
# Blocks of Python on each page, all of which are run: those of README.md by tests/test_readme.py, the others here.
RUN = {"README.md": 3, "deploy.md": 6, "environments.md": 2, "from-baselines.md": 1, "from-stable-baselines.md": 1}
RUN |= {"kfac.md": 3, "networks.md": 5, "python.md": 6, "reliability.md": 1, "zoo.md": 1}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_block_of_python_is_run_by_a_test(page: Path):
    assert len(blocks(page)) == RUN.get(page.name, 0)
    assert languages(page) <= {"", "python", "yaml"}
    assert len(blocks(page, "yaml")) == (page.name == "settings.md")


def test_every_page_is_in_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f" {page.name}" not in navigation]
    assert missing == []


def test_an_environment_of_ones_own_is_trained_as_written(tmp_path, monkeypatch):
    program, _ = blocks("docs/environments.md")
    (tmp_path / "corridor.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    small = ["--num_timesteps=40", "--num_env=2", "--hidden_sizes=8", "--log_format=csv", "--log_path=logs"]
    assert run.main(["--env=corridor:Corridor-v0", "--env_kwargs=length=20", *small]) == 0
    assert (tmp_path / "logs" / "progress.csv").exists()


def test_an_environment_takes_the_choices_of_a_model_as_written():
    _, program = blocks("docs/environments.md")
    names: dict = {}
    exec(program, names)
    assert names["action"].shape == (6,) and names["action"].dtype == np.int64
    assert names["env"].step(names["action"])[1] == names["action"].sum()


def test_a_network_of_ones_own_is_trained_as_written(tmp_path, monkeypatch):
    program, registered, *_ = blocks("docs/networks.md")
    (tmp_path / "wide.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    small = ["--num_timesteps=40", "--num_env=2", "--log_format=csv", "--log_path=logs"]
    assert run.main(["--env=CartPole-v1", "--network=wide:wide", *small]) == 0
    exec(registered, {})


def test_observations_of_several_parts_are_learned_and_split_as_written():
    *_, program, own_network, _ = blocks("docs/networks.md")
    names: dict = {}
    exec(program, names)
    assert names["action"] in (0, 1)

    exec(own_network, names)
    model = names["a2c"].learn(names["two_views"], env=names["CameraAndOrder"], num_env=4, total_timesteps=64)
    assert model.predict(names["observation"])[0] in (0, 1)


def test_the_state_of_a_recurrent_network_is_carried_along_as_written():
    names: dict = {}
    exec(blocks("docs/networks.md")[-1], names)
    assert names["state"].shape == (8, 256)
    assert names["state"].any()


@pytest.mark.parametrize("page", ["docs/from-baselines.md", "docs/from-stable-baselines.md"])
def test_the_same_program_works_as_written(tmp_path, monkeypatch, page):
    (program,) = blocks(page)
    monkeypatch.chdir(tmp_path)
    exec(program, {"__name__": "__main__"})
    assert (tmp_path / "models" / "cartpole").exists()


@pytest.mark.parametrize(
    "script", blocks("docs/python.md") + blocks("docs/zoo.md"), ids=lambda script: script.splitlines()[-1][:40]
)
def test_a_script_in_python_works_as_written(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict = {"__name__": "__main__"}
    exec(script, names)
    if "model" in names:
        assert names["model"].timesteps >= 1_900


def test_an_exported_agent_is_read_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "tests" / "data" / "cartpole.model", tmp_path / "models" / "cartpole")
    export, *readers, _, _ = blocks("docs/deploy.md")
    names: dict = {"observations": np.random.default_rng(0).normal(0, 1, (20, 4)).astype(np.float32)}
    exec(export, names)
    expected, _ = names["model"].predict(names["observations"], deterministic=True)
    assert len(readers) == 3
    for reader in readers:
        names["actions"] = None
        exec(reader, names)
        np.testing.assert_array_equal(names["actions"], expected)


def test_an_exported_agent_that_remembers_plays_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    played = gym.make("CartPole-v1")
    model = a2c.DiscreteModel(played.observation_space, played.action_space, "lstm", a2c.DiscreteModel.config_class())
    model.export("recurrent")
    names: dict = {}
    exec(blocks("docs/deploy.md")[-2], names)

    observation, _ = played.reset(seed=0)
    state, steps, ended = None, 0, False
    while not ended:
        (action,), state = model.predict(observation[None], state, deterministic=True)
        observation, _, terminated, truncated, _ = played.step(action)
        steps, ended = steps + 1, terminated or truncated
    np.testing.assert_array_equal(names["observation"], observation)
    np.testing.assert_allclose(names["state"], state, rtol=0, atol=1e-6)
    assert names["ended"] and steps > 5


def test_the_pieces_of_the_page_on_kfac_fit_together_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).normal(0, 1, (512, 64)).astype(np.float32)
    labels = images[:, :10].argmax(axis=1)
    names = {name: getattr(kfac, name) for name in kfac.__all__}
    names |= {"images": images, "labels": labels, "batches": [(images, labels)]}
    exec(blocks("README.md")[2], names)  # has a model, its optimizer and its objective
    inputs = keras.Input((64,))
    names["another_model"] = keras.Model(inputs, keras.layers.Dense(10, "softmax")(inputs))

    compiled, distance, monitored = blocks("docs/kfac.md")
    exec(distance, names)
    exec(compiled, names)
    exec(monitored, names)
    assert "kfac_damping" in (tmp_path / "log.csv").read_text().splitlines()[0]
    assert np.mean(names["model"].predict(images, verbose=0).argmax(axis=1) == labels) > 0.5


def test_an_environment_says_what_changes_in_it_as_written():
    names: dict = {"gym": gym}
    exec(blocks("docs/reliability.md")[0], names)
    mine = names["Mine"]()
    env = ResumableEnv(mine)
    mine.position, mine.lap = np.arange(3.0), 2
    stored = env.env_state
    mine.position, mine.lap = np.zeros(3), 0
    env.env_state = stored
    assert env.state_gap == "" and mine.lap == 2 and mine.position.tolist() == [0, 1, 2]


def test_the_server_answers_as_the_agent_does_and_survives_nonsense(tmp_path):
    model = load(str(ROOT / "tests" / "data" / "cartpole.model"))
    model.export(str(tmp_path / "cartpole"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = blocks("docs/deploy.md")[-1]
    assert "8000" in program
    alone = f"import sys; sys.modules['baselines_acktr'] = sys.modules['common'] = None\n{program}"
    server = subprocess.Popen(
        [sys.executable, "-c", alone.replace("8000", str(port))], cwd=tmp_path, stderr=subprocess.DEVNULL
    )

    def ask(body: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/", body)
            response = connection.getresponse()
            return response.status, response.read().decode()

    try:
        while True:
            assert server.poll() is None
            with contextlib.suppress(ConnectionRefusedError):
                ask("[]")
                break
            time.sleep(0.1)
        observations = np.random.default_rng(0).normal(0, 1, (REQUESTS, 2, 4)).astype(np.float32)
        expected = model.predict(observations.reshape(-1, 4), deterministic=True)[0].reshape(-1, 2)
        assert len(np.unique(expected)) == 2
        for nonsense in ("", "no", '{"a": 1}', "[[1, 2]]", "[[1, 2], [3]]", "[" * 100000, f"[[1, 2, 3, {10**400}]]"):
            assert ask(nonsense)[0] == 400
        with ThreadPoolExecutor(4) as several:  # at once, so that the server has threads beside those of before
            answers = list(several.map(ask, [json.dumps(batch.tolist()) for batch in observations]))
        assert answers == [(200, json.dumps(actions.tolist())) for actions in expected]
    finally:
        server.kill()
        server.wait()


def test_the_file_of_flags_is_read_as_written(tmp_path):
    (text,) = blocks("docs/settings.md", "yaml")
    (tmp_path / "cheetah.yaml").write_text(text)
    settings = settle({"config": str(tmp_path / "cheetah.yaml")})
    assert settings.env == "HalfCheetah-v4" and settings.env_kwargs == {"ctrl_cost_weight": 0.05}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_name_flags_that_are_there(page: Path):
    """Those of `run.py`; in tables of other programs only what stands in the last column but notes."""
    for command in re.findall(r"^(?:mpirun -n \d+ )?(?:acktr|python run\.py) (.*)$", page.read_text(), re.M):
        for flag in re.findall(r"--([a-z_]+)", command.partition("#")[0]):
            assert flag in FLAGS._kinds() or flag in ("help", "version"), f"{page.name}: --{flag}"
