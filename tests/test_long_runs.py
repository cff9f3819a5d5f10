"""Claims about long runs: they do not grow."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from baselines_acktr import acktr_cont, acktr_discrete
from baselines_acktr.keeper import Keeper
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


@pytest.mark.reliability
@pytest.mark.parametrize("env_id", RUNS)
def test_memory_grows_by_less_than_1_mib_in_1000_updates(env_id, tmp_path):
    learner, num_env, options = RUNS[env_id]
    points: list[tuple[int, float]] = []

    def measure(model):
        if model.updates >= START and model.updates % 100 == 0:
            points.append((model.updates, resident_mib()))

    with make_vec_env(env_id, num_env, seed=0, log_dir=tmp_path) as env, Keeper(tmp_path / "c", interval=250) as keeper:
        learner.learn(env=env, total_timesteps=10 * UPDATES, keeper=keeper, callback=measure, **options)
    updates, memory = np.array(points).T
    slope = 1000 * np.polyfit(updates, memory, 1)[0]
    print(f"{env_id}: {slope:.2f} MiB in 1000 updates, {memory[0]:.0f} MiB after {START}, {memory[-1]:.0f} at the end")
    assert slope < 1
