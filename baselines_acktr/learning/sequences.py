"""What a network with a memory learns from: whole sequences of steps, each of one environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

LONGEST_SEQUENCE = 20  # steps that gradients go back in long rollouts, as many as a rollout of `acktr_discrete` has


class Memory(NamedTuple):
    """What the memory of a recurrent policy in a rollout follows from: T steps of N environments, in K parts of T / K.

    A network learns from each part apart, so its gradient goes back through T / K steps at most. The states within a
    part are computed again from the one before it.

    Attributes:
      starts: whether an episode starts with this step; the network then sets its state to 0 first, bool [T, N].
      states: of M numbers, all that the network carries from step to step, before the first step of each part,
        [K, N, M].
    """

    starts: np.ndarray
    states: np.ndarray

    def sequences(self, column: np.ndarray) -> np.ndarray:
        """What each step has, by part and environment: [T, N, ...] -> [K N, T / K, ...]."""
        steps = len(self.starts) // len(self.states)
        parts = column.reshape(-1, steps, *column.shape[1:])  # [K, T / K, N, ...]
        return np.ascontiguousarray(np.swapaxes(parts, 1, 2)).reshape(-1, steps, *column.shape[2:])


class Sequences(NamedTuple):
    """T steps of N environments, or of parts of a rollout, as a recurrent network takes them.

    Attributes:
      observations: [N, T, ...].
      starts: whether an episode starts with this step; the network then sets its state to 0 first, bool [N, T].
      state: of M numbers, before the first of these steps, [N, M].
    """

    observations: np.ndarray | tf.Tensor
    starts: np.ndarray | tf.Tensor
    state: np.ndarray | tf.Tensor
