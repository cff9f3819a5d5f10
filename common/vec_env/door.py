"""What an environment says of itself is held against what it does, at its first reset and its first step.

From then on the check costs nothing: `CheckedEnv` steps aside. What fails later is named by `ResumableEnv` and the
worker processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from common.errors import UserError, brief

_RESET = "must return (observation, info) and take the keywords seed and options, as gymnasium.Env does"
_STEP = "must return (observation, reward, terminated, truncated, info), as gymnasium.Env does"


class CheckedEnv(gym.Wrapper):
    """Checks the spaces of an environment when it is made, and what it returns from its first reset and step.

    Rewards and ends of shape (1,), as simulators return them, are handed on as numbers.

    Args:
      env: as it is registered, with its own wrappers.
      name: of it, for messages, such as "--env=My-v0: environment 3".

    Raises:
      UserError: in one line with that name, what it gave and what is allowed.
    """

    state_attributes = ()

    def __init__(self, env: gym.Env, name: str) -> None:
        super().__init__(env)
        self._name = name
        self._check_spaces()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets, the first time with the check."""
        try:
            result: Any = self.env.reset(seed=seed, options=options)
        except TypeError as error:
            if "unexpected keyword argument 'seed'" in str(error) or "unexpected keyword argument 'options'" in str(
                error
            ):
                raise UserError(f"{self._name}: reset: {brief(error)}; it {_RESET}") from error
            raise
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise self._error("reset", f"returned {_kinds(result)}; it {_RESET}")
        self._check_observation("reset", result[0])
        self.__dict__["reset"] = self.env.reset
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, the first time with the check."""
        result: Any = self.env.step(action)
        if not (isinstance(result, tuple) and len(result) == 5 and isinstance(result[4], dict)):
            old = " of the old Gym API" if isinstance(result, tuple) and len(result) == 4 else ""
            raise self._error("step", f"returned {_kinds(result)}{old}; it {_STEP}")
        self._check_observation("step", result[0])
        plain = self._is_plain("reward", result[1], "biuf", "a number")
        plain &= all(
            [self._is_plain(name, result[i], "bi", "a boolean") for i, name in ((2, "terminated"), (3, "truncated"))]
        )
        self.__dict__["step"] = self.env.step if plain else self._scalar_step
        return result if plain else _scalars(result)

    def _scalar_step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return _scalars(self.env.step(action))

    def _is_plain(self, what: str, value: Any, kinds: str, words: str) -> bool:
        """Whether a value is a number as it is; raises where it cannot be taken for one."""
        array = _as_array(value)
        if array.dtype.kind not in kinds or array.size != 1:
            raise self._error("step", f"its {what} is {_kind(value)}; it must be {words}")
        return array.ndim == 0

    def _check_spaces(self) -> None:
        for what in ("observation_space", "action_space"):
            space = getattr(self.env, what, None)
            if not isinstance(space, spaces.Space):
                raise self._error(what, f"is {_kind(space)}; it must be one of gymnasium.spaces")
        shape = self.observation_space.shape
        if shape is not None and 0 in shape:
            raise self._error("observation_space", f"its shape is {shape}; an observation must have a number at least")
        actions = self.action_space
        if isinstance(actions, spaces.Box) and (actions.shape == () or 0 in actions.shape):
            raise self._error("action_space", f"its shape is {actions.shape}; a Box must have a dimension at least")

    def _check_observation(self, when: str, observation: Any) -> None:
        if wrong := _misfit(self.observation_space, observation, "its observation"):
            raise self._error(when, wrong)

    def _error(self, where: str, text: str) -> UserError:
        return UserError(f"{self._name}: {where}: {text}")


def _misfit(space: spaces.Space, value: Any, name: str) -> str:
    """Says in which way a value is not of a space; "" where it is, limits aside."""
    if isinstance(space, spaces.Box):
        array = _as_array(value)
        if array.shape != space.shape:
            return f"{name} is of shape {array.shape}; its space says {space.shape}"
        if not np.can_cast(array.dtype, space.dtype, "same_kind"):
            return f"{name} is of {array.dtype}; its space says {space.dtype}"
        return ""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.keys():
            given = list(value) if isinstance(value, dict) else _kind(value)
            return f"{name} is {brief(given)}; its space says a dict of {brief(list(space))}"
        return next(filter(None, (_misfit(space[key], value[key], f"{name}[{key!r}]") for key in space)), "")
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space):
            return f"{name} is {_kind(value)}; its space says a tuple of {len(space)}"
        parts = (_misfit(part, item, f"{name}[{i}]") for i, (part, item) in enumerate(zip(space, value, strict=True)))
        return next(filter(None, parts), "")
    return (
        "" if space.contains(value) else f"{name} is {_kind(value)}, {brief(value, 40)}; its space says {brief(space)}"
    )


def _as_array(value: Any) -> np.ndarray:
    """The value as an array; of objects where it cannot be one."""
    with contextlib.suppress(ValueError, TypeError):
        return np.asarray(value)
    return np.empty((), object)


def _kind(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    if value is None:
        return "None"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")


def _kinds(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values ({brief(', '.join(map(_kind, value)), 200)})"
    return _kind(value)


def _scalars(result: tuple[Any, Any, Any, Any, dict[str, Any]]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """What a step returned, with a number for a reward, and booleans for the ends, of shape (1,)."""
    observation, reward, terminated, truncated, info = result
    return observation, np.asarray(reward).item(), bool(terminated), bool(truncated), info


def action_check(space: spaces.Space, num_envs: int) -> Callable[[Any], Any]:
    """Returns what looks at a batch of actions before any environment is stepped, and gives it back as an array.

    It raises ValueError, naming the first environment whose action is wrong, its action, and what is allowed. Actions
    of other spaces than Discrete, MultiDiscrete and Box are left alone.

    Args:
      space: of the actions of one environment.
      num_envs: number of environments.
    """
    if isinstance(space, spaces.Discrete):
        first, last = int(space.start), int(space.start + space.n - 1)
        return _integers((num_envs,), np.array(first), np.array(last), f"{first} to {last}")
    if isinstance(space, spaces.MultiDiscrete):
        start, end = space.start, space.start + space.nvec - 1
        return _integers((num_envs, *space.shape), start, end, f"{start.tolist()} to {end.tolist()}")
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _finite((num_envs, *space.shape))
    return lambda actions: actions


def _integers(shape: tuple[int, ...], low: np.ndarray, high: np.ndarray, allowed: str) -> Callable[[Any], np.ndarray]:
    first, last = int(low.max()), int(high.min())

    def check(actions: Any) -> np.ndarray:
        array = np.asarray(actions)
        if array.shape != shape or array.dtype.kind not in "iu":
            raise ValueError(f"actions: expected integers of shape {shape}, got {array.dtype} {array.shape}")
        if array.ndim > 1 or min(numbers := array.tolist()) < first or max(numbers) > last:  # quicker for a few
            wrong = (array < low) | (array > high)
            if wrong.any():
                raise _refused(array, wrong, allowed)
        return array

    return check


def _finite(shape: tuple[int, ...]) -> Callable[[Any], np.ndarray]:
    def check(actions: Any) -> np.ndarray:
        array = np.asarray(actions)
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise ValueError(f"actions: expected numbers of shape {shape}, got {array.dtype} {array.shape}")
        finite = np.isfinite(array)
        if not finite.all():
            raise _refused(array, ~finite, "finite numbers")
        return array

    return check


def _refused(actions: np.ndarray, wrong: np.ndarray, allowed: str) -> ValueError:
    index = int(wrong.reshape(len(actions), -1).any(axis=1).argmax())
    return ValueError(f"actions: environment {index} got {brief(actions[index].tolist())}, allowed are {allowed}")


def checked_seed(seed: Any, num_envs: int) -> int | list[int | None] | None:
    """A seed of `reset` as an int, None, or a list with one for each environment.

    Raises:
      UserError: it is negative, no whole number, or the list is of another length.
    """
    if seed is None:
        return None
    several = list(seed) if isinstance(seed, list | tuple | np.ndarray) and np.ndim(seed) == 1 else None
    each = [seed] if several is None else several
    whole = all(
        one is None or (isinstance(one, int | np.integer) and not isinstance(one, bool) and one >= 0) for one in each
    )
    if not whole or (several is not None and len(several) != num_envs):
        raise UserError(
            f"seed={brief(seed)}: must be a whole number of at least 0, or a list of such or None, one for each of the "
            f"{num_envs} environments"
        )
    return int(seed) if several is None else [None if one is None else int(one) for one in several]


def checked_options(options: dict[str, Any] | None, num_envs: int) -> tuple[dict[str, Any] | None, np.ndarray | None]:
    """A copy of the options of `reset`, and its `reset_mask`, bool [N], where it has one.

    Raises:
      UserError: the mask is of another shape or type, or true nowhere.
    """
    if options is None:
        return None, None
    mask = options.get("reset_mask")
    if mask is not None:
        wrong = not isinstance(mask, np.ndarray) or mask.shape != (num_envs,) or mask.dtype != bool or not mask.any()
        if wrong:
            raise UserError(f"reset_mask={brief(mask)}: must be a boolean array of shape ({num_envs},), true somewhere")
    return dict(options), mask


def seed_list(seed: int | list[int | None] | None, num_envs: int) -> list[int | None]:
    """The seed of each environment: those of a list, `seed` and its successors, or None for each."""
    if isinstance(seed, list):
        return seed
    return [None if seed is None else seed + i for i in range(num_envs)]
