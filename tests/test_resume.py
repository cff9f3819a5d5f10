"""Claims about resuming: 20 updates are to the bit 10 updates, another process, and 10 more."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import run
from baselines_acktr import checkpoint, keeper

ROOT = Path(run.__file__).parent
KFAC = ["--inverses=inline", "--inverse_interval=3"]
CONTINUOUS = ["--hidden_sizes=8", "--vf_iters=3"]
# The flags of each run; every one of its 20 updates takes as many timesteps as its last number says.
RUNS = {
    "CartPole": (["--env=CartPole-v1", *KFAC, "--num_env=2", "--nsteps=10", "--hidden_sizes=8"], 20),
    "CartPole-subproc": (
        ["--env=CartPole-v1", *KFAC, "--num_env=2", "--nsteps=10", "--hidden_sizes=8", "--env_backend=subproc"],
        20,
    ),
    "Pendulum": (["--env=Pendulum-v1", *KFAC, *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=50"], 50),
    "Pendulum-adaptive": (
        ["--env=Pendulum-v1", *KFAC, *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=50", "--critic=adaptive"],
        50,
    ),
    "Breakout": (
        ["--env=BreakoutNoFrameskip-v4", *KFAC, "--num_env=4", "--nsteps=20", "--conv_filters=4,4,4"],
        80,
    ),
    "Hopper": (["--env=Hopper-v5", *KFAC, *CONTINUOUS, "--num_env=4", "--timesteps_per_batch=100"], 100),
    "HalfCheetah": (["--env=HalfCheetah-v4", *KFAC, *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=150"], 150),
    "Reacher-pixels": (
        ["--env=Reacher-v4", "--pixels", *KFAC, *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=30"],
        30,
    ),
    "a2c-CartPole": (["--alg=a2c", "--env=CartPole-v1", "--num_env=2", "--hidden_sizes=8"], 10),
    "a2c-Hopper": (
        ["--alg=a2c", "--env=Hopper-v4", *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=60", "--policy_rows=20"],
        60,
    ),
    "trpo-CartPole": (
        ["--alg=trpo", "--env=CartPole-v1", *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=40", "--vf_rows=10"],
        40,
    ),
    "trpo-Swimmer": (
        ["--alg=trpo", "--env=Swimmer-v5", *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=120", "--vf_rows=20"],
        120,
    ),
}
FAST = ("CartPole", "Hopper")
WALL_CLOCK = ("file_sizes", "seconds.python", "duration", "env/games/seconds")


def train(name: str, folder: Path) -> None:
    flags, batch = RUNS[name]
    common = ["--seed=3", "--log_interval=4", "--log_format=csv,json,log", "--save_interval=5"]
    assert run.main([*flags, *common, f"--num_timesteps={20 * batch}", f"--log_path={folder}"]) == 0


def train_half(name: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "after_update", lambda settings, interruption: lambda model: model.updates == 10)
        train(name, folder)


def cases() -> list:
    """Two runs of each kind in every test run, all in those for reliability."""
    return [pytest.param(name, marks=[] if name in FAST else pytest.mark.reliability) for name in RUNS]


@pytest.fixture(scope="module", params=cases())
def folders(request, tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a run that was trained in one go, and of one that stopped and went on in another process."""
    straight, resumed = (tmp_path_factory.mktemp(f"{request.param}-{way}") for way in ("straight", "resumed"))
    train(request.param, straight)
    train_half(request.param, resumed)
    subprocess.run([sys.executable, "run.py", "--resume", f"--log_path={resumed}"], cwd=ROOT, check=True)
    return straight, resumed


def rows(path: Path, *wall_clock: str) -> list[dict[str, str]]:
    """The rows of a CSV file, without the columns that tell the time."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [{k: v for k, v in row.items() if k not in wall_clock} for row in csv.DictReader(lines)]


@pytest.mark.parametrize("file", ["00000020.model", "00000020.run"])
def test_every_array_of_20_updates_is_that_of_10_and_10_in_another_process(folders, file):
    straight, resumed = (checkpoint.load(folder / keeper.FOLDER / file) for folder in folders)
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
    assert rates[2] == pytest.approx(0.7 * (1 - 7 / 20))
    assert rates[3] == pytest.approx(0.7 * (1 - 11 / 30))
