"""Claims about long runs: they do not grow. As a program it trains a run of `RUNS` and prints by how much it did."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from repository import PYTHONPATH, ROOT

from baselines_acktr import acktr_cont, acktr_discrete
from baselines_acktr.session.checkpoints import CheckpointManager
from common.vec_env import make_vec_env

UPDATES, START = 5000, 1000  # the first ones fill caches and the allocator's pools
RUNS = {
    "BreakoutNoFrameskip-v4": (acktr_discrete, 2, {"nsteps": 5, "conv_filters": (4, 4, 4), "hidden_sizes": (16,)}),
    "Hopper-v5": (acktr_cont, 2, {"timesteps_per_batch": 10, "vf_iters": 2, "hidden_sizes": (16,)}),
}


def resident_mib() -> float:
    """Memory of this process that is not shared with files, MiB."""
    pages = [int(text) for text in Path("/proc/self/statm").read_text().split()]
    return (pages[1] - pages[2]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(env_id: str, folder: Path) -> float:
    """MiB in 1000 updates."""
    learner, num_env, options = RUNS[env_id]
    points: list[tuple[int, float]] = []

    def measure(model):
        if model.updates >= START and model.updates % 100 == 0:
            points.append((model.updates, resident_mib()))

    with (
        make_vec_env(env_id, num_env, seed=0, log_dir=folder) as env,
        CheckpointManager(folder / "c", interval=250) as keeper,
    ):
        learner.learn(env=env, total_timesteps=10 * UPDATES, keeper=keeper, callback=measure, **options)
    updates, memory = np.array(points).T
    print(f"{env_id}: {memory[0]:.0f} MiB after {START} updates, {memory[-1]:.0f} at the end", file=sys.stderr)
    return 1000 * np.polyfit(updates, memory, 1)[0]


@pytest.mark.reliability
@pytest.mark.parametrize("env_id", RUNS)
def test_memory_grows_by_less_than_1_mib_in_1000_updates(env_id):
    program = [sys.executable, "-m", __name__, env_id]  # a process of its own: other tests leave holes in its memory
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(program, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert float(done.stdout) < 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(growth(sys.argv[1], Path(folder)))
