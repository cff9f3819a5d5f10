"""Actions that consist of several choices, as a MultiDiscrete space, which every learner of discrete actions knows."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from common.errors import UserError, brief


class Choices(gym.ActionWrapper):
    """Takes actions of a MultiBinary space, or of a Tuple of discrete ones, as those of a flat MultiDiscrete space.

    A MultiBinary is one choice of two for each of its bits. The choices of a Tuple's parts stand one after the other.

    Raises:
      UserError: a part of a Tuple is not discrete.
    """

    state_attributes = ()

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._space = env.action_space
        parts = [_as_choices(part) for part in _parts(self._space)]
        self._ends = np.cumsum([part.nvec.size for part in parts])[:-1]
        sizes = np.concatenate([part.nvec for part in parts])
        starts = np.concatenate([part.start for part in parts])
        self.action_space = spaces.MultiDiscrete(sizes, start=starts)

    def action(self, action: np.ndarray) -> Any:
        """The action as the environment takes it, of choices [M]."""
        pairs = zip(_parts(self._space), np.split(np.asarray(action), self._ends), strict=True)
        found = tuple(_as_action(part, choices) for part, choices in pairs)
        return found if isinstance(self._space, spaces.Tuple) else found[0]


def with_choices(env: gym.Env) -> gym.Env:
    """An environment whose actions are a Discrete, MultiDiscrete or Box, or whatever else learners will refuse."""
    return Choices(env) if isinstance(env.action_space, spaces.MultiBinary | spaces.Tuple) else env


def _parts(space: spaces.Space) -> tuple[spaces.Space, ...]:
    return space.spaces if isinstance(space, spaces.Tuple) else (space,)


def _as_choices(part: spaces.Space) -> spaces.MultiDiscrete:
    """The choices of a discrete space, in one row."""
    if isinstance(part, spaces.Discrete):
        return spaces.MultiDiscrete([part.n], start=[part.start])
    if isinstance(part, spaces.MultiBinary):
        return spaces.MultiDiscrete(np.full(np.prod(part.shape), 2))
    if isinstance(part, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(part.nvec.ravel(), start=part.start.ravel())
    raise UserError(
        f"--env: a part of its actions is a {brief(part)}; must be Discrete, MultiDiscrete or MultiBinary in a Tuple"
    )


def _as_action(part: spaces.Space, choices: np.ndarray) -> Any:
    """What choices [M] of a part are in its own space."""
    dtype = part.dtype or np.dtype(np.int64)
    return dtype.type(choices[0]) if isinstance(part, spaces.Discrete) else choices.reshape(part.shape).astype(dtype)
