"""Tests of the benchmark of the training loops."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from baselines_acktr.benchmark import stopwatch
from baselines_acktr.benchmark.__main__ import main
from baselines_acktr.benchmark.loop import Loop, ratios_of, speeds, table_of, take_turns, warm_up
from baselines_acktr.benchmark.peers import PeerLoop
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
    batch = 40

    def __init__(self, calls: list[str], name: str, rate: float) -> None:
        self.calls, self.name, self.rate, self.warm_up = calls, name, rate, 3

    def run(self, updates: int) -> float:
        self.calls.append(f"{self.name}{updates}")
        return self.rate


def test_rounds_take_turns_after_a_warm_up_and_say_so():
    calls: list[str] = []
    lines: list[str] = []
    loops = {"a": FakeLoop(calls, "a", 10.0), "b": FakeLoop(calls, "b", 20.0)}
    assert warm_up(loops, lines.append) == {"a": 4, "b": 2}  # seconds of an update
    rates = take_turns(loops, rounds=2, updates={"a": 5, "b": 6}, say=lines.append)
    assert calls == ["a3", "a1", "b3", "b1", "a5", "b6", "a5", "b6"]
    assert rates.to_dict("list") == {"a": [10, 10], "b": [20, 20]}
    assert lines[0].startswith("a: warmed up in") and lines[-1] == "round 2 of 2, timesteps/s: a 10, b 20"


def test_a_loop_of_k_fac_begins_where_its_intervals_are_those_of_most_of_a_run():
    loop = Loop("acktr", "CartPole-v1", num_env=2, batch=10)
    try:
        optimizer = loop.model.optimizer
        first = int(optimizer.state()["counters"][0])
        wants = [optimizer.curvature.wants_factors(first + i) for i in range(loop.warm_up)]
        assert set(wants) == {True, False}  # both kinds of update are compiled before the measurement

        loop.run(loop.warm_up)
        refreshed = optimizer.state()["counters"][1:3]  # steps of the inverses in use, and of the last snapshot
        assert refreshed.tolist() == [first, first]
    finally:
        loop.close()


def test_ratios_are_those_of_the_first_loop_to_each_other_one_round_by_round():
    rates = pd.DataFrame({"acktr": [1.0, 2.0, 9.0], "a2c": [2.0, 2.0, 10.0], "sb3-a2c": [1.0, 4.0, 3.0]})
    assert ratios_of(rates).values.tolist() == [["a2c", 0.9, 0.5, 1.0], ["sb3-a2c", 1.0, 0.5, 3.0]]
    assert len(ratios_of(rates[["acktr"]])) == 0


def test_speeds_are_medians_and_the_ratio_is_taken_round_by_round():
    table = speeds(pd.DataFrame({"acktr": [1.0, 2.0, 9.0], "a2c": [2.0, 2.0, 10.0]}), "a2c").set_index("alg")
    assert table.loc["acktr"].tolist() == [2, 1, 9, 0.9]
    assert table.loc["a2c", "to a2c"] == 1


def test_parts_are_sorted_with_their_shares():
    table = table_of({"acting": 0.001, "stepping": 0.003})
    assert table.values.tolist() == [["stepping", 3.0, 0.75], ["acting", 1.0, 0.25]]


PEER = """#!{python}
import json, sys
if sys.argv[1] == "-c":  # the look at whether the libraries are there
    sys.exit(0)
open({calls!r}, "a").write(" ".join(sys.argv[2:]) + chr(10))
print("a line of the library")
for line in sys.stdin:
    if sys.argv[3] == {failing!r}:
        sys.exit("Traceback ..." + chr(10) + "ValueError: no such task")
    open({calls!r}, "a").write(sys.argv[3] + " goes on for " + line)
    print(json.dumps({{"mean": 1.0, "episodes": 1, "seconds": 1.0}}), flush=True)
"""


def stand_in(folder: Path, failing: str = "") -> tuple[str, Path]:
    """A program in place of a Python that has the other libraries, and the file that its calls are noted in."""
    path, calls = folder / "python-of-peer", folder / "calls"
    path.write_text(PEER.format(python=sys.executable, calls=str(calls), failing=failing))
    path.chmod(0o755)
    return str(path), calls


SMALL = ["--env=CartPole-v1", "--num_env=2", "--batch=10", "--rounds=1", "--updates=1"]


def test_ratios_come_first_and_then_speeds_and_parts_of_every_loop(tmp_path, capsys):
    python, calls = stand_in(tmp_path)
    path = tmp_path / "speed.json"
    peers = ["--peers", f"--peer_python={python}", f"--json={path}"]
    assert main([*SMALL, "--algs=acktr,sgd", *peers]) == 0

    out = capsys.readouterr().out
    wanted = ("warmed up", "round 1 of 1", "acktr to", "to sgd", "factor statistics", "stepping", "acting")
    assert "a call of acting takes" in out
    places = [out.index(text) for text in wanted]
    assert places[:4] == sorted(places[:4]) and max(places) > places[3]

    noted = calls.read_text().splitlines()
    assert [f"CartPole-v1 {alg} 0 - 2 10" in noted for alg in ("a2c", "ppo", "trpo")] == [True] * 3
    assert noted.count("ppo goes on for 10") >= 2  # the warm-up

    results = json.loads(path.read_text())
    assert set(results["rounds"]) == {"acktr", "sgd", "sb3-a2c", "sb3-ppo", "sb3-trpo"}
    assert [row["acktr to"] for row in results["ratios"]] == ["sgd", "sb3-a2c", "sb3-ppo", "sb3-trpo"]
    assert results["settings"]["batch"] == 10 and set(results["parts"]) == {"acktr", "sgd"}
    acting = [row["ms"] for row in results["parts"]["acktr"]["in the loop"] if row["part"] == "acting"]
    assert acting and acting[0] > 0


def test_a_peer_that_ends_is_told_in_one_line_and_no_file_is_written(tmp_path, capsys):
    python, _ = stand_in(tmp_path, failing="ppo")
    path = tmp_path / "speed.json"
    assert main([*SMALL, "--algs=sgd", "--peers", f"--peer_python={python}", f"--json={path}"]) == 1
    assert capsys.readouterr().err == "benchmark: sb3-ppo: ValueError: no such task\n"
    assert not path.exists()


def test_a_peer_trains_whole_batches_and_ends_with_its_loop(tmp_path):
    python, calls = stand_in(tmp_path)
    loop = PeerLoop("a2c", "CartPole-v1", 4, 20, python)
    assert loop.run(3) > 0
    loop.close()
    assert calls.read_text() == "CartPole-v1 a2c 0 - 4 20\na2c goes on for 60\n"
    assert loop._process.returncode == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--env=CartPole-v1", "--num_env=3", "--batch=10"], "--batch=10: must be a multiple of the 3 environments"),
        (["--env=InvertedPendulum-v4", "--algs=sgd"], "--algs=sgd: no such algorithm exists for continuous actions"),
        (["--round=1"], "Did you mean --rounds?"),
        (["--algs="], "--algs: must name at least one of acktr"),
        (["--peers", "--pixels"], "--peers: the other libraries do not train on rendered frames"),
        (["--peers", "--peer_python=/no/such/python"], "--peer_python=/no/such/python: no such program"),
        (["--json=/no/such/folder/speed.json"], "/no/such/folder is not a folder that can be written to"),
        (["--json=/tmp"], "--json=/tmp: is a folder; must be a file"),
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
