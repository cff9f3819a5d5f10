"""Observations as a caller gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from common.errors import UserError, brief
from common.joined_space import JoinedBox, as_array

_FLATTEN = (
    "; gymnasium.spaces.flatten(env.observation_space, observation) makes it of those of another space than a Box"
)


def as_batch(observation: Any, space: gym.Space) -> tuple[np.ndarray, bool]:
    """One observation, or a batch of them, as a batch.

    Args:
      observation: of the shape of `space`, or [N, ...]; where the space has joined several parts, also a dict or tuple
        of these, as the environment itself gives it.
      space: of one environment.

    Returns:
      Observations [N, ...], and whether it was one alone.

    Raises:
      UserError: the observation is of another shape, or is not of finite numbers.
    """
    is_pair = isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict)
    if is_pair and not (isinstance(space, JoinedBox) and space.is_tuple):
        raise UserError("observation: is what reset returns, (observation, info); give the first of the two")

    alone = None
    if isinstance(space, JoinedBox) and isinstance(observation, Mapping | tuple):
        observation, alone = space.join(observation)
    allowed = f"of shape {space.shape}, or a batch of such"
    observations = _as_numbers(observation, allowed)
    if not np.isfinite(observations).all():
        raise UserError(f"observation: must be finite numbers, got {brief(observation)}")

    if alone is not None:
        return observations, alone
    if observations.shape == space.shape:
        return observations[None], True
    if observations.shape[1:] == space.shape:
        return observations, False
    raise UserError(f"observation of shape {observations.shape}: must be {allowed}, as from make_vec_env{_FLATTEN}")


def as_rows(observations: Any, space: gym.Space) -> np.ndarray:
    """A batch of observations [N, ...]; whether they are finite is not looked at.

    Raises:
      UserError: they are not numbers, or of another shape, such as one observation alone.
    """
    allowed = f"a batch [N, ...] of observations of shape {space.shape}"
    found = _as_numbers(observations, allowed)
    if found.ndim == 0 or found.shape[1:] != space.shape:
        raise UserError(f"observations of shape {found.shape}: must be {allowed}; predict also takes one alone")
    return found


def _as_numbers(observation: Any, allowed: str) -> np.ndarray:
    """What is given as an array of numbers of at most double precision; raises UserError, saying what is allowed."""
    found = None if isinstance(observation, Mapping) else as_array(observation)
    if found is None:
        given = "a dict" if isinstance(observation, Mapping) else "parts of several shapes"
        raise UserError(f"observation: must be {allowed}, got {given}{_FLATTEN}")
    if found.dtype.kind not in "biuf":
        raise UserError(f"observation: must be finite numbers, got {brief(observation)}")
    return found.astype(np.float64) if found.dtype == np.longdouble else found


def as_shaped(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An argument as an array of a shape and type.

    Raises:
      UserError: it is of another shape, or is not of finite numbers.
    """
    array = as_array(value)
    if array is None or array.dtype.kind not in "biuf" or array.shape != shape or not np.isfinite(array).all():
        raise UserError(f"{name}: must be finite numbers of shape {shape}, got {brief(value)}")
    return array.astype(dtype)
