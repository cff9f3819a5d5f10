"""Observations as a caller gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from common.errors import UserError, brief
from common.joined_space import JoinedBox


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
    observations = np.asarray(observation)
    if observations.dtype.kind not in "biuf" or not np.isfinite(observations).all():
        raise UserError(f"observation: must be finite numbers, got {brief(observation)}")

    if alone is not None:
        return observations, alone
    if observations.shape == space.shape:
        return observations[None], True
    if observations.shape[1:] == space.shape:
        return observations, False
    raise UserError(
        f"observation of shape {observations.shape}: must be of shape {space.shape}, or a batch of such, as from "
        "make_vec_env (gymnasium.spaces.flatten makes it of other spaces than a Box)"
    )


def as_shaped(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An argument as an array of a shape and type.

    Raises:
      UserError: it is of another shape, or is not of finite numbers.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.shape != shape or not np.isfinite(array).all():
        raise UserError(f"{name}: must be finite numbers of shape {shape}, got {brief(value)}")
    return array.astype(dtype)
