"""How a rate falls over a run: fraction of its initial value against progress in [0, 1] (OpenAI Baselines)."""

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
    """The rate at `step` of `total` under the schedule `name`; past the end it stays where it ended."""
    return initial * SCHEDULES[name](min(step / total, 1.0))
