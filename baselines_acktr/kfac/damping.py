"""How large the damping is: the rule of Levenberg and Marquardt (Martens & Grosse 2015, section 6.5)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

DECAY = 0.95  # the damping falls by this factor for each update that went as foretold
GOOD = 0.75  # above this ratio of actual to foretold decrease the damping falls
BAD = 0.25  # below this one it rises
MAX_DAMPING = 1e6


def decrease_ratio(before: tf.Tensor, after: tf.Tensor, foretold: tf.Tensor) -> float:
    """How much of the decrease of the loss that the quadratic model foretold came true; 1 is all of it.

    Args:
      before, after: the loss on the batch before and after the step; scalars.
      foretold: the decrease by the model; scalar. Where it is 0 the ratio is infinite, or not a number.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.divide(float(before) - float(after), float(foretold)))


def adapted_damping(damping: float, ratio: float, updates: int, least: float) -> float:
    """The next damping lambda: less where the quadratic model can be trusted, more where it cannot.

    lambda <- 0.95^updates lambda where ratio > 3/4;  lambda <- lambda / 0.95^updates where ratio < 1/4.

    Args:
      damping: lambda as it is.
      ratio: actual decrease of the loss, divided by the one that the model foretold. A ratio that is not a number
        counts as bad.
      updates: how many were made since it was last adapted.
      least: lower bound of the result.
    """
    factor = DECAY**updates
    if ratio > GOOD:
        return max(damping * factor, least)
    if ratio >= BAD:
        return max(damping, least)
    return min(damping / factor, MAX_DAMPING)
