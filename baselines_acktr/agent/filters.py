"""What the networks see of observations: vectors are standardised, images are left as they are, also side by side."""

from __future__ import annotations

from typing import Protocol

import gymnasium as gym
import numpy as np

from common.joined_space import JoinedBox, Part
from common.mpi import ALONE, Communicator
from common.named_arrays import Arrays
from common.running_mean_std import ObservationFilter


class Filter(Protocol):
    """What a policy needs of a filter; `ObservationFilter` is one."""

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Observations [B, ...] as the networks see them."""
        ...

    def update(self, rows: np.ndarray, comm: Communicator = ALONE) -> object:
        """Learns from the observations [B, ...] of all ranks."""
        ...

    def state(self) -> Arrays:
        """Everything that `update` changes, by name, copied."""
        ...

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned."""
        ...


class NoFilter:
    """Leaves observations as they are."""

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """The observations [B, ...] themselves."""
        return observations

    def update(self, rows: np.ndarray, comm: Communicator = ALONE) -> None:
        """Learns nothing."""

    def state(self) -> Arrays:
        """Nothing: it has no state."""
        return {}

    def set_state(self, arrays: Arrays) -> None:
        """Takes nothing back."""


class PartsFilter:
    """Standardises the vectors of joined observations, and leaves their images as they are.

    Attributes:
      mean, std: of all numbers of an observation, [D]; 0 and 1 for those of images.
      CLIP: what they are clipped to, [D].

    Args:
      space: of the observations.
    """

    def __init__(self, space: JoinedBox) -> None:
        self._is_vector = space.is_vector  # [D]
        self._vectors = ObservationFilter((int(self._is_vector.sum()),))

    @property
    def count(self) -> int:
        """Of how many rows the moments are."""
        return self._vectors.count

    @property
    def mean(self) -> np.ndarray:
        return self._spread(self._vectors.mean, 0)

    @property
    def std(self) -> np.ndarray:
        return self._spread(self._vectors.std, 1)

    @property
    def CLIP(self) -> np.ndarray:
        return self._spread(ObservationFilter.CLIP, np.inf)

    def _spread(self, of_vectors: np.ndarray | float, of_images: float) -> np.ndarray:
        """Numbers of the vectors, and one for all of the images, each in its place, [D]."""
        everywhere = np.full(self._is_vector.shape, of_images, np.float64)
        everywhere[self._is_vector] = of_vectors
        return everywhere

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Observations [B, D] as the networks see them, float32."""
        seen = np.array(observations, np.float32)
        seen[..., self._is_vector] = self._vectors(observations[..., self._is_vector])
        return seen

    def update(self, rows: np.ndarray, comm: Communicator = ALONE) -> None:
        """Learns from the observations [B, D] of all ranks."""
        self._vectors.update(rows[:, self._is_vector], comm)

    def state(self) -> Arrays:
        """What `update` changes, by name, copied: the moments of the vectors alone."""
        return self._vectors.state()

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned."""
        self._vectors.set_state(arrays)


def make_filter(observation_space: gym.Space) -> Filter:
    """A new filter for observations, which standardises vectors alone; none for images."""
    if isinstance(observation_space, JoinedBox):
        return PartsFilter(observation_space) if observation_space.is_vector.any() else NoFilter()
    shape = observation_space.shape or ()
    return ObservationFilter(shape) if len(shape) == 1 else NoFilter()


def filtered_space(observation_space: gym.Space) -> gym.Space:
    """What the networks see of a space: vectors become float32 without limits, whatever their type and limits are."""
    if isinstance(observation_space, JoinedBox):
        return JoinedBox([_filtered_part(part) for part in observation_space.parts])
    if not (isinstance(observation_space, gym.spaces.Box) and len(observation_space.shape) == 1):
        return observation_space
    return gym.spaces.Box(-np.inf, np.inf, observation_space.shape, np.float32)


def _filtered_part(part: Part) -> Part:
    return part if part.image else Part(part.path, gym.spaces.Box(-np.inf, np.inf, (part.size,), np.float32))
