"""Claims about signals: whenever one comes, the run stops with a checkpoint of its update, and goes on to the bit."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

import run
from baselines_acktr.learning.rollouts import Runner
from baselines_acktr.session import checkpoints, setup
from common import array_file

FLAGS = ["--alg=a2c", "--env=CartPole-v1", "--num_env=2", "--hidden_sizes=8", "--seed=1", "--log_format=csv"]
FLAGS += ["--nsteps=5", "--save_interval=1", "--log_interval=1"]
BATCH = 10


@pytest.fixture(autouse=True)
def harmless_signals():
    """A signal that comes too late does not end the tests."""
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.signal(number, lambda number, frame: None) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def send_in_update(monkeypatch, number: int, update: int, delay: float) -> None:
    """Sends a signal to this process `delay` seconds after the start of an update's rollout."""
    original = Runner.run

    def rollout(runner):
        if runner.policy.updates + 1 == update:
            threading.Timer(delay, os.kill, (os.getpid(), number)).start()
        return original(runner)

    monkeypatch.setattr(Runner, "run", rollout)


def content(folder: Path, updates: int) -> dict[str, np.ndarray]:
    model = folder / checkpoints.FOLDER / f"{updates:08d}.model"
    return array_file.load(model)[0] | checkpoints.load_run(model)[0]


def csv_rows(folder: Path) -> list[list[str]]:
    rows = [line.split(",") for line in (folder / "progress.csv").read_text().splitlines()]
    fps = rows[0].index("fps")
    return [row[:fps] + row[fps + 1 :] for row in rows]


ALL = [(number, 10) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGTERM, 2), *(pytest.param(*case, marks=pytest.mark.reliability) for case in ALL)]
)
def test_a_run_that_is_interrupted_again_and_again_is_to_the_bit_the_one_that_was_not(
    tmp_path, monkeypatch, capfd, number, times
):
    draw, total = random.Random(int(number)), 3 * times + 3
    straight, torn = tmp_path / "straight", tmp_path / "torn"
    assert run.main([*FLAGS, f"--num_timesteps={BATCH * total}", f"--log_path={straight}"]) == 0
    argv = [*FLAGS, f"--num_timesteps={BATCH * total}", f"--log_path={torn}", "--resume"]
    for i in range(times):
        with monkeypatch.context() as patch:
            send_in_update(patch, number, update=3 * i + 3, delay=draw.uniform(0, 0.03))
            code = run.main(argv)
        last = capfd.readouterr().err.splitlines()[-1]
        if code == 0:  # it came after the last update
            break
        assert code == 128 + number
        updates = checkpoints.newest(torn / checkpoints.FOLDER).meta["counters"]["updates"]
        assert last.startswith(f"run.py: interrupted after {BATCH * updates} timesteps, saved to")
        assert updates >= 3 * i + 3
    assert run.main(argv) == 0
    expected, got = content(straight, total), content(torn, total)
    differing = [name for name in expected if not np.array_equal(expected[name], got[name])]
    assert [name for name in differing if not name.endswith(("file_sizes", "seconds.python"))] == []
    assert csv_rows(straight) == csv_rows(torn)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_before_the_training_a_signal_stops_at_once_and_writes_nothing(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(setup, "probe", lambda settings, comm: os.kill(os.getpid(), number) or time.sleep(9))
    assert run.main([*FLAGS, f"--num_timesteps={BATCH}", f"--log_path={tmp_path}/logs"]) == 128 + number
    assert capsys.readouterr().err == "run.py: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_what_a_library_makes_of_an_interruption_is_still_an_interruption(monkeypatch, capsys):
    def probe(settings, comm):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        except BaseException as error:
            raise ImportError("half imported") from error

    monkeypatch.setattr(setup, "probe", probe)
    assert run.main(FLAGS) == 143
    assert capsys.readouterr().err == "run.py: interrupted\n"


def test_after_the_training_a_signal_stops_the_replay(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "replay", lambda model, settings: os.kill(os.getpid(), signal.SIGINT) or time.sleep(9))
    assert run.main([*FLAGS, f"--num_timesteps={BATCH}", f"--log_path={tmp_path}", "--play"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "run.py: interrupted"


def test_while_what_was_started_is_closed_a_signal_waits(tmp_path, monkeypatch, capsys):
    from common.vec_env.wrappers import SeededVectorEnv

    closed = []
    close = SeededVectorEnv.close

    def interrupted(env, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        close(env, **options)
        closed.append(env)

    monkeypatch.setattr(SeededVectorEnv, "close", interrupted)
    monkeypatch.setattr(setup, "probe", _without(SeededVectorEnv, close, setup.probe))
    assert run.main([*FLAGS, f"--num_timesteps={BATCH}", f"--log_path={tmp_path}"]) == 143
    assert len(closed) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"run.py: interrupted after {BATCH} timesteps")


def _without(owner, close, probe):
    """The probe of a run, whose own environment is closed as ever."""

    def probing(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, "close", close)
            return probe(*arguments)

    return probing


def start(folder: Path, *more: str) -> subprocess.Popen:
    """Starts a run without end in its own group of processes, and waits for its first report."""
    argv = [sys.executable, "run.py", *FLAGS, "--num_timesteps=1e9", f"--log_path={folder}", *more]
    process = subprocess.Popen(argv, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while not (folder / "progress.csv").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process


def children(pid: int) -> set[int]:
    """All processes below one, of those whose threads and children are there while they are looked at."""
    direct = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread or process may end meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                direct |= {int(child) for child in (task / "children").read_text().split()}
    return direct | {below for child in direct for below in children(child)}


def assert_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 10
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.05)


def test_a_signal_to_all_processes_of_a_run_leaves_its_workers_to_the_run(tmp_path):
    """As a terminal, `timeout` and batch systems send them."""
    process = start(tmp_path, "--env_backend=subproc")
    below = children(process.pid)
    os.killpg(process.pid, signal.SIGTERM)
    begun = time.monotonic()
    _, errors = process.communicate()
    assert process.returncode == 143, errors
    assert time.monotonic() - begun < 10
    assert "interrupted after" in errors
    assert "Traceback" not in errors
    assert_gone(below)
    assert checkpoints.newest(tmp_path / checkpoints.FOLDER) is not None


@pytest.mark.reliability
def test_after_sigkill_at_random_moments_the_run_goes_on_from_its_newest_checkpoint(tmp_path):
    draw, reached = random.Random(0), 0
    for _ in range(5):
        process = start(tmp_path, "--resume")
        time.sleep(draw.uniform(0, 2))
        below = children(process.pid)
        process.kill()
        process.communicate()
        found = checkpoints.newest(tmp_path / checkpoints.FOLDER)
        assert found.meta["counters"]["updates"] >= reached
        reached = found.meta["counters"]["updates"]
        assert_gone(below)
    argv = ["--resume", f"--log_path={tmp_path}", f"--num_timesteps={BATCH * (reached + 2)}"]
    assert run.main(argv) == 0
    header, *rows = csv_rows(tmp_path)
    assert [int(row[header.index("nupdates")]) for row in rows] == list(range(1, reached + 3))
