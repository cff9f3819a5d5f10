"""Schedules of a rate, such as the learning rate, over the course of a run.

Each schedule maps the progress of the run, from 0 to 1, to a fraction of the initial rate (OpenAI Baselines).
"""

from __future__ import annotations

from collections.abc import Callable


def _linear(progress: float) -> float:
    return 1 - progress


def _constant(progress: float) -> float:
    return 1.0


def _double_linear_con(progress: float) -> float:
    return max(1 - 2 * progress, 0.125)


def _middle_drop(progress: float) -> float:
    return 0.075 if progress > 0.25 else 1 - progress


def _double_middle_drop(progress: float) -> float:
    if progress > 0.75:
        return 0.125
    return 0.075 if progress > 0.25 else 1 - progress


SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": _linear,
    "constant": _constant,
    "double_linear_con": _double_linear_con,
    "middle_drop": _middle_drop,
    "double_middle_drop": _double_middle_drop,
}


def scheduled(name: str, initial: float, step: int, total: int) -> float:
    """Returns the rate after `step` of `total` steps.

    Args:
      name: a key of `SCHEDULES`.
      initial: rate at the start of the run.
      step: steps so far. After `total` steps the rate stays at its last value.
      total: number of steps over which the schedule runs.
    """
    return initial * SCHEDULES[name](min(step / total, 1.0))
