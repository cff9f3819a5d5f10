"""Speed of training with continuous actions: `python -m baselines_acktr.benchmark_cont`.

Prints timesteps per second of the whole loop, round by round, and how an update's time divides over its parts.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from baselines_acktr.acktr_cont import Model
from baselines_acktr.config import AcktrContConfig
from common.vec_env import make_vec_env


class Stopwatch:
    """Seconds spent in wrapped functions, by part; a part's time does not count for the one that called it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Counts the time of `owner.name` for `part`."""
        function = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                elapsed = time.perf_counter() - start
                self.seconds[part] += elapsed - self._inner.pop()
                self._inner[-1] += elapsed

        setattr(owner, name, timed)


def measure(loop: Callable[[], int], rounds: int, updates: int) -> list[float]:
    """Timesteps per second of each round; `loop` makes one update and returns its timesteps."""
    loop()
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        timesteps = sum(loop() for _ in range(updates))
        rates.append(timesteps / (time.perf_counter() - start))
    return rates


def main() -> None:
    """Parses the command line, runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v4")
    parser.add_argument("--num_env", type=int, default=AcktrContConfig.num_env)
    parser.add_argument("--timesteps_per_batch", type=int, default=2500)
    parser.add_argument("--pixels", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=40, help="updates in a round")
    arguments = parser.parse_args()
    with make_vec_env(arguments.env, arguments.num_env, seed=0, pixels=arguments.pixels) as env:
        observations = env.single_observation_space
        preset = Model.preset(observations) | {"timesteps_per_batch": arguments.timesteps_per_batch}
        network = Model.default_network(observations)
        model = Model(observations, env.single_action_space, network, AcktrContConfig(**preset))
        runner = model.make_runner(env)

        def loop() -> int:
            rollout = runner.run()
            model.update(rollout, 10**9)
            return rollout.rewards.size

        loop()
        print(
            f"{arguments.env}, batch {model.config.batch_size(arguments.num_env)} of {arguments.num_env} environments"
        )
        rates = measure(loop, arguments.rounds, arguments.updates)
        print(f"whole loop  median {np.median(rates):.0f} timesteps/s   min {min(rates):.0f}  max {max(rates):.0f}")
        watch = Stopwatch()
        watch.wrap(env, "step", "stepping")
        watch.wrap(model, "act", "acting")
        watch.wrap(model, "to_env", "acting")
        watch.wrap(model, "value", "predicting values")
        watch.wrap(model.value_function, "fit", "critic")
        watch.wrap(model, "_improve", "policy")
        watch.wrap(runner, "run", "rest of the rollout")
        watch.wrap(model, "update", "rest of the update")
        measure(loop, 1, arguments.updates)
        model.close()
    updates = arguments.updates + 1
    total = sum(watch.seconds.values())
    print(f"\npart of an update{'':14s} ms    share")
    for part, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        print(f"{part:28s} {1e3 * seconds / updates:6.1f}   {seconds / total:5.1%}")


if __name__ == "__main__":
    main()
