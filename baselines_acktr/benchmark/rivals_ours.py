"""Trains one run of this project for `rivals`.

The arguments of the command line are environment, algorithm, seed, timesteps and number of environments.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from common.process import quiet_tensorflow, suit_tensorflow
from common.vec_env import make_vec_env


class LastMean:
    """A logger that keeps the mean score of the last 100 episodes, and the number of episodes that have ended."""

    mean = float("nan")
    episodes = 0

    def progress(self, timesteps: int, total_timesteps: int, eprewmean: float | None, fps: float) -> None:
        if eprewmean is not None:
            self.mean = eprewmean

    def log(self, numbers: dict[str, Any]) -> None:
        self.episodes = numbers.get("episodes", self.episodes)

    def dump(self, timesteps: int) -> None:
        pass


def main(env_id: str, alg: str, *numbers: str) -> None:
    """Trains with default settings, and prints mean score, number of episodes and processor seconds as JSON."""
    seed, timesteps, num_env = map(int, numbers)
    with make_vec_env(env_id, num_env, seed=seed) as env:
        suit_tensorflow(env.single_observation_space)
        with quiet_tensorflow():
            learner = importlib.import_module(f"baselines_acktr.{alg}")
        logger = LastMean()
        before = sum(os.times()[:4])
        learner.learn(env=env, seed=seed, total_timesteps=timesteps, logger=logger, log_interval=2**62)

    seconds = sum(os.times()[:4]) - before
    print(json.dumps({"mean": logger.mean, "episodes": int(logger.episodes), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
