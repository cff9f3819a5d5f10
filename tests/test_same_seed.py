"""Claims about seeds: two processes that train with the same one end with the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from repository import HELPERS, PYTHONPATH, ROOT
from seeded_runs import RUNS

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def hashes() -> list[dict[str, str]]:
    """The hashes of the trained states, by environment, in two processes that run at the same time."""
    command = [sys.executable, str(HELPERS / "seeded_runs.py")]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) for _ in range(2)
    ]
    return [json.loads(process.communicate(timeout=300)[0]) for process in processes]


@pytest.mark.parametrize("env_id", RUNS)
def test_same_seed_in_two_processes_gives_bit_identical_states(hashes, env_id):
    first, second = (found[env_id] for found in hashes)
    assert first == second
    assert len(first) == 64
