"""Tests of the benchmark of the training loops."""

from __future__ import annotations

import sys
import time

import pandas as pd
import pytest

from baselines_acktr.benchmark import stopwatch
from baselines_acktr.benchmark.__main__ import main
from baselines_acktr.benchmark.loop import speeds, table_of, take_turns
from common.vec_env import benchmark as stepping
from common.vec_env import benchmark_mujoco as stepping_mujoco


class Clock:
    """A clock that moves by hand."""

    now = 0.0

    def outer(self) -> None:
        self.now += 1
        self.inner()
        self.now += 2

    def inner(self) -> None:
        self.now += 4


def test_a_parts_time_does_not_count_for_its_caller(monkeypatch):
    clock, watch = Clock(), stopwatch.Stopwatch()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    watch.wrap(clock, "inner", "inner")
    watch.wrap(clock, "outer", "outer")
    clock.outer()
    clock.inner()
    assert watch.seconds == {"outer": 3, "inner": 8}


class FakeLoop:
    def __init__(self, calls: list[str], name: str, rate: float) -> None:
        self.calls, self.name, self.rate, self.warm_up = calls, name, rate, 3

    def run(self, updates: int) -> float:
        self.calls.append(f"{self.name}{updates}")
        return self.rate


def test_rounds_take_turns_after_a_warm_up():
    calls: list[str] = []
    loops = {"a": FakeLoop(calls, "a", 10.0), "b": FakeLoop(calls, "b", 20.0)}
    rates = take_turns(loops, rounds=2, updates={"a": 5, "b": 6})
    assert calls == ["a3", "b3", "a5", "b6", "a5", "b6"]
    assert rates.to_dict("list") == {"a": [10, 10], "b": [20, 20]}


def test_speeds_are_medians_and_the_ratio_is_taken_round_by_round():
    table = speeds(pd.DataFrame({"acktr": [1.0, 2.0, 9.0], "a2c": [2.0, 2.0, 10.0]}), "a2c").set_index("alg")
    assert table.loc["acktr"].tolist() == [2, 1, 9, 0.9]
    assert table.loc["a2c", "to a2c"] == 1


def test_parts_are_sorted_with_their_shares():
    table = table_of({"acting": 0.001, "stepping": 0.003})
    assert table.values.tolist() == [["stepping", 3.0, 0.75], ["acting", 1.0, 0.25]]


def test_speeds_and_parts_of_every_loop_are_printed(capsys):
    argv = ["--env=CartPole-v1", "--algs=acktr,sgd", "--num_env=2", "--batch=10", "--rounds=1", "--updates=1"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in ("to sgd", "stepping", "acting", "timesteps/s", "factor statistics"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--env=CartPole-v1", "--num_env=3", "--batch=10"], "--batch=10: must be a multiple of the 3 environments"),
        (["--env=InvertedPendulum-v4", "--algs=sgd"], "--algs=sgd: no such algorithm exists for continuous actions"),
        (["--round=1"], "Did you mean --rounds?"),
        (["--algs="], "--algs: must name at least one of acktr"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(capsys, argv, message):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "env", "message"),
    [
        (stepping, "Nope-v0", "--env=Nope-v0: no such environment"),
        (stepping, "CartPole-v1", "--env=CartPole-v1: must be an Atari game"),
        (stepping_mujoco, "Nope-v0", "--env=Nope-v0: no such environment"),
    ],
)
def test_a_mistake_in_a_benchmark_of_stepping_is_one_line(capsys, monkeypatch, module, env, message):
    monkeypatch.setattr(sys, "argv", ["benchmark", f"--env={env}"])
    assert module.main() == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
