"""What a network with a memory learns from: whole sequences of steps, each of one environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


class Memory(NamedTuple):
    """What the memory of a recurrent policy in a rollout follows from: T steps of N environments.

    The states between are computed again from these two.

    Attributes:
      starts: whether an episode starts with this step; the network then sets its state to 0 first, bool [T, N].
      state: of M numbers, all that the network carries from step to step, before the rollout's first step, [N, M].
    """

    starts: np.ndarray
    state: np.ndarray


class Sequences(NamedTuple):
    """T steps of N environments as a recurrent network takes them.

    Attributes:
      observations: [N, T, ...].
      starts: whether an episode starts with this step; the network then sets its state to 0 first, bool [N, T].
      state: of M numbers, before the first of these steps, [N, M].
    """

    observations: np.ndarray | tf.Tensor
    starts: np.ndarray | tf.Tensor
    state: np.ndarray | tf.Tensor


def by_environment(column: np.ndarray) -> np.ndarray:
    """[T, N, ...] -> [N, T, ...]."""
    return np.ascontiguousarray(np.swapaxes(column, 0, 1))
