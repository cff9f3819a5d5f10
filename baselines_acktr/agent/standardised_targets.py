"""Standardised targets of a critic: (R - mean) / std, with running moments of the returns.

So sigma = 1 and one step size suit tasks whose returns differ by orders of magnitude. When the moments move, the
critic's last layer is rescaled so that its predictions stay what they were (van Hasselt et al. 2016, "Pop-Art").
"""

from __future__ import annotations

import keras
import numpy as np

from common.mpi import Communicator
from common.named_arrays import Arrays
from common.running_mean_std import RunningMeanStd


class StandardisedTargets:
    """The running moments of the returns, which the last layer of a critic follows.

    Attributes:
      moments: of the returns.

    Args:
      head: the critic's last layer, a Dense layer of one unit.
      memory: how many of the last returns the moments are about those of.
    """

    def __init__(self, head: keras.layers.Dense, memory: int) -> None:
        self._head = head
        self.moments = RunningMeanStd((), memory=memory)

    def follow(self, returns: np.ndarray, comm: Communicator) -> None:
        """Takes the returns [B] of all ranks into the moments, and keeps the critic's predictions as they were."""
        mean = self.moments.mean
        std = self.moments.std
        started = self.moments.count > 0
        self.moments.update(returns, comm)
        if not started:
            return

        scale = self._number(std / self.moments.std)
        shift = self._number((mean - self.moments.mean) / self.moments.std)
        self._head.kernel.assign(self._head.kernel * scale)
        self._head.bias.assign(self._head.bias * scale + shift)

    def standardise(self, returns: np.ndarray) -> np.ndarray:
        """Targets [B] for the critic, of its type."""
        return self._number((returns - self.moments.mean) / self.moments.std)

    def restore(self, targets: np.ndarray) -> np.ndarray:
        """Inverse of `standardise`: returns [B], of the targets' type."""
        return (targets * self.moments.std + self.moments.mean).astype(targets.dtype)

    def _number(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array, self._head.kernel.dtype)

    def state(self) -> Arrays:
        """Everything that returns change, by name, copied."""
        return self.moments.state()

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs."""
        self.moments.set_state(arrays)
