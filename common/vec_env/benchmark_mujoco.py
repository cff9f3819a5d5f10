"""Compares the speed of the native MuJoCo environment with EnvPool and with Gymnasium's own environments.

    pip install baselines_acktr[benchmark]
    python -m common.vec_env.benchmark_mujoco --env=HalfCheetah-v4 --num_env=32 --num_threads=2

All take random actions. Their rounds alternate within one run, so that a change in the load of the machine affects all:

* `native`: the bare `NativeMujocoVectorEnv`;
* `wrapped`: what `make_vec_env` returns, on as many threads as there are cores;
* `envpool`: EnvPool. Its resets take an extra step each, which is not counted;
* `sync`: Gymnasium's environments, stepped one after the other by a `SyncVectorEnv`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import numpy as np

from common.errors import UserError, exit_code
from common.vec_env.ids import find_spec
from common.vec_env.make import make_vec_env
from common.vec_env.mujoco.vector import NativeMujocoVectorEnv


def main() -> int:
    """Runs the command line: prints one line per round, then the medians.

    Returns:
      The exit code: 0, or 2 for a mistake of the user.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="HalfCheetah-v4", help="id of a MuJoCo task that EnvPool has as well")
    parser.add_argument("--num_env", type=int, default=32, help="number of environments")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each contender")
    parser.add_argument("--steps", type=int, default=150, help="batched steps per round; sync takes a third of them")
    parser.add_argument("--num_threads", type=int, default=2, help="threads of the native environment and of EnvPool")
    arguments = vars(parser.parse_args())

    return exit_code("benchmark_mujoco", lambda: compare(**arguments))


def compare(env: str, num_env: int, rounds: int, steps: int, num_threads: int) -> dict[str, float]:
    """Measures all in alternating rounds and prints steps/s.

    Args:
      env: MuJoCo id.
      num_env: number of environments.
      rounds: number of rounds of each contender.
      steps: batched steps per round.
      num_threads: threads of the native environment and of EnvPool.

    Returns:
      For each other contender, the median over rounds of the ratio native / other.
    """
    contenders = _contenders(env, num_env, num_threads)
    space = contenders["native"].action_space
    space.seed(0)
    actions = np.stack([space.sample() for _ in range(steps)])  # [steps, N, nu]

    for batch in contenders.values():
        batch.reset()

    measured = []
    for number in range(1, rounds + 1):
        rates = {}
        for name, batch in contenders.items():
            rows = actions[: steps // 3 + 1] if name == "sync" else actions
            rates[name] = _rate(batch, rows, resets_apart=name == "envpool")
        measured.append(rates)
        print(_line(f"round {number}", rates, _ratios(rates)), flush=True)

    ratios = _medians([_ratios(rates) for rates in measured])
    print(_line("median", _medians(measured), ratios))

    for batch in contenders.values():
        batch.close()

    return ratios


def _contenders(env: str, num_env: int, num_threads: int) -> dict[str, Any]:
    spec = find_spec(env)
    try:
        import envpool
    except ImportError as error:
        raise UserError("needs EnvPool: pip install '.[benchmark]'") from error

    return {
        "native": NativeMujocoVectorEnv(spec, num_env, num_threads=num_threads),
        "wrapped": make_vec_env(env, num_env, seed=0),
        "envpool": envpool.make(env, env_type="gymnasium", num_envs=num_env, num_threads=num_threads, seed=0),
        "sync": make_vec_env(env, num_env, seed=0, backend="sync"),
    }


def _rate(batch: Any, actions: np.ndarray, resets_apart: bool) -> float:
    """Returns the steps per second of all environments together.

    Args:
      batch: a vector environment.
      actions: [steps, N, nu].
      resets_apart: whether a reset takes a step of its own, which does not count.
    """
    resets = 0
    start = time.perf_counter()

    for row in actions:
        _, _, terminations, truncations, _ = batch.step(row)
        if resets_apart:
            resets += int((terminations | truncations).sum())

    return (actions.shape[0] * actions.shape[1] - resets) / (time.perf_counter() - start)


def _ratios(rates: dict[str, float]) -> dict[str, float]:
    return {name: rates["native"] / rate for name, rate in rates.items() if name != "native"}


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _line(title: str, rates: dict[str, float], ratios: dict[str, float]) -> str:
    columns = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    comparison = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in ratios.items())
    return f"{title:>8}: {columns} steps/s; native is {comparison}"


if __name__ == "__main__":
    sys.exit(main())
