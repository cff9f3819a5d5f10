"""What the networks see of observations: vectors are standardised, images are left as they are."""

from __future__ import annotations

from typing import Protocol

import gymnasium as gym
import numpy as np

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


def make_filter(observation_space: gym.Space) -> Filter:
    """A new filter for observations: an `ObservationFilter` for vectors, else none."""
    shape = observation_space.shape or ()
    return ObservationFilter(shape) if len(shape) == 1 else NoFilter()


def filtered_space(observation_space: gym.Space) -> gym.Space:
    """What the networks see of a space: vectors become float32 without limits, whatever their type and limits are."""
    if not (isinstance(observation_space, gym.spaces.Box) and len(observation_space.shape) == 1):
        return observation_space
    return gym.spaces.Box(-np.inf, np.inf, observation_space.shape, np.float32)
