"""What Gymnasium's MuJoCo tasks (versions 4 and 5) have in common, computed for all simulations at once.

A task defines what the agent observes, its reward, when an episode ends and where the next one starts. The results and
the constants are those of Gymnasium's environment with the same id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.vec_env.mujoco.physics import Simulations


class Task:
    """A task that runs in `N` simulations.

    Attributes:
      skipped: number of leading positions that are not observed.
      normal_velocities: whether initial velocities are drawn from a normal instead of a uniform distribution.
      contact_forces: whether the task needs contact forces. The option `use_contact_forces` takes precedence.
      memory: `[N]`, what the next reward needs to know about the current state.
    """

    skipped = 0
    normal_velocities = False
    contact_forces = False
    memory: np.ndarray

    def __init__(self, sims: Simulations, options: Mapping[str, Any], version: int) -> None:
        """Prepares the task.

        Args:
          sims: simulations of the task's model.
          options: arguments of Gymnasium's environment, by name.
          version: 4 or 5.
        """
        self._sims = sims
        self._options = options
        self._version = version
        excludes = options.get("exclude_current_positions_from_observation", True)
        start = self.skipped if excludes else 0
        self._seen = sims.coordinates[:, start:]  # [N, nq + nv - start], a view
        self._prepare()
        self.memory = self._remembered()

    def observations(self) -> np.ndarray:
        """Returns the observations in a new array, float32 `[N, D]`."""
        return self._seen.astype(np.float32)

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the outcome of a step.

        Args:
          actions: `[N, nu]`, the actions of the step.

        Returns:
          Rewards, float64 `[N]`, and terminations, bool `[N]`.
        """
        raise NotImplementedError

    def initial_state(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws the positions `[nq]` and velocities `[nv]` at the start of an episode."""
        model = self._sims.model
        scale = self._options["reset_noise_scale"]
        qpos = model.qpos0 + rng.uniform(-scale, scale, model.nq)

        if self.normal_velocities:
            return qpos, scale * rng.standard_normal(model.nv)
        return qpos, rng.uniform(-scale, scale, model.nv)

    def remember(self, rows: np.ndarray) -> None:
        """Updates `memory` for the simulations that started a new episode; `rows` is int `[M]`."""
        self.memory[rows] = self._remembered()[rows]

    def _prepare(self) -> None:
        """Looks up what the task needs besides the state. The constructor calls it."""

    def _remembered(self) -> np.ndarray:
        """Computes `memory` from the current state, in a new array `[N]`."""
        return np.zeros(self._sims.num_envs)

    def _never(self) -> np.ndarray:
        return np.zeros(self._sims.num_envs, bool)


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenates parts of observations, `[N, d]` each, to float32 `[N, D]`."""
    return np.concatenate(parts, axis=1, dtype=np.float32)


def flat(values: np.ndarray, skip: int) -> np.ndarray:
    """Removes the first `skip` entries of the second axis and flattens the rest: `[N, K, ...]` to `[N, D]`."""
    size = int(np.prod(values.shape[2:]))
    return values.reshape(len(values), -1)[:, skip * size :]


def square_sum(values: np.ndarray) -> np.ndarray:
    """Returns the sums of squares `[N]` of the rows of `[N, ...]`; each to the bit that of its row alone."""
    return np.square(values).reshape(len(values), -1).sum(1)


def norm(vectors: np.ndarray) -> np.ndarray:
    """Returns the lengths `[N]` of vectors `[N, 3]`, exactly as `numpy.linalg.norm` of each of them."""
    return np.sqrt(np.vecdot(vectors, vectors))
