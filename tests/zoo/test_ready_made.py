"""Claims about the ready-made agents, and about the command that adds them."""

from __future__ import annotations

import shutil
import sys

import gymnasium as gym
import numpy as np
import pytest
from repository import ROOT

import run
from baselines_acktr import acktr_cont, evaluate, load
from baselines_acktr.session import ready_made
from baselines_acktr.session.ready_made import Record
from baselines_acktr.zoo import __main__ as zoo
from baselines_acktr.zoo import table
from baselines_acktr.zoo.adding import command_of
from common import array_file
from common.errors import UserError
from common.vec_env import make_vec_env

NAMES = ready_made.names()
CART_POLE = ROOT / "tests" / "data" / "cartpole.model"  # a whole model


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_made_agent_plays_the_game_that_it_is_named_after(name):
    model = load(f"zoo:{name}")
    with make_vec_env(**model.env_arguments, num_env=2, seed=0) as env:
        assert env.spec.id.endswith(name)
        observations, _ = env.reset()
        for _ in range(20):
            actions, values, state, neglogps = model.step(observations)
            assert env.action_space.contains(actions)
            assert np.isfinite(neglogps).all() and state is None
            observations, rewards, *_ = env.step(actions)
            assert np.isfinite(rewards).all()
    assert np.isnan(values).all() == ("vf" in model.parts)


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_made_agent_has_its_policy_alone_and_a_hundred_games(name):
    arrays, meta = array_file.load(ready_made.path_of(name))
    assert {array.partition("/")[0] for array in arrays} <= {"parameters", "sampler", "policy", "actor"}
    record = Record.of(meta)
    assert len(record.sampled) == len(record.greedy) == 100
    assert record.command.startswith(("python run.py ", "mpirun -n ")) and "--seed=" in record.command
    assert f"--env={meta['env_arguments']['env_id']}" in record.command


def test_all_of_them_together_are_small_and_are_installed():
    assert sum(ready_made.path_of(name).stat().st_size for name in NAMES) < 40 * 2**20
    assert "baselines_acktr.zoo = agents/*.model" in (ROOT / "setup.cfg").read_text().splitlines()


def test_the_page_shows_the_scores_of_the_files(tmp_path):
    page = tmp_path / "zoo.md"
    shutil.copy(table.PAGE, page)
    table.write(page)
    assert page.read_text() == table.PAGE.read_text()


def test_one_command_plays_one_as_well_as_its_record_says(capsys):
    assert run.main(["--load_path=zoo:CartPole-v1", "--play", "--greedy", "--play_episodes=2", "--seed=1"]) == 0
    greedy = Record.of(ready_made.metas()["CartPole-v1"]).greedy
    assert min(greedy) == 500
    assert "mean of 2: score 500, length 500" in capsys.readouterr().out


def test_one_command_exports_one(tmp_path):
    assert run.main(["--load_path=zoo:CartPole-v1", f"--export={tmp_path}/cartpole"]) == 0
    assert (tmp_path / "cartpole" / "saved_model.pb").exists()


@pytest.mark.parametrize("words", [["--load_path=zoo:"], ["--load_path", "zoo:"], ["--play", "--load-path=zoo:"]])
def test_they_are_listed_without_a_name(capsys, words):
    assert run.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [f"zoo:{name}" for name in NAMES]
    assert "--load_path=zoo:" in lines[-1] and lines[-1].endswith("--play")


