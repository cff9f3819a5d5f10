"""Claims about the speed that a run reports: that of its last updates, without the first, which compiles."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

import run
from baselines_acktr.session import loop
from common.logger import Logger
from common.mpi import ALONE


@pytest.fixture
def clock(monkeypatch):
    """A clock with a model, and a function that ends an update of so many seconds and timesteps."""
    now = [100.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    model = SimpleNamespace(timesteps=1000, comm=ALONE)
    made = loop._Clock(model)

    def update(seconds: float, timesteps: int) -> int | float:
        now[0] += seconds
        model.timesteps += timesteps
        made.tick()
        return made.fps()

    return update


def test_the_update_that_compiles_is_not_counted(clock):
    assert math.isnan(clock(60.0, 640))
    assert clock(2.0, 640) == 320
    assert clock(2.0, 1280) == 480


def test_it_is_that_of_the_last_half_minute(clock):
    clock(60.0, 10)
    for _ in range(100):
        clock(1.0, 10)
    speeds = [clock(1.0, 100) for _ in range(40)]
    assert speeds == sorted(speeds)
    assert (speeds[0], speeds[-1]) == (13, 100)


def test_an_update_longer_than_that_is_its_own_mean(clock):
    clock(1.0, 100)
    assert [clock(100.0, 500), clock(100.0, 1000), clock(50.0, 100)] == [5, 10, 2]


def test_bar_and_table_show_the_same_number(tmp_path, monkeypatch):
    shown, logged = [], []
    log = Logger.log
    monkeypatch.setattr(Logger, "progress", lambda self, step, total, eprewmean, fps: shown.append(fps))
    monkeypatch.setattr(Logger, "log", lambda self, row: logged.append(row["fps"]) if "fps" in row else log(self, row))
    argv = ["--alg=a2c", "--env=CartPole-v1", "--num_env=2", "--nsteps=5", "--hidden_sizes=4", "--num_timesteps=40"]
    assert run.main([*argv, "--log_interval=1", f"--log_path={tmp_path}"]) == 0
    assert len(shown) == 4 and shown[1:] == logged[1:]
    assert math.isnan(shown[0]) and math.isnan(logged[0])
