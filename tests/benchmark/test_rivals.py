"""Tests of the comparison with stable-baselines3; a script stands in for the Python that has it."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from baselines_acktr.benchmark import rivals, rivals_ours
from baselines_acktr.benchmark.rivals import (
    KEYS,
    OURS,
    PEER,
    RESULTS,
    Cell,
    Job,
    RivalsOptions,
    main,
    plan,
    read,
    table_of,
)

STAND_IN = """#!{python}
import json, sys, time
if sys.argv[1] == "-c":  # the look at whether the libraries are there
    sys.exit({missing})
side, env, alg, seed = sys.argv[1:5]
open({calls!r}, "a").write(" ".join(["ours" if side == "ours" else "peer", *sys.argv[2:]]) + chr(10))
if (side, seed) in {hanging}:
    time.sleep(600)
if (side != "ours", int(seed)) in {failing}:
    sys.exit("Traceback ..." + chr(10) + "ValueError: no such task")
print("a line of the library")
print(json.dumps({{"mean": 10.0 * (1 + (side == "ours")) + int(seed), "episodes": 3, "seconds": 1.5}}))
"""


class Peer:
    """A program in place of the Python that has stable-baselines3.

    Args:
      folder: to put it in.
      failing: (whether of the peer, seed) of the runs that fail.
      hanging: (first argument, seed) of those that do not end.
      missing: exit code of the look at whether the libraries are there.
    """

    def __init__(self, folder: Path, failing=(), hanging=(), missing: int = 0) -> None:
        self.path, self._calls = folder / "python-of-peer", folder / "calls"
        parts = {"failing": set(failing), "hanging": set(hanging), "missing": missing}
        self.path.write_text(STAND_IN.format(python=sys.executable, calls=str(self._calls), **parts))
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """Side and arguments of the runs that were made."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []


def flags(folder: Path, peer: Peer, *more: str) -> list[str]:
    return [f"--out={folder / 'rivals.csv'}", f"--peer_python={peer.path}", "--envs=CartPole-v1", "--algs=a2c", *more]


@pytest.fixture
def cheap(monkeypatch):
    """Runs of this project are made by the stand-in, too, which is told so by its first argument."""
    real = Cell.command

    def command(cell, peer_python):
        words = real(cell, peer_python)
        return words if cell.side == PEER else [peer_python, OURS, *words[3:]]

    monkeypatch.setattr(Cell, "command", command)


def test_both_sides_train_live_and_become_rows_of_the_csv(tmp_path, capsys):
    peer = Peer(tmp_path)
    assert main(flags(tmp_path, peer, "--seeds=4", "--num_timesteps=400")) == 0
    rows = read(tmp_path / "rivals.csv").set_index("side")
    assert peer.calls == ["peer CartPole-v1 a2c 4 400 8"]
    assert rows.loc[PEER, list(RESULTS)].tolist() == [14, 3, 1.5]
    assert rows.loc[OURS, "episodes"] >= 5 and 9 <= rows.loc[OURS, "mean"] <= 80  # a random policy scores 22
    assert rows.loc[OURS, "seconds"] > 0
    assert "14.0" in capsys.readouterr().out


def test_what_the_csv_has_is_not_made_again(tmp_path, cheap, capsys):
    peer = Peer(tmp_path)
    assert main(flags(tmp_path, peer, "--seeds=0,1", "--num_timesteps=400", "--jobs=2")) == 0
    path = tmp_path / "rivals.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # as if the last had been interrupted
    assert len(peer.calls) == 4
    assert main(flags(tmp_path, peer, "--seeds=0,1,2", "--num_timesteps=400")) == 0
    assert len(peer.calls) == 7
    assert len(read(path)) == 6
    assert main(flags(tmp_path, peer, "--seeds=0", "--num_timesteps=800")) == 0  # another length is another run
    assert len(read(path)) == 8
    assert "20.0" in capsys.readouterr().out


def test_a_run_that_fails_is_told_and_left_out(tmp_path, cheap, capsys):
    peer = Peer(tmp_path, failing=[(True, 1)])
    assert main(flags(tmp_path, peer, "--seeds=0,1", "--num_timesteps=400")) == 1
    assert "failed: CartPole-v1 a2c peer seed 1: ValueError: no such task\n" in capsys.readouterr().err
    assert len(read(tmp_path / "rivals.csv")) == 3


