"""What every learner computes, to the bit: a change of the code that was not meant to change it shows here.

The bits are those of one machine's libraries. Where a probe says that another machine computes differently, the numbers
are compared instead.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from repository import HELPERS, ROOT

pytestmark = pytest.mark.long
STORED = json.loads((ROOT / "tests" / "data" / "golden.json").read_text())
NAMES = sorted(STORED.keys() - {"probe"})
TOLERANCE = 1e-3  # of sums over an array, between machines


@pytest.fixture(scope="module")
def found() -> dict:
    """What a fresh process computes now."""
    program = [sys.executable, str(HELPERS / "golden_runs.py")]
    process = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def off(stored: list[float], now: list[float]) -> float:
    """How far apart two summaries are, as a part of what they could be."""
    (size, total, squares), (other_size, other_total, other_squares) = stored, now
    if size != other_size:
        return float("inf")
    if squares == 0:
        return other_squares
    return max(abs(total - other_total) / (size * squares) ** 0.5, abs(squares - other_squares) / squares)


def test_all_six_learners_are_stored():
    assert sorted(f"{alg}-{kind}" for alg in ("acktr", "a2c", "trpo") for kind in ("discrete", "continuous")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_twenty_updates_end_in_the_stored_state(found, name):
    stored, now = STORED[name], found[name]
    assert stored["arrays"].keys() == now["arrays"].keys()
    far = {key: off(stored["arrays"][key], array) for key, array in now["arrays"].items()}
    assert {key: value for key, value in far.items() if not value <= TOLERANCE} == {}
    if found["probe"] == STORED["probe"]:
        assert now["hash"] == stored["hash"]


@pytest.mark.parametrize("index", [1, 2])
def test_the_comparison_of_numbers_notices_a_change(index):
    stored = STORED["acktr-discrete"]["arrays"]["parameters/0"]
    changed = [*stored]
    changed[index] += 0.01 * (stored[0] * stored[2]) ** 0.5 if index == 1 else 0.01 * stored[2]
    assert off(stored, changed) > TOLERANCE
    assert off(stored, stored) == 0
