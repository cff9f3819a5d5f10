"""Running mean and standard deviation, and the observation filter that is built on them."""

from __future__ import annotations

import numpy as np

from common.mpi import ALONE, Communicator


def moments(rows: np.ndarray, comm: Communicator = ALONE) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance over the rows of all MPI ranks, float64 with the shape of one row.

    Args:
      rows: [B, ...], the rows of this rank; every rank must have the same number.
      comm: the ranks.
    """
    rows = np.asarray(rows, np.float64)
    own = np.stack([rows.mean(axis=0), rows.var(axis=0)])  # [2, ...]
    means, variances = comm.stack(own).swapaxes(0, 1)  # [ranks, ...] each

    return means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)


class RunningMeanStd:
    """Running mean and variance of all rows seen so far, in float64.

    Each batch is merged with the formula of Chan et al. (1979) for the moments of two sets.

    Attributes:
      count: number of rows that the moments stand for; at most `memory`.
      mean: `shape`, 0 before the first row.
      var: `shape`, 1 before the first row.

    Args:
      shape: shape of one row.
      memory: largest weight, in rows, that the past has against a new batch. With None all rows weigh the same; with a
        number, older rows fade.
    """

    def __init__(self, shape: tuple[int, ...], memory: int | None = None) -> None:
        self.count = 0
        self._memory = memory
        self.mean = np.zeros(shape)
        self.var = np.ones(shape)

    def update(self, rows: np.ndarray, comm: Communicator = ALONE) -> tuple[np.ndarray, np.ndarray]:
        """Updates mean and variance with the rows of all MPI ranks.

        Args:
          rows: [B, *shape], the rows of this rank.
          comm: the ranks.

        Returns:
          Mean and variance of this batch alone.
        """
        new = len(rows) * comm.size
        count = self.count + new
        mean, var = moments(rows, comm)

        weight = new / count  # of the new rows
        shift = mean - self.mean
        self.var = (1 - weight) * self.var + weight * var + weight * (1 - weight) * np.square(shift)
        self.mean = self.mean + weight * shift
        self.count = count if self._memory is None else min(count, self._memory)

        return mean, var

    @property
    def std(self) -> np.ndarray:
        """Standard deviation, with the shape of one row. It is never 0."""
        return np.sqrt(self.var) + 1e-8

    def state(self) -> dict[str, np.ndarray]:
        """Returns copies of all that the object holds, by name."""
        return {
            "count": np.array(self.count, np.int64),
            "mean": self.mean.copy(),
            "var": self.var.copy(),
        }

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores what `state` returned.

        Raises:
          KeyError: an array is missing.
          ValueError: an array has another shape.
        """
        mean = arrays["mean"]
        var = arrays["var"]
        if mean.shape != self.mean.shape or var.shape != self.var.shape:
            raise ValueError(f"running mean of shape {mean.shape}, expected {self.mean.shape}")

        self.count = int(arrays["count"])
        self.mean = mean.copy()
        self.var = var.copy()


class ObservationFilter(RunningMeanStd):
    """Standardises observations with their running moments and clips them (`ZFilter` in OpenAI Baselines)."""

    CLIP = 10.0

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Returns the observations [B, *shape] as float32 with mean about 0 and variance about 1, clipped to [-10, 10].

        Before the first update, observations are only clipped.
        """
        if self.count == 0:
            return np.clip(observations, -self.CLIP, self.CLIP).astype(np.float32)

        standardised = (observations - self.mean) / self.std  # [B, *shape]
        return np.clip(standardised, -self.CLIP, self.CLIP).astype(np.float32)
