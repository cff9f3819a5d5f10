"""Claims about files and disks that are not as they should be, and states that cannot be stored: said in one line."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from repository import ROOT

import run
from baselines_acktr.session import checkpoints, run_info
from common import array_file
from common.appended_file import AppendedFile
from common.errors import UserError
from common.logger import Logger
from common.vec_env import make_vec_env

RUN = ["--alg=a2c", "--num_env=2", "--nsteps=5", "--hidden_sizes=4"]
RUN += ["--log_interval=1", "--log_format=csv", "--save_interval=1"]
ENDLESS = np.random.default_rng(0)


class Keeps(gym.Env):
    """Holds what `value` returns after its reset; episodes of 3 steps."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    state_attributes = ("steps", "held", "other")

    def __init__(self, value: Any = lambda env: None) -> None:
        self.value = value

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.other = 0, np.zeros(3)
        self.held = self.value(self)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == 3, False, {}


def keeping(value: Any) -> str:
    gym.registry.pop("Keeps-v0", None)
    gym.register("Keeps-v0", Keeps, kwargs={"value": value})
    return "Keeps-v0"


def with_random_state(env: Keeps) -> None:
    env._np_random = np.random.RandomState(0)  # type: ignore[assignment]


def with_philox(env: Keeps) -> None:
    env._np_random = np.random.Generator(np.random.Philox(0))


ODD = [
    (lambda env: 2**70, r"Keeps.held holds 1180591620717411303424, which is not a number"),
    (lambda env: "north", r"Keeps.held holds 'north', which is not a number"),
    (lambda env: {"a": 1}, r"Keeps.held holds \{'a': 1\}, which is not a number"),
    (lambda env: [1, (2, {3})], r"Keeps.held holds \{3\}, which is not a number"),
    (lambda env: ENDLESS, r"Keeps.held holds Generator\(PCG64\).*, which is not a number"),
    (lambda env: np.array(["a"]), r"Keeps.held holds array.*, which is not a number"),
    (lambda env: np.array([None]), r"Keeps.held holds array.*, which is not a number"),
    (lambda env: env.other, r"Keeps.other and Keeps.held share an array"),
    (lambda env: [env.other[1:]], r"Keeps.other and Keeps.held share an array"),
    (with_random_state, r"np_random of Keeps is not a numpy.random.Generator with PCG64"),
    (with_philox, r"np_random of Keeps is not a numpy.random.Generator with PCG64"),
]


@pytest.mark.parametrize(("value", "message"), ODD)
def test_what_cannot_be_stored_is_a_gap_with_its_name(value, message):
    with make_vec_env(keeping(value), 2, 0) as env:
        env.reset()
        assert re.match(message, env.state_gap), env.state_gap
        assert env.get_state() == {}


@pytest.mark.parametrize(
    "value", [lambda env: None, lambda env: [1, (2.5, None, np.zeros(2))], lambda env: np.float32(1)]
)
def test_what_can_be_stored_is_no_gap(value):
    with make_vec_env(keeping(value), 2, 0) as env:
        env.reset()
        assert env.state_gap == ""
        assert env.get_state()


@pytest.mark.parametrize("value", [lambda env: "north", with_philox])
def test_a_run_that_cannot_store_its_environments_writes_checkpoints_and_starts_episodes_anew(tmp_path, capsys, value):
    argv = [*RUN, f"--env={keeping(value)}", f"--log_path={tmp_path}"]
    assert run.main([*argv, "--num_timesteps=20"]) == 0
    assert "if this run is resumed, it will start new episodes: " in capsys.readouterr().err
    assert checkpoints.newest(tmp_path / checkpoints.FOLDER).model.name == "00000002.model"
    assert run.main(["--resume", f"--log_path={tmp_path}", "--num_timesteps=40"]) == 0
    assert checkpoints.newest(tmp_path / checkpoints.FOLDER).model.name == "00000004.model"
    counts = checkpoints.load_run(tmp_path / checkpoints.FOLDER / "00000004.model")[0]["rank0/runner/counts"]
    assert counts.tolist() == [2 * 6, 20]  # ten steps hold three episodes, in each half anew


def rows(folder: Path) -> list[str]:
    with (folder / "progress.csv").open() as file:
        return [row["nupdates"] for row in csv.DictReader(file)]


def test_a_longer_run_has_no_row_of_its_former_last_update(tmp_path):
    argv = [*RUN, "--env=CartPole-v1", f"--log_path={tmp_path}", "--log_interval=4"]
    assert run.main([*argv, "--num_timesteps=60"]) == 0
    assert rows(tmp_path) == ["1", "4", "6"]
    assert run.main(["--resume", f"--log_path={tmp_path}"]) == 0  # nothing is left to do, so nothing is taken back
    assert rows(tmp_path) == ["1", "4", "6"]
    assert run.main(["--resume", f"--log_path={tmp_path}", "--num_timesteps=120"]) == 0
    assert rows(tmp_path) == ["1", "4", "8", "12"]


