"""A step size that follows the KL of the steps taken."""

from __future__ import annotations

from baselines_acktr.kfac import Kfac
from common.named_arrays import Arrays

LOWEST = 1e-8  # bounds of the adapted step size, as in OpenAI Baselines
HIGHEST = 1.0
FACTOR = 1.5


class AdaptedRate:
    """The step size of an optimizer, adapted so that an update's KL comes near a desired one (OpenAI Baselines).

    Args:
      optimizer: whose `learning_rate` it is.
      is_adapted: whether it is; else it stays what it was made with, and so it does when a checkpoint is restored.
    """

    def __init__(self, optimizer: Kfac, is_adapted: bool) -> None:
        self._optimizer = optimizer
        self.is_adapted = is_adapted

    @property
    def value(self) -> float:
        """The step size now."""
        return float(self._optimizer.learning_rate)

    def adapt(self, kl: float, desired: float) -> None:
        """Shortens the next steps after a KL above twice the desired one, lengthens them after one below its half.

        Args:
          kl: that an update has had, nats.
          desired: nats.
        """
        self._optimizer.learning_rate = adapted(self.value, kl, desired)

    def state(self) -> Arrays:
        """The step size now, copied."""
        return {"": self._optimizer.learning_rate.numpy().copy()}

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned, if the step size is adapted."""
        if self.is_adapted:
            self._optimizer.learning_rate = arrays[""]


def adapted(rate: float, kl: float, desired: float) -> float:
    """The step size after `rate`, by the KL that this had, nats; it is not moved beyond LOWEST and HIGHEST."""
    if kl > 2 * desired:
        return max(rate / FACTOR, LOWEST)
    if kl < desired / 2:
        return max(rate, min(rate * FACTOR, HIGHEST))
    return rate
