"""How uncertain a critic's values are."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from common.mpi import Communicator
from common.named_arrays import Arrays

DECAY = 0.97  # of the running mean of the squared errors


class CriticDeviation:
    """sigma of the Gaussian p(v|s) = N(V(s), sigma^2) that a critic stands for (Wu et al. 2017, section 3.1).

    sigma^2 is the running mean of the critic's squared error (appendix D), but at least 1. Where returns are in the
    hundreds, a sigma of 1 would give the critic all the say in the weights that it shares with the policy. The clipped
    rewards of Atari games keep sigma = 1.

    Attributes:
      sigma: in the units of the returns; scalar.

    Args:
      dtype: of sigma.
    """

    def __init__(self, dtype: str) -> None:
        self.sigma = tf.Variable(1.0, trainable=False, dtype=dtype)
        self._sums = np.zeros(2)  # decayed sums of the mean squared errors, and of their weights

    def follow(self, errors: np.ndarray, comm: Communicator) -> None:
        """Takes the errors R - V of a batch, of all ranks, into sigma; they are left out if one is not finite."""
        squared = comm.mean(np.mean(np.square(errors, dtype=np.float64)))
        if np.isfinite(squared):
            self._sums = DECAY * self._sums + (1 - DECAY) * np.array([squared, 1.0])
        self._assign()

    def _assign(self) -> None:
        total, weight = self._sums
        mean = total / weight if weight else 0.0
        self.sigma.assign(np.asarray(max(1.0, mean) ** 0.5, self.sigma.dtype.as_numpy_dtype))

    def state(self) -> Arrays:
        """Everything that errors change, copied."""
        return {"": self._sums.copy()}

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned; checkpoints of before there was a choice of sigma have none."""
        self._sums = arrays.get("", np.zeros(2)).copy()
        self._assign()
