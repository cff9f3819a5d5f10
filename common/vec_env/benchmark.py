"""Compares the speed of the native Atari environment with that of bare `AtariVectorEnv` stepping.

    python -m common.vec_env.benchmark --env=BreakoutNoFrameskip-v4 --num_env=32 --rounds=5

Both take random actions. Their rounds alternate within one run, so that a change in the load of the machine affects
both. The bare environment stacks frames, clips rewards and resets finished games. Ours also does what Baselines does
after the loss of a life.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from common.errors import UserError, exit_code
from common.vec_env.atari.vector import NativeAtariVectorEnv
from common.vec_env.ids import find_spec, is_atari


def main() -> int:
    """Runs the command line: prints one line per round, then the medians.

    Returns:
      The exit code: 0, or 2 for a mistake of the user.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="BreakoutNoFrameskip-v4", help="Atari id")
    parser.add_argument("--num_env", type=int, default=32, help="number of games")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each of the two")
    parser.add_argument("--steps", type=int, default=300, help="batched steps per round")
    parser.add_argument("--num_threads", type=int, default=0, help="threads of the bare environment; 0: one per core")
    parser.add_argument("--num_workers", type=int, help="worker processes of ours; by default one per core")
    arguments = vars(parser.parse_args())

    return exit_code("benchmark", lambda: compare(**arguments))


def compare(env: str, num_env: int, rounds: int, steps: int, num_threads: int, num_workers: int | None) -> float:
    """Measures both in alternating rounds, prints steps/s, and returns the ratio of the medians (ours / bare).

    Args:
      env: Atari id.
      num_env: number of games.
      rounds: number of rounds of each environment.
      steps: batched steps per round.
      num_threads: threads of the bare environment; 0 for as many as there are cores.
      num_workers: worker processes of ours; None for its default.
    """
    from ale_py.vector_env import AtariVectorEnv

    spec = find_spec(env)
    if not is_atari(spec):
        raise UserError(f"--env={env}: must be an Atari game")

    bare = AtariVectorEnv(spec.kwargs["game"], num_env, num_threads=num_threads)
    ours = NativeAtariVectorEnv(spec, num_env, num_workers=num_workers)
    for batch in (bare, ours):
        batch.reset(seed=0)

    rng = np.random.default_rng(0)
    actions = rng.integers(0, ours.single_action_space.n, (steps, num_env))

    rounds_measured = []
    for number in range(1, rounds + 1):
        before = ours.emulated_steps
        seconds = [_seconds(batch.step, actions) for batch in (bare, ours)]
        emulated = (ours.emulated_steps - before) / actions.size
        rounds_measured.append((*seconds, emulated))
        print(_line(f"round {number}", *rounds_measured[-1]), flush=True)

    medians = [statistics.median(column) for column in zip(*rounds_measured, strict=True)]
    print(_line("median", *medians))
    ours.close()

    return medians[0] / medians[1]


def _seconds(step: Callable[[np.ndarray], object], actions: np.ndarray) -> float:
    """Returns the seconds per agent step; `actions` is [steps, N]."""
    start = time.perf_counter()
    for row in actions:
        step(row)
    return (time.perf_counter() - start) / actions.size


def _line(name: str, bare: float, ours: float, emulated: float) -> str:
    return (
        f"{name:>8}: bare {1 / bare:6.0f}, ours {1 / ours:6.0f} agent steps/s ({emulated / ours:6.0f} emulated), "
        f"ratio {bare / ours:.3f} ({emulated * bare / ours:.3f})"
    )


if __name__ == "__main__":
    sys.exit(main())
