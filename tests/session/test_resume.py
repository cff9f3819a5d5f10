"""Claims about resuming: 20 updates are to the bit 10 updates, another process, and 10 more."""

from __future__ import annotations

import csv
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from repository import HELPERS, PYTHONPATH, ROOT
from resume_runs import RUNS, train_half

import run
from baselines_acktr.session import checkpoints
from common import array_file

pytestmark = pytest.mark.long
FAST = ("CartPole", "Hopper", "CartPole-lstm", "a2c-Pendulum-lstm")
WALL_CLOCK = ("file_sizes", "seconds.python", "duration", "env/games/seconds")


def cases() -> list:
    """Some runs in every test run, all in those for reliability."""
    return [pytest.param(name, marks=[] if name in FAST else pytest.mark.reliability) for name in RUNS]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[tuple[str, ...]], Path]:
    """A folder with runs that were trained in one go, and with those that stopped and went on in another process."""

    @functools.cache
    def train(names: tuple[str, ...]) -> Path:
        folder = tmp_path_factory.mktemp("trained")
        for way in ("train", "resume"):
            program = [sys.executable, HELPERS / "resume_runs.py", way, folder, *names]
            subprocess.run(program, cwd=ROOT, env={**os.environ, "PYTHONPATH": PYTHONPATH}, check=True)
        return folder

    return train


@pytest.fixture(scope="module", params=cases())
def folders(request, trained) -> tuple[Path, Path]:
    """Folders of a run that was trained in one go, and of one that stopped and went on in another process.

    The runs of every test run share their two processes: TensorFlow takes longer to start than they to train.
    """
    name = request.param
    folder = trained(FAST if name in FAST else (name,))
    return folder / f"{name}-straight", folder / f"{name}-resumed"


def rows(path: Path, *wall_clock: str) -> list[dict[str, str]]:
    """The rows of a CSV file, without the columns that tell the time."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [{k: v for k, v in row.items() if k not in wall_clock} for row in csv.DictReader(lines)]


@pytest.mark.parametrize("file", ["00000020.model", "00000020.run"])
def test_every_array_of_20_updates_is_that_of_10_and_10_in_another_process(folders, file):
    straight, resumed = (array_file.load(folder / checkpoints.FOLDER / file) for folder in folders)
    assert straight[0].keys() == resumed[0].keys()
    differing = [key for key in straight[0] if not np.array_equal(straight[0][key], resumed[0][key])]
    assert [key for key in differing if not key.endswith(WALL_CLOCK)] == []


def test_logs_of_20_updates_are_those_of_10_and_10_with_games_in_them(folders):
    straight, resumed = folders
    assert rows(straight / "progress.csv", "fps") == rows(resumed / "progress.csv", "fps")
    assert [row["nupdates"] for row in rows(resumed / "progress.csv")] == ["1", "4", "8", "12", "16", "20"]
    assert len((resumed / "progress.json").read_text().splitlines()) == 6
    assert (resumed / "log.txt").read_text().count("nupdates") == 6
    games = {path.name: rows(path, "t") for path in straight.glob("*.monitor.csv")}
    assert games == {path.name: rows(path, "t") for path in resumed.glob("*.monitor.csv")}
    assert any(games.values())


def test_a_longer_run_follows_the_schedule_of_its_new_length(tmp_path):
    train_half("CartPole", tmp_path)
    assert run.main(["--resume", f"--log_path={tmp_path}", "--num_timesteps=600"]) == 0
    lines = rows(tmp_path / "progress.csv")
    assert [row["nupdates"] for row in lines] == ["1", "4", "8", "12", "16", "20", "24", "28", "30"]
    rates = [float(row["lr"]) for row in lines]
    assert rates[2] == pytest.approx(1.5 * (1 - 7 / 20))
    assert rates[3] == pytest.approx(1.5 * (1 - 11 / 30))


A2C = ["--alg=a2c", "--num_env=2", "--nsteps=5", "--hidden_sizes=8", "--log_interval=1", "--log_format=csv"]
A2C += ["--save_interval=1"]


def test_an_environment_that_keeps_its_state_for_itself_is_said_once_and_its_episodes_start_anew(tmp_path, capsys):
    argv = [*A2C, "--env=vec_env_helpers:Counter-v0", f"--log_path={tmp_path}"]
    assert run.main([*argv, "--num_timesteps=20"]) == 0
    assert capsys.readouterr().err.count("it will start new episodes: Counter does not say") == 1
    before = checkpoints.newest(tmp_path / checkpoints.FOLDER).model
    assert run.main(["--resume", f"--log_path={tmp_path}", "--num_timesteps=40"]) == 0
    first, second = checkpoints.load_run(before)[0], checkpoints.load_run(before.with_name("00000004.model"))[0]
    # Episodes of three steps: 10 steps hold 3, and after the restart 10 steps hold 3 more.
    assert first["rank0/runner/counts"].tolist() == [2 * 3, 10]
    assert second["rank0/runner/counts"].tolist() == [2 * 6, 20]
    assert [row["nupdates"] for row in rows(tmp_path / "progress.csv")] == ["1", "2", "3", "4"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    argv = [*A2C, "--env=CartPole-v1", "--num_timesteps=30", "--seed=5", f"--log_path={folder}", "--resume"]
    assert run.main([*argv, f"--save_path={folder}/model"]) == 0  # there was nothing to resume yet
    return folder


def test_a_finished_run_has_nothing_left_to_do(finished, capsys):
    before = {path.name: path.read_bytes() for path in (finished / checkpoints.FOLDER).iterdir()}
    assert run.main(["--resume", f"--log_path={finished}"]) == 0
    assert "nothing is left to train: 30 of 30 timesteps are done" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (finished / checkpoints.FOLDER).iterdir()} == before
    assert len(rows(finished / "progress.csv")) == 3


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num_env=3", "--num_env=3: the run to be resumed has 2"),
        ("--seed=6", "--seed=6: the run to be resumed has 5"),
        ("--env_backend=subproc", "--env_backend=subproc: the run to be resumed has auto"),
        ("--env=Pendulum-v1", "--env=Pendulum-v1: the run to be resumed has CartPole-v1"),
    ],
)
def test_what_the_environments_depend_on_must_be_the_same(finished, capsys, flag, message):
    assert run.main(["--resume", f"--log_path={finished}", "--num_timesteps=50", flag]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"run.py: {message}"


def test_a_damaged_newest_checkpoint_costs_its_updates_and_no_more(finished, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    newest = folder / checkpoints.FOLDER / "00000003.model"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert run.main(["--resume", f"--log_path={folder}"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("damaged or incomplete (its checksum does not match); trying the one before")
    assert lines[1] == f"going on from {folder}/checkpoints/00000002.model"
    expected, got = (checkpoints.load_run(f / checkpoints.FOLDER / "00000003.model")[0] for f in (finished, folder))
    for name in expected:
        if not name.endswith(WALL_CLOCK):
            np.testing.assert_array_equal(expected[name], got[name])


def test_a_full_disk_is_said_and_the_run_goes_on(tmp_path, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
    try:
        assert run.main([*A2C, "--env=CartPole-v1", "--num_timesteps=30", f"--log_path={tmp_path}"]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert capsys.readouterr().err.count("cannot be written: File too large; the run goes on") == 3
    assert len(rows(tmp_path / "progress.csv")) == 3