def test_after_an_interruption_what_had_ended_is_kept_and_nothing_runs_on(tmp_path, cheap, monkeypatch, capsys):
    peer = Peer(tmp_path, hanging=[(OURS, "1")])
    jobs: list[Job] = []

    class Noted(Job):
        def __init__(self, command) -> None:
            super().__init__(command)
            jobs.append(self)

    def sleep(seconds: float) -> None:
        if any(call.startswith("ours CartPole-v1 a2c 1") for call in peer.calls):
            raise KeyboardInterrupt
        time.sleep(0.02)

    monkeypatch.setattr(rivals, "Job", Noted)
    monkeypatch.setattr(rivals, "time", SimpleNamespace(sleep=sleep))
    assert main(flags(tmp_path, peer, "--seeds=0,1", "--num_timesteps=400")) == 130
    assert capsys.readouterr().err == "rivals: interrupted; run the same command to continue\n"
    assert len(read(tmp_path / "rivals.csv")) == 2
    assert [job.process.wait(10) for job in jobs] == [0, 0, -signal.SIGKILL]


@pytest.mark.parametrize(
    ("more", "missing", "message"),
    [
        ([], 1, "has no stable-baselines3 and sb3-contrib; they come with `pip install baselines_acktr[rivals]`"),
        (["--peer_python=/no/such/python"], 0, "--peer_python=/no/such/python: no such program"),
        (["--algs=ppo"], 0, "--algs=ppo: must be one of a2c, trpo"),
        (["--envs=Nope-v0"], 0, "Nope-v0: no such environment"),
        (["--seeds="], 0, "--seeds: must name at least one"),
        (["--out=/no/such/folder/rivals.csv"], 0, "/no/such/folder is not a folder"),
        (["--seed=0"], 0, "Did you mean --seeds?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(tmp_path, capsys, more, missing, message):
    assert main(flags(tmp_path, Peer(tmp_path, missing=missing), *more)) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_file_of_another_program_is_not_written_to(tmp_path, capsys):
    path = tmp_path / "rivals.csv"
    path.write_text("a,b\n1,2\n")
    assert main(flags(tmp_path, Peer(tmp_path))) == 2
    assert "is not a file of this program" in capsys.readouterr().err
    assert path.read_text() == "a,b\n1,2\n"


def test_both_sides_of_a_run_differ_in_nothing_but_the_side():
    cells = plan(RivalsOptions(envs=("CartPole-v1", "Pendulum-v1"), seeds=(0, 3)))
    assert len(cells) == len(set(cells)) == 16
    for mine, theirs in zip(cells[::2], cells[1::2], strict=True):
        assert (mine.side, theirs.side) == (OURS, PEER)
        assert mine.command("other")[3:] == theirs.command("other")[2:]
    assert [cell.num_env for cell in plan(RivalsOptions(num_env=5))] == [5] * len(plan(RivalsOptions()))


def test_the_table_has_scores_by_seed_and_their_mean():
    columns = dict.fromkeys([*KEYS, *RESULTS], 0) | {"env": "CartPole-v1", "alg": "a2c"}
    scores = [(OURS, 1, 30.0, 2.0), (OURS, 0, 10.0, 4.0), (PEER, 0, 25.0, 9.0)]
    names = ("side", "seed", "mean", "seconds")
    table = table_of(pd.DataFrame([columns | dict(zip(names, row, strict=True)) for row in scores]))
    assert table.to_dict("records") == [
        {
            "env": "CartPole-v1",
            "alg": "a2c",
            "ours by seed": "10.0, 30.0",
            "ours": 20.0,
            "ours s": 3.0,
            "peer by seed": "25.0",
            "peer": 25.0,
            "peer s": 9.0,
        }
    ]


def test_a_run_of_ours_with_trpo_prints_its_result_last(capsys):
    rivals_ours.main("Pendulum-v1", "trpo", "0", "3000", "1")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result) == set(RESULTS)
    assert result["episodes"] >= 10 and -2000 < result["mean"] < -500  # a random policy scores -1200
