"""Claims about `mpirun -n N python run.py`: one agent, one set of files, one end for all ranks."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_helpers import ENVIRONMENT, ROOT, command, finish, start

import run
from baselines_acktr.session import checkpoints
from common import array_file

pytestmark = pytest.mark.long
FLAGS = ["--alg=a2c", "--env=CartPole-v1", "--num_env=2", "--hidden_sizes=8", "--seed=1", "--log_format=csv"]
FLAGS += ["--nsteps=5", "--save_interval=1", "--log_interval=1", "--sync_check_interval=1", "--lrschedule=constant"]
WALL_CLOCK = ("file_sizes", "seconds.python", "duration", "seconds")
BATCH = 2 * 2 * 5  # timesteps of two ranks


def train(size: int, folder: Path, updates: int, *more: str, **variables: str) -> None:
    argv = [*FLAGS, f"--num_timesteps={updates * BATCH}", f"--log_path={folder}", *more]
    code, _, errors = finish(start(size, "run.py", *argv, **variables))
    assert code == 0, errors


def interrupt(folder: Path, seconds: float, *more: str) -> None:
    """Trains two ranks until `mpirun` gets a SIGUSR1, so many seconds after the first update."""
    before = (folder / "progress.csv").stat().st_mtime if (folder / "progress.csv").exists() else 0
    process = start(2, "run.py", *FLAGS, "--num_timesteps=1e8", f"--log_path={folder}", *more)
    while not ((folder / "progress.csv").exists() and (folder / "progress.csv").stat().st_mtime > before):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(signal.SIGUSR1)
    code, _, errors = finish(process, timeout=60)
    assert code == 128 + signal.SIGUSR1, errors
    assert errors.count("run.py: interrupted after") == 1


def content(folder: Path, updates: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint but those that tell the time."""
    model = folder / checkpoints.FOLDER / f"{updates:08d}.model"
    arrays = array_file.load(model)[0] | checkpoints.load_run(model)[0]
    return {name: array for name, array in arrays.items() if not name.endswith(WALL_CLOCK)}


def updates_of(folder: Path) -> int:
    return checkpoints.newest(folder / checkpoints.FOLDER).meta["counters"]["updates"]


def rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file, without the columns that tell the time."""
    lines = [line.split(",") for line in path.read_text().splitlines() if not line.startswith("#")]
    keep = [i for i, name in enumerate(lines[0]) if name not in ("fps", "comm_share", "memory_mib", "t")]
    return [[line[i] for i in keep] for line in lines]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    interrupt(folder, 0.1)
    return folder


def test_an_interrupted_run_of_two_ranks_goes_on_to_the_bit_and_leaves_one_set_of_files(interrupted, tmp_path):
    reached = updates_of(interrupted)
    train(2, tmp_path, reached + 3, OPENAI_LOG_FORMAT_MPI="csv")
    subprocess.run(["cp", "-r", interrupted, tmp_path / "resumed"], check=True)
    train(2, tmp_path / "resumed", reached + 3, "--resume")
    straight, resumed = content(tmp_path, reached + 3), content(tmp_path / "resumed", reached + 3)
    assert straight.keys() == resumed.keys()
    assert [name for name in straight if not np.array_equal(straight[name], resumed[name])] == []
    for name in ("progress.csv", *(f"{rank}.{i}.monitor.csv" for rank in range(2) for i in range(2))):
        assert rows(tmp_path / name) == rows(tmp_path / "resumed" / name)
    assert (tmp_path / "progress-rank001.csv").exists() and not (tmp_path / "resumed/progress-rank001.csv").exists()
    assert json.loads((tmp_path / "run.json").read_text())["ranks"] == 2
    assert not np.array_equal(straight["rank0/runner/observations"], straight["rank1/runner/observations"])
    assert not np.array_equal(straight["rank0/own/sampler"], straight["rank1/own/sampler"])


def test_a_run_of_two_ranks_goes_on_in_a_single_process(interrupted, tmp_path):
    subprocess.run(["cp", "-r", interrupted, tmp_path / "run"], check=True)
    reached, total = updates_of(interrupted), (updates_of(interrupted) + 2) * BATCH
    assert run.main(["--resume", f"--log_path={tmp_path / 'run'}", f"--num_timesteps={total}"]) == 0
    assert updates_of(tmp_path / "run") == reached + 4  # batches of half the size


@pytest.mark.reliability
def test_a_run_of_two_ranks_goes_on_in_three(interrupted, tmp_path):
    subprocess.run(["cp", "-r", interrupted, tmp_path / "run"], check=True)
    reached = updates_of(interrupted)
    train(3, tmp_path / "run", reached + 3, "--resume")
    assert updates_of(tmp_path / "run") == reached + 2


@pytest.mark.reliability
def test_after_ten_interruptions_the_run_is_to_the_bit_the_one_that_had_none(tmp_path):
    draw = random.Random(0)
    for _ in range(10):
        interrupt(tmp_path / "torn", draw.uniform(0, 1), "--resume")
    reached = updates_of(tmp_path / "torn")
    train(2, tmp_path / "straight", reached)
    torn, straight = content(tmp_path / "torn", reached), content(tmp_path / "straight", reached)
    assert [name for name in straight if not np.array_equal(straight[name], torn[name])] == []


@pytest.mark.parametrize("argv", [["--num_env=0"], ["--gama=1"], ["--network=nonsense"]])
def test_a_mistake_is_said_once_in_one_line(tmp_path, argv):
    code, _, errors = finish(start(2, "run.py", "--env=CartPole-v1", f"--log_path={tmp_path}/logs", *argv))
    assert code == 2
    assert len([line for line in errors.splitlines() if argv[0].split("=")[0] in line]) == 1
    assert "Traceback" not in errors and list(tmp_path.iterdir()) == []


def test_ranks_that_were_started_with_other_flags_are_one_line():
    program = [sys.executable, "run.py", "--env=CartPole-v1"]
    started = [*command(1, *program[1:], "--seed=1"), ":", "-n", "1", *program, "--seed=2", "--lr=0.1"]
    done = subprocess.run(started, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("run.py")]
    assert lines == ["run.py: rank 1: was started with --seed=2 --lr=0.1; must have the same flags as rank 0"]
    assert "Traceback" not in done.stderr


def test_ranks_in_other_folders_write_to_that_of_the_first(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    program = [sys.executable, str(ROOT / "run.py"), *FLAGS, f"--num_timesteps={2 * BATCH}", "--log_path=logs"]
    mpirun = command(1, "-c", "")[:-3]
    started = [*mpirun, "-wdir", str(folders[0]), *program, ":", "-n", "1", "-wdir", str(folders[1]), *program]
    done = subprocess.run(started, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(folders[1].iterdir()) == []
    monitors = {path.name for path in (folders[0] / "logs").glob("*.monitor.csv")}
    assert monitors == {f"{rank}.{i}.monitor.csv" for rank in range(2) for i in range(2)}


def test_a_rank_that_does_not_come_is_named_by_one_of_the_others():
    code, _, errors = finish(start(3, "tests/helpers/missing_rank.py"), timeout=120)
    assert code == 0, errors
    said = [line for line in errors.splitlines() if "has waited" in line]
    assert len(said) == 1, errors
    assert re.fullmatch(r"rank [02] has waited 0.5 s for rank 1 \(process \d+, stopped\)", said[0])


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_a_launcher_that_mpi_does_not_know_of_is_named(tmp_path, variable):
    argv = [sys.executable, "run.py", "--env=CartPole-v1", f"--log_path={tmp_path}/logs"]
    result = subprocess.run(argv, cwd=ROOT, env={**os.environ, variable: "4"}, capture_output=True, text=True)
    assert (result.returncode, list(tmp_path.iterdir())) == (2, [])
    assert result.stderr.startswith("run.py: 4 processes were started, but Open MPI")
    assert result.stderr.count("\n") == 1


def test_a_single_process_does_not_touch_mpi():
    code = "import sys, run; run.main(['--env=CartPole-v1', '--num_env=0']); sys.exit('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def fail(folder: Path, fault: str, after: float) -> None:
    """Checks that a fault in rank 1 ends the job in time, with its name, and leaves a good checkpoint."""
    flags = [flag for flag in FLAGS if not flag.startswith("--env=")]
    argv = [*flags, "--env=mpi_faults:Faulty-v0", "--env_backend=sync", "--num_timesteps=1e8", f"--log_path={folder}"]
    variables = {"FAULT": fault, "FAULT_AFTER": str(after), "FAULT_FOLDER": str(folder)}
    code, _, errors = finish(start(2, "run.py", *argv, **variables))
    assert time.time() - float((folder / "fault").read_text()) < 10
    assert code != 0
    assert re.search("rank 1", errors), errors
    assert ("this environment is broken" in errors) == (fault == "exception")
    assert updates_of(folder) > 0


FAULTS = ("exception", "exit", "kill")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rank_that_fails_ends_all_within_ten_seconds(tmp_path, fault):
    fail(tmp_path, fault, 0.0)


@pytest.mark.reliability
@pytest.mark.parametrize("fault", FAULTS)
def test_a_rank_may_fail_at_any_moment(tmp_path, fault):
    draw = random.Random(fault)
    for i in range(10):
        fail(tmp_path / str(i), fault, draw.uniform(0, 2))
