"""What a network with a memory learns from: whole sequences of steps, each of one environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


class Memory(NamedTuple):
    """What a recurrent policy remembered when it acted.

    Attributes:
      starts: whether an episode starts with this step, so that what was before is forgotten, bool [T, N].
      state: before the first step, [N, M].
    """

    starts: np.ndarray
    state: np.ndarray


class Sequences(NamedTuple):
    """T steps of N environments as a recurrent network takes them.

    Attributes:
      observations: [N, T, ...].
      starts: whether an episode starts with this step, bool [N, T].
      state: before the first step, [N, M].
    """

    observations: np.ndarray | tf.Tensor
    starts: np.ndarray | tf.Tensor
    state: np.ndarray | tf.Tensor


def by_environment(column: np.ndarray) -> np.ndarray:
    """[T, N, ...] -> [N, T, ...]."""
    return np.ascontiguousarray(np.swapaxes(column, 0, 1))
