"""What is common to Gymnasium's MuJoCo tasks, versions 4 and 5, computed for all simulations at once.

What an agent observes, its reward, when its episode ends and where the next one starts: each task gives what
Gymnasium's environment of the same id gives, and has its constants from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.vec_env.mujoco.physics import Simulations


class Task:
    """One task of `N` simulations.

    Attributes:
      skipped: leading positions that are not observed.
      normal_velocities: velocities start from a normal, not from a uniform distribution.
      contact_forces: the task needs them, unless the option `use_contact_forces` says otherwise.
      memory: `[N]`, what the next reward needs to know of the present state.
    """

    skipped = 0
    normal_velocities = False
    contact_forces = False
    memory: np.ndarray

    def __init__(self, sims: Simulations, options: Mapping[str, Any], version: int) -> None:
        """Prepares the task.

        Args:
          sims: the simulations of its model.
          options: the arguments of Gymnasium's environment, by name.
          version: 4 or 5.
        """
        self._sims = sims
        self._options = options
        self._version = version
        excludes = options.get("exclude_current_positions_from_observation", True)
        self._seen = sims.coordinates[:, self.skipped if excludes else 0 :]
        self._prepare()
        self.memory = self._remembered()

    def observations(self) -> np.ndarray:
        """Returns float32 `[N, D]`, a fresh array."""
        return self._seen.astype(np.float32)

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rewards (float64 `[N]`) and terminations (bool `[N]`) of a step with `actions` `[N, nu]`."""
        raise NotImplementedError

    def initial_state(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws the positions `[nq]` and velocities `[nv]` with which an episode starts."""
        model, scale = self._sims.model, self._options["reset_noise_scale"]
        qpos = model.qpos0 + rng.uniform(-scale, scale, model.nq)
        if self.normal_velocities:
            return qpos, scale * rng.standard_normal(model.nv)
        return qpos, rng.uniform(-scale, scale, model.nv)

    def remember(self, rows: np.ndarray) -> None:
        """Takes note of the first states of episodes; `rows` int `[M]`."""
        self.memory[rows] = self._remembered()[rows]

    def _prepare(self) -> None:
        """Binds what the task needs besides the state."""

    def _remembered(self) -> np.ndarray:
        """A fresh array `[N]`."""
        return np.zeros(self._sims.num_envs)

    def _never(self) -> np.ndarray:
        return np.zeros(self._sims.num_envs, bool)


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenates parts `[N, d]` of observations to float32 `[N, D]`."""
    return np.concatenate(parts, axis=1, dtype=np.float32)


def flat(values: np.ndarray, skip: int) -> np.ndarray:
    """Views `[N, K, ...]` without the first `skip` of `K` as `[N, D]`."""
    size = int(np.prod(values.shape[2:]))
    return values.reshape(len(values), -1)[:, skip * size :]


def square_sum(values: np.ndarray) -> np.ndarray:
    """Sums the squares of `[N, ...]` by row, to the bit as one row alone would."""
    return np.square(values).reshape(len(values), -1).sum(1)


def norm(vectors: np.ndarray) -> np.ndarray:
    """Lengths `[N]` of `[N, 3]`, to the bit as `numpy.linalg.norm` of one."""
    return np.sqrt(np.vecdot(vectors, vectors))
