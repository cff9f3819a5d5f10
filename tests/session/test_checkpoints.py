"""Claims about the checkpoints of a run: which are kept, and what is found after damage, a kill or a full disk."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from baselines_acktr.session import checkpoints
from baselines_acktr.session.checkpoints import CheckpointManager, RunState, newest
from common import array_file
from common.errors import UserError

NAN = float("nan")
FULL = pytest.mark.reliability


def snapshot(updates: int, score: float = NAN, size: int = 10) -> RunState:
    """One whose numbers all are the number of updates."""
    model = {"a": np.full(size, float(updates)), "b": np.full(size, float(updates))}
    counters = {"updates": updates, "timesteps": 100 * updates}
    return RunState(updates, 100 * updates, score, (model, {"counters": counters}), ({"c": model["a"]}, {"log": {}}))


def save(folder: Path, *updates: int, scores: dict[int, float] | None = None, **options) -> CheckpointManager:
    with CheckpointManager(folder, **options) as kept:
        for update in updates:
            kept.save(snapshot(update, (scores or {}).get(update, NAN)))
    return kept


def numbers(folder: Path) -> list[int]:
    """Updates of the checkpoints of which both files are there; nothing else may be."""
    names = sorted(path.name for path in folder.iterdir())
    stems = sorted({int(name.split(".")[0]) for name in names})
    assert names == [f"{stem:08d}.{kind}" for stem in stems for kind in ("model", "run")]
    return stems


def test_the_last_ones_the_best_and_the_milestones_are_kept(tmp_path):
    scores = {3: 5.0, 7: 9.0, 8: 9.0, 15: 2.0}
    save(tmp_path, *range(1, 21), scores=scores, keep=3, every=600)
    assert numbers(tmp_path) == [6, 7, 12, 18, 19, 20]


def test_a_run_that_goes_on_keeps_what_the_first_part_would_have_kept(tmp_path):
    scores = {3: 5.0, 7: 9.0}
    save(tmp_path, *range(1, 11), scores=scores, keep=2, every=600)
    save(tmp_path, *range(11, 21), scores=scores, keep=2, every=600, start=10)
    assert numbers(tmp_path) == [6, 7, 12, 18, 19, 20]


def test_checkpoints_of_an_earlier_run_are_renamed_and_not_mixed_with_new_ones(tmp_path):
    save(tmp_path / "checkpoints", 900)
    save(tmp_path / "checkpoints", 1)
    assert numbers(tmp_path / "checkpoints") == [1]
    (earlier,) = tmp_path.glob("checkpoints-*")
    assert numbers(earlier) == [900]


def test_an_interval_in_updates_or_five_minutes(tmp_path, monkeypatch):
    assert [update for update in range(1, 9) if CheckpointManager(tmp_path / "a", interval=3).due(update)] == [3, 6]
    kept = CheckpointManager(tmp_path / "b")
    assert not kept.due(1)
    later = time.monotonic() + checkpoints.SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert kept.due(1)


def test_the_newest_is_found_with_its_settings(tmp_path):
    assert newest(tmp_path) is None
    save(tmp_path / "c", 1, 2, settings={"num_env": 4})
    found = newest(tmp_path / "c")
    assert (found.model.name, found.meta["counters"]["updates"], found.settings) == (
        "00000002.model",
        2,
        {"num_env": 4},
    )


def damages(size: int) -> list:
    """20 flipped bytes and 5 truncations, as functions of a file's content."""
    draw = random.Random(0)

    def flip(offset):
        return lambda content: content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]

    def truncate(length):
        return lambda content: content[:length]

    lengths = [0, 1, size // 2, size - 64, size - 1]
    return [flip(draw.randrange(size)) for _ in range(20)] + [truncate(length) for length in lengths]


@pytest.mark.parametrize("kind", ["model", "run"])
def test_a_flipped_byte_or_a_truncation_falls_back_to_the_one_before_in_one_line(tmp_path, capsys, kind):
    save(tmp_path, 1, 2)
    damaged = tmp_path / f"00000002.{kind}"
    content = damaged.read_bytes()
    for damage in damages(len(content)):
        damaged.write_bytes(damage(content))
        assert newest(tmp_path).model.name == "00000001.model"
        (line,) = capsys.readouterr().err.splitlines()
        assert str(damaged) in line
        assert line.endswith("trying the one before")


def test_files_of_two_saves_are_not_taken_for_one(tmp_path, capsys):
    save(tmp_path / "a", 1, 2)
    save(tmp_path / "b", 1, 2)
    os.replace(tmp_path / "b" / "00000002.run", tmp_path / "a" / "00000002.run")
    assert newest(tmp_path / "a").model.name == "00000001.model"
    assert "00000002.run is of another save" in capsys.readouterr().err


def test_without_a_whole_one_nothing_is_resumed(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "00000001.model").write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole"):
        newest(tmp_path)


def test_a_damaged_one_is_set_aside_when_the_run_goes_on(tmp_path, capsys):
    save(tmp_path, 1, 2)
    (tmp_path / "00000002.run").write_bytes(b"")
    save(tmp_path, 2, 3, start=1)
    assert newest(tmp_path).meta["counters"]["updates"] == 3
    assert sorted(path.name for path in tmp_path.glob("*.damaged")) == [
        "00000002.model.damaged",
        "00000002.run.damaged",
    ]


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(tmp_path, capfd):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with CheckpointManager(tmp_path) as kept:
            kept.save(snapshot(1), wait=True)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
            kept.save(snapshot(2, size=10_000), wait=True)
            kept.save(snapshot(3), wait=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    (line,) = capfd.readouterr().err.splitlines()
    assert "cannot be written: File too large; the run goes on, the checkpoints before are as they were" in line
    assert numbers(tmp_path) == [1, 3]


def test_a_checkpoint_is_written_while_the_run_goes_on(tmp_path, monkeypatch):
    original, started = array_file.save, []

    def slow(*arguments):
        started.append(time.monotonic())
        time.sleep(0.2)
        original(*arguments)

    monkeypatch.setattr(array_file, "save", slow)
    with CheckpointManager(tmp_path) as kept:
        start = time.monotonic()
        kept.save(snapshot(1))
        assert time.monotonic() - start < 0.2
    assert numbers(tmp_path) == [1]


def saving_child(folder: Path, start: int) -> int:
    """Forks a process that saves checkpoints of 4 MB without end; returns its id once it has begun."""
    ready, begun = os.pipe()
    if (pid := os.fork()) == 0:
        kept = CheckpointManager(folder, start=start)
        os.write(begun, b".")
        for update in range(start + 1, 10**6):
            kept.save(snapshot(update, size=250_000))
    os.read(ready, 1)
    os.close(ready)
    os.close(begun)
    return pid


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=FULL)])
def test_after_a_kill_inside_a_save_the_newest_loads_and_is_of_one_update(tmp_path, kills):
    draw, reached, inside = random.Random(0), 0, 0
    save(tmp_path, 0)
    for _ in range(kills):
        pid = saving_child(tmp_path, reached)
        time.sleep(draw.uniform(0, 0.3))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        inside += bool(list(tmp_path.glob(".*.tmp")))
        found = newest(tmp_path)
        arrays = array_file.load(found.model)[0] | array_file.load(found.model.with_suffix(".run"))[0]
        assert {value for array in arrays.values() for value in np.unique(array)} == {found.meta["counters"]["updates"]}
        assert found.meta["counters"]["updates"] >= reached
        reached = found.meta["counters"]["updates"]
    print(f"{inside} of {kills} kills fell into the writing of a file")
    assert inside >= kills // 5
    save(tmp_path, reached + 1, start=reached)
    assert len(numbers(tmp_path)) <= 4
