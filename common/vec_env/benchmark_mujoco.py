"""Compares the native MuJoCo environment with EnvPool and with Gymnasium's own environments.

    pip install baselines_acktr[benchmark]
    python -m common.vec_env.benchmark_mujoco --env=HalfCheetah-v4 --num_env=32 --num_threads=2

All take random actions, in turns within one run, so that a change in the machine's load meets all:

* `native`: the bare `NativeMujocoVectorEnv`;
* `wrapped`: what `make_vec_env` returns, on as many threads as there are cores;
* `envpool`: EnvPool, whose resets take a step of their own, which is not counted;
* `sync`: Gymnasium's environments one after the other in a `SyncVectorEnv`.
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
    """Reads the command line, prints one line per round and the medians, and returns the exit code: 0, or 2 for a
    mistake of the user."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="HalfCheetah-v4", help="MuJoCo id that EnvPool knows as well")
    parser.add_argument("--num_env", type=int, default=32, help="environments at once")
    parser.add_argument("--rounds", type=int, default=15, help="times that each is measured")
    parser.add_argument("--steps", type=int, default=150, help="batched steps per round, a third of them for sync")
    parser.add_argument("--num_threads", type=int, default=2, help="threads of the native environment and of EnvPool")
    arguments = vars(parser.parse_args())
    return exit_code("benchmark_mujoco", lambda: compare(**arguments))


def compare(env: str, num_env: int, rounds: int, steps: int, num_threads: int) -> dict[str, float]:
    """Measures all in turns, prints steps/s, and returns the medians of the ratios (native / other) of the rounds.

    Args:
      env: MuJoCo id.
      num_env: environments at once.
      rounds: times that each is measured.
      steps: batched steps per round.
      num_threads: threads of the native environment and of EnvPool.
    """
    contenders = _contenders(env, num_env, num_threads)
    space = contenders["native"].action_space
    space.seed(0)
    actions = np.stack([space.sample() for _ in range(steps)])
    for batch in contenders.values():
        batch.reset()
    measured = []
    for number in range(1, rounds + 1):
        rates = {
            name: _rate(batch, actions[: steps // 3 + 1] if name == "sync" else actions, resets_apart=name == "envpool")
            for name, batch in contenders.items()
        }
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
    """Returns the steps per second of all environments together; `actions` `[steps, N, nu]`."""
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
    return f"{title:>8}: {columns} steps/s; native is " + ", ".join(f"{x:.2f} x {name}" for name, x in ratios.items())


if __name__ == "__main__":
    sys.exit(main())