PLACES = [".run.lock", "progress.csv", "progress.json", "log.txt", "0.0.monitor.csv"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("place", PLACES)
def test_a_folder_or_pipe_in_the_place_of_a_file_is_one_line(tmp_path, capsys, monkeypatch, make, place):
    monkeypatch.setattr(run_info, "set_aside", lambda folder: None)  # which would move it out of the way
    make(tmp_path / place)
    formats = "--log_format=csv,json,log"
    assert run.main([*RUN, "--env=CartPole-v1", "--num_timesteps=10", f"--log_path={tmp_path}", formats]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run.py: ")]
    assert str(tmp_path) in line and ("irectory" in line or "is not a regular file" in line)


def test_a_disk_that_is_full_at_the_start_is_one_line(tmp_path, capsys, monkeypatch):
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    argv = [*RUN, "--env=CartPole-v1", "--num_timesteps=10", f"--log_path={tmp_path}"]
    for owner, name in ((AppendedFile, "write"), (run_info, "write")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            assert run.main(argv) == 2
        assert capsys.readouterr().err.splitlines()[-1].endswith(("on device", "on device)"))


def test_checkpoints_that_cannot_be_moved_or_deleted_are_one_line(tmp_path, capsys, monkeypatch):
    argv = [*RUN, "--env=CartPole-v1", "--num_timesteps=50", f"--log_path={tmp_path}", "--keep=1"]

    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert run.main(argv) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "cannot be deleted" in line]
    assert len(lines) == len(set(lines)) > 0  # each of them once
    monkeypatch.setattr(run_info, "set_aside", lambda folder: None)
    monkeypatch.setattr(Path, "rename", refuse)
    assert run.main(argv) == 2
    assert "an earlier run's checkpoints cannot be moved: Device or resource busy" in capsys.readouterr().err


def test_a_disk_that_cannot_be_read_is_one_line_and_the_checkpoint_before_is_taken(tmp_path, monkeypatch, capsys):
    argv = [*RUN, "--env=CartPole-v1", "--num_timesteps=20", f"--log_path={tmp_path}"]
    assert run.main(argv) == 0
    digest = array_file._digest

    def broken(file: Any) -> bytes:
        if "00000002" in str(file.name):
            raise OSError(5, "Input/output error")
        return digest(file)

    monkeypatch.setattr(array_file, "_digest", broken)
    with pytest.raises(UserError, match=r"00000002.model: cannot be read: Input/output error"):
        array_file.load(tmp_path / checkpoints.FOLDER / "00000002.model")
    assert checkpoints.newest(tmp_path / checkpoints.FOLDER).model.name == "00000001.model"
    assert "00000002.model: cannot be read: Input/output error; trying the one before" in capsys.readouterr().err


def test_resuming_locks_the_folder_before_it_looks_for_a_checkpoint(tmp_path, capsys, monkeypatch):
    assert run.main([*RUN, "--env=CartPole-v1", "--num_timesteps=20", f"--log_path={tmp_path}"]) == 0
    looked: list[Path] = []
    newest = checkpoints.newest
    monkeypatch.setattr(checkpoints, "newest", lambda folder: looked.append(folder) or newest(folder))
    with run_info.lock(tmp_path):
        assert run.main(["--resume", f"--log_path={tmp_path}", "--num_timesteps=40"]) == 2
        assert "another run is going on there" in capsys.readouterr().err
    assert looked == []
    assert run.main(["--resume", f"--log_path={tmp_path}", "--num_timesteps=40"]) == 0
    assert looked == [tmp_path / checkpoints.FOLDER]


@pytest.mark.parametrize("content", ["", "nupd", "a,b\n1,2,3,4\n", "\xff\xfe\n1,2\n", "a,b\n1\n"])
def test_a_progress_file_that_was_cut_off_is_gone_on_with(tmp_path, content):
    (tmp_path / "progress.csv").write_bytes(content.encode("latin-1"))
    with Logger(tmp_path, ["csv"]) as logger:
        logger.log({"new": 1.5})
        logger.dump(1)
        logger.cut({"csv": 0})
        logger.log({"new": 2.5})
        logger.dump(2)
    with (tmp_path / "progress.csv").open(errors="replace") as file:
        assert [row["new"] for row in csv.DictReader(file)] == ["2.5"]


@pytest.mark.parametrize(
    ("argv", "stream", "code"),
    [
        (["--help"], "stdout", 0),
        (["--env=CartPole-v1", "--nosuch"], "stderr", 2),
        (["--env=NoSuch-v0"], "stderr", 2),
        ([*RUN, "--env=CartPole-v1", "--num_timesteps=20", "--log_format=stdout"], "stdout", 0),
    ],
)
def test_output_to_a_full_disk_changes_no_exit_code(tmp_path, argv, stream, code):
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_LOGDIR": str(tmp_path)}
    with open("/dev/full", "w") as full:
        given[stream] = full.fileno()
        done = subprocess.run([sys.executable, "run.py", *argv], cwd=ROOT, text=True, env=environment, **given)
    assert done.returncode == code
    assert "Traceback" not in (done.stdout or "") + (done.stderr or "")
