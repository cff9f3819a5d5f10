"""Advantages in units of their deviation, so that a step does not depend on the scale of the rewards."""

from __future__ import annotations

import numpy as np

from common.mpi import Communicator
from common.named_arrays import Arrays
from common.running_mean_std import RunningMeanStd, moments

MEMORY = 50_000  # timesteps that the running deviation reaches back


def standardised(advantages: np.ndarray, comm: Communicator) -> np.ndarray:
    """The advantages [B] with mean 0 and deviation 1, over the rows of all ranks."""
    mean, variance = moments(advantages, comm)
    return ((advantages - mean) / (np.sqrt(variance) + 1e-8)).astype(advantages.dtype)


class RunningScale:
    """The deviation of the advantages of the last batches.

    A batch whose advantages are all small holds little but noise. Divided by its own deviation it would move the policy
    as far as a batch that shows what to do; divided by the running deviation it does not.
    """

    def __init__(self) -> None:
        self._moments = RunningMeanStd((), memory=MEMORY)

    def standardise(self, advantages: np.ndarray, comm: Communicator) -> np.ndarray:
        """The advantages [B], which count from now on, with mean 0 and in units of the running deviation."""
        mean, _ = self._moments.update(advantages, comm)
        return ((advantages - mean) / self._moments.std).astype(advantages.dtype)

    def state(self) -> Arrays:
        """Everything that batches change, by name, copied."""
        return self._moments.state()

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned."""
        self._moments.set_state(arrays)