@pytest.mark.parametrize("name", ["Cartpole-v1", "nothing", "../agents/CartPole-v1"])
def test_an_unknown_name_is_one_line_with_those_that_there_are(capfd, name):
    assert run.main([f"--load_path=zoo:{name}", "--play"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"run.py: --load_path=zoo:{name}: no such ready-made agent; must be zoo: with one of ")
    assert all(known in err for known in NAMES)
    with pytest.raises(UserError, match=r"^path=zoo:.*: no such ready-made agent"):
        load(f"zoo:{name}")


def test_training_one_further_is_refused_before_anything_is_written(capfd, tmp_path):
    folder = tmp_path / "logs"
    assert run.main(["--load_path=zoo:CartPole-v1", "--num_timesteps=1e6", f"--log_path={folder}"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "not trained further; give --play or --export=FILE" in err
    assert not folder.exists()
    with pytest.raises(UserError, match="not trained further"):
        load("zoo:CartPole-v1").learn(1_000)


def test_a_policy_alone_acts_as_the_whole_model_and_stays_a_policy_alone(tmp_path):
    space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    config = acktr_cont.Model.config_class(hidden_sizes=(8,))
    whole = acktr_cont.Model(space, gym.spaces.Box(-1, 1, (2,)), "mlp", config, seed=3)
    observations = np.random.default_rng(0).normal(2, 3, (5, 4, 3)).astype(np.float32)
    whole.policy.refresh(observations)  # so that its filter has something to do
    array_file.save(tmp_path / "policy", *whole.content(policy_only=True))
    policy = load(str(tmp_path / "policy"))
    assert policy.policy_only and np.isnan(policy.value(observations[0])).all()
    for deterministic in (True, False):
        expected, _ = whole.predict(observations[0], deterministic=deterministic)
        np.testing.assert_array_equal(policy.predict(observations[0], deterministic=deterministic)[0], expected)

    policy.save(str(tmp_path / "again"))
    again = array_file.load(tmp_path / "again")
    before = array_file.load(tmp_path / "policy")
    assert again[1]["policy_only"] and again[0].keys() == before[0].keys()

    whole.save(str(tmp_path / "whole"))
    policy.load(str(tmp_path / "whole"))
    assert not policy.policy_only
    np.testing.assert_array_equal(policy.value(observations[0]), whole.value(observations[0]))


@pytest.mark.parametrize("missing", ["parameters/0", "sampler"])
def test_a_policy_alone_without_a_part_of_it_is_one_line(tmp_path, missing):
    arrays, meta = load(str(CART_POLE)).content(policy_only=True)
    del arrays[missing]
    array_file.save(tmp_path / "policy", arrays, meta)
    with pytest.raises(UserError, match=r"^(path: )?checkpoint .*policy: "):
        load(str(tmp_path / "policy"))


def test_an_agent_whose_game_needs_box2d_names_the_extra_that_brings_it(monkeypatch, capfd):
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    assert run.main(["--env=LunarLander-v3"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and err.startswith("run.py: --env=LunarLander-v3: Box2D is not installed")
    assert err.endswith(", or here pip install '.[box2d]'\n")


# -- adding ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The log folder of a run that was resumed."""
    folder = tmp_path_factory.mktemp("runs") / "pendulum"
    words = ["--num_env=2", "--hidden_sizes=8,8", "--log_format=csv", f"--log_path={folder}", "--save_interval=1"]
    words += ["--timesteps_per_batch=20", "--seed=3"]
    assert run.main(["--env=Pendulum-v1", "--num_timesteps=40", *words]) == 0
    assert run.main(["--resume", "--num_timesteps=80", *words]) == 0
    return folder


@pytest.fixture
def agents(tmp_path, monkeypatch):
    """An empty folder in the place of the ready-made agents."""
    monkeypatch.setattr(ready_made, "FOLDER", tmp_path / "agents")
    return tmp_path / "agents"


def test_the_command_of_a_run_is_what_was_typed_and_matters(trained):
    assert command_of(trained) == (
        "python run.py --env=Pendulum-v1 --num_timesteps=80 --seed=3 --num_env=2 --hidden_sizes=8,8 "
        "--timesteps_per_batch=20"
    )


def test_a_run_is_added_with_its_games_and_shown(trained, agents, tmp_path, capsys):
    assert zoo.main(["add", str(trained), "--games=3", "--num_env=2"]) == 0
    assert capsys.readouterr().out == f"added {agents / 'Pendulum-v1.model'}\n"
    model = load("zoo:Pendulum-v1")
    assert (model.timesteps, model.seed, model.policy_only) == (80, 3, True)
    record = Record.of(ready_made.metas()["Pendulum-v1"])
    with make_vec_env("Pendulum-v1", num_env=2) as env:
        assert record.greedy == evaluate(model, env, 3, True, record.seed).scores.tolist()

    page = tmp_path / "zoo.md"
    page.write_text(f"before\n\n{table.HEAD}\n|---|\n| old |\n\nafter\n")
    assert table.write(page) == page
    before, _, head, _, row, _, after = page.read_text().splitlines()
    assert (before, head, after) == ("before", table.HEAD, "after")
    assert row.startswith("| `zoo:Pendulum-v1` | acktr | -") and "--seed=3" in row


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add"], "must be add RUN_FOLDER"),
        (["add", "a", "b"], "must be add RUN_FOLDER"),
        (["table", "--best"], "must be add RUN_FOLDER"),
        (["show"], "must be add RUN_FOLDER"),
        (["add", "nowhere"], "RUN_FOLDER=nowhere: must be the log folder of a run"),
        (["add", "."], "run.json: damaged: "),
        (["add", ".", "--games=1"], "--games=1: must be"),
        (["add", ".", "--gams=1"], "Did you mean --games?"),
    ],
)
def test_a_mistake_is_one_line(agents, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert zoo.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("zoo: ") and message in err
    assert not agents.exists()


def test_a_page_without_the_table_is_left_as_it_is(tmp_path):
    page = tmp_path / "zoo.md"
    with pytest.raises(UserError, match="is not there"):
        table.write(page)
    page.write_text("nothing\n")
    with pytest.raises(UserError, match="has no table"):
        table.write(page)
    assert page.read_text() == "nothing\n"
