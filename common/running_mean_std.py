"""Running mean and standard deviation, and the filter of observations built on them."""

from __future__ import annotations

import numpy as np

from common.mpi import ALONE, Communicator


def moments(rows: np.ndarray, comm: Communicator = ALONE) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance, float64 of a row's shape, of the rows [B, ...] of all ranks, which have as many each."""
    rows = np.asarray(rows, np.float64)
    means, variances = comm.stack(np.stack([rows.mean(axis=0), rows.var(axis=0)])).swapaxes(0, 1)
    return means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)


class RunningMeanStd:
    """Mean and variance of everything seen so far (Chan et al. 1979: moments of two sets combined), in float64.

    Attributes:
      count: how many rows were seen, at most `memory`.
      mean, var: of the given shape; 0 and 1 before the first row.

    Args:
      shape: of a row.
      memory: rows that count for all that came before a batch, so that older ones fade; None: all of them.
    """

    def __init__(self, shape: tuple[int, ...], memory: int | None = None) -> None:
        self.count, self._memory = 0, memory
        self.mean, self.var = np.zeros(shape), np.ones(shape)

    def update(self, rows: np.ndarray, comm: Communicator = ALONE) -> tuple[np.ndarray, np.ndarray]:
        """Takes in rows [B, *shape], those of all ranks; returns their own mean and variance."""
        new = len(rows) * comm.size
        count = self.count + new
        mean, var = moments(rows, comm)
        weight = new / count
        shift = mean - self.mean
        self.var = (1 - weight) * self.var + weight * var + weight * (1 - weight) * np.square(shift)
        self.mean = self.mean + weight * shift
        self.count = count if self._memory is None else min(count, self._memory)
        return mean, var

    @property
    def std(self) -> np.ndarray:
        """Standard deviation, of the given shape; never 0."""
        return np.sqrt(self.var) + 1e-8

    def state(self) -> dict[str, np.ndarray]:
        """Everything it knows, by name, copied."""
        return {"count": np.array(self.count, np.int64), "mean": self.mean.copy(), "var": self.var.copy()}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs."""
        mean, var = arrays["mean"], arrays["var"]
        if mean.shape != self.mean.shape or var.shape != self.var.shape:
            raise ValueError(f"running mean of shape {mean.shape}, expected {self.mean.shape}")
        self.count, self.mean, self.var = int(arrays["count"]), mean.copy(), var.copy()


class ObservationFilter(RunningMeanStd):
    """Standardises observations with their running mean and deviation, and clips them (OpenAI Baselines' ZFilter)."""

    CLIP = 10.0

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Observations [B, *shape] as float32 of about mean 0 and variance 1, within +-10."""
        if self.count == 0:
            return np.clip(observations, -self.CLIP, self.CLIP).astype(np.float32)
        return np.clip((observations - self.mean) / self.std, -self.CLIP, self.CLIP).astype(np.float32)
