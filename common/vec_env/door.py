"""Checks at the boundary of an environment: does it do what it declares, and does the caller ask what is allowed?

`CheckedEnv` compares the declared spaces with the first reset and the first step, and costs nothing afterwards. Later
errors are reported by `ResumableEnv` and by the worker processes. The functions check actions, seeds and options.
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
    """Checks the spaces of an environment on construction, and the results of its first reset and first step.

    Some simulators return rewards and end flags of shape (1,). They are converted to numbers and booleans.

    Args:
      env: the environment with all the wrappers that it is registered with.
      name: name of the environment for error messages, such as "--env=My-v0: environment 3".

    Raises:
      UserError: one line that says what the environment declared or returned, and what is allowed.
    """

    state_attributes = ()

    def __init__(self, env: gym.Env, name: str) -> None:
        super().__init__(env)
        self._name = name
        self._check_spaces()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment. The first call checks what it returns."""
        try:
            result: Any = self.env.reset(seed=seed, options=options)
        except TypeError as error:
            missing = [f"unexpected keyword argument '{name}'" for name in ("seed", "options")]
            if any(text in str(error) for text in missing):
                raise UserError(f"{self._name}: reset: {brief(error)}; it {_RESET}") from error
            raise

        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise self._error("reset", f"returned {_kinds(result)}; it {_RESET}")

        self._check_observation("reset", result[0])
        self.__dict__["reset"] = self.env.reset  # later resets are not checked

        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment. The first call checks what it returns."""
        result: Any = self.env.step(action)
        if not (isinstance(result, tuple) and len(result) == 5 and isinstance(result[4], dict)):
            old = " of the old Gym API" if isinstance(result, tuple) and len(result) == 4 else ""
            raise self._error("step", f"returned {_kinds(result)}{old}; it {_STEP}")

        self._check_observation("step", result[0])
        plain = [
            self._is_plain("reward", result[1], "biuf", "a number"),
            self._is_plain("terminated", result[2], "bi", "a boolean"),
            self._is_plain("truncated", result[3], "bi", "a boolean"),
        ]

        if all(plain):
            self.__dict__["step"] = self.env.step
            return result
        self.__dict__["step"] = self._scalar_step
        return _scalars(result)

    def _scalar_step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return _scalars(self.env.step(action))

    def _is_plain(self, what: str, value: Any, kinds: str, words: str) -> bool:
        """Returns whether a value is a scalar; raises UserError if it cannot be converted to one."""
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
            raise self._error(
                "observation_space", f"its shape is {shape}; an observation must have at least one number"
            )

        actions = self.action_space
        if isinstance(actions, spaces.Box) and (actions.shape == () or 0 in actions.shape):
            raise self._error("action_space", f"its shape is {actions.shape}; a Box must have at least one dimension")

    def _check_observation(self, when: str, observation: Any) -> None:
        if wrong := _misfit(self.observation_space, observation, "its observation"):
            raise self._error(when, wrong)

    def _error(self, where: str, text: str) -> UserError:
        return UserError(f"{self._name}: {where}: {text}")


def _misfit(space: spaces.Space, value: Any, name: str) -> str:
    """Describes how a value differs from its space in shape, type or structure; "" if it does not.

    Bounds are not checked.
    """
    if isinstance(space, spaces.Box):
        array = _as_array(value)
        if array.shape != space.shape:
            return f"{name} has shape {array.shape}; its space declares {space.shape}"
        if not np.can_cast(array.dtype, space.dtype, "same_kind"):
            return f"{name} has dtype {array.dtype}; its space declares {space.dtype}"
        return ""

    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.keys():
            given = list(value) if isinstance(value, dict) else _kind(value)
            return f"{name} is {brief(given)}; its space declares a dict of {brief(list(space))}"
        parts = (_misfit(space[key], value[key], f"{name}[{key!r}]") for key in space)
        return next(filter(None, parts), "")

    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space):
            return f"{name} is {_kind(value)}; its space declares a tuple of {len(space)}"
        parts = (_misfit(part, value[i], f"{name}[{i}]") for i, part in enumerate(space))
        return next(filter(None, parts), "")

    if space.contains(value):
        return ""
    return f"{name} is {_kind(value)}, {brief(value, 40)}; its space declares {brief(space)}"


def _as_array(value: Any) -> np.ndarray:
    """Converts a value to an array, or to an empty array of objects if that is impossible."""
    with contextlib.suppress(ValueError, TypeError):
        return np.asarray(value)
    return np.empty((), object)


def _kind(value: Any) -> str:
    """Describes a value in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    if value is None:
        return "None"

    name = type(value).__name__
    name = f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
    if isinstance(value, tuple | list):
        return f"{name} of {len(value)}"
    return name


def _kinds(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values ({brief(', '.join(map(_kind, value)), 200)})"
    return _kind(value)


def _scalars(result: tuple[Any, Any, Any, Any, dict[str, Any]]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Converts the reward and the end flags of a step from shape (1,) to a number and booleans."""
    observation, reward, terminated, truncated, info = result
    return observation, np.asarray(reward).item(), bool(terminated), bool(truncated), info


def action_check(space: spaces.Space, num_envs: int) -> Callable[[Any], Any]:
    """Returns a function that checks a batch of actions before any environment is stepped.

    The function takes the actions and returns them as an array. If an action is wrong it raises ValueError, which names
    the first environment concerned, its action and what is allowed. Only Discrete, MultiDiscrete and Box actions are
    checked.

    Args:
      space: action space of one environment.
      num_envs: number of environments N.
    """
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        last = int(space.start + space.n - 1)
        return _integers((num_envs,), np.array(first), np.array(last), f"{first} to {last}")

    if isinstance(space, spaces.MultiDiscrete):
        start = space.start
        end = space.start + space.nvec - 1
        return _integers((num_envs, *space.shape), start, end, f"{start.tolist()} to {end.tolist()}")

    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _finite((num_envs, *space.shape))

    return lambda actions: actions


def _integers(shape: tuple[int, ...], low: np.ndarray, high: np.ndarray, allowed: str) -> Callable[[Any], np.ndarray]:
    first = int(low.max())
    last = int(high.min())

    def check(actions: Any) -> np.ndarray:
        array = np.asarray(actions)
        if array.shape != shape or array.dtype.kind not in "iu":
            raise ValueError(f"actions: expected integers of shape {shape}, got {array.dtype} {array.shape}")

        if array.ndim == 1:  # for so few numbers Python is quicker than NumPy
            numbers = array.tolist()
            if first <= min(numbers) and max(numbers) <= last:
                return array

        wrong = (array < low) | (array > high)  # [N, ...]
        if wrong.any():
            raise _refused(array, wrong, allowed)
        return array

    return check


def _finite(shape: tuple[int, ...]) -> Callable[[Any], np.ndarray]:
    def check(actions: Any) -> np.ndarray:
        array = np.asarray(actions)
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise ValueError(f"actions: expected numbers of shape {shape}, got {array.dtype} {array.shape}")

        finite = np.isfinite(array)  # [N, ...]
        if not finite.all():
            raise _refused(array, ~finite, "finite numbers")
        return array

    return check


def _refused(actions: np.ndarray, wrong: np.ndarray, allowed: str) -> ValueError:
    by_environment = wrong.reshape(len(actions), -1).any(axis=1)  # [N]
    index = int(by_environment.argmax())
    return ValueError(f"actions: environment {index} got {brief(actions[index].tolist())}, allowed are {allowed}")


def checked_seed(seed: Any, num_envs: int) -> int | list[int | None] | None:
    """Checks the seed of `reset` and converts it to an int, None, or a list with one entry per environment.

    Raises:
      UserError: a seed is negative or not a whole number, or the list does not have `num_envs` entries.
    """
    if seed is None:
        return None

    if _is_seed(seed):
        return int(seed)

    is_list = isinstance(seed, list | tuple | np.ndarray) and np.ndim(seed) == 1 and len(seed) == num_envs
    if not is_list or not all(one is None or _is_seed(one) for one in seed):
        raise UserError(
            f"seed={brief(seed)}: must be a whole number of at least 0, or a list of such or None, one for each of the "
            f"{num_envs} environments"
        )
    return [None if one is None else int(one) for one in seed]


def _is_seed(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 0)


def checked_options(options: dict[str, Any] | None, num_envs: int) -> tuple[dict[str, Any] | None, np.ndarray | None]:
    """Returns a copy of the options of `reset`, and their `reset_mask` (bool [N]; None if there is none).

    Raises:
      UserError: the mask has another shape or type, or is true nowhere.
    """
    if options is None:
        return None, None

    mask = options.get("reset_mask")
    if mask is not None:
        fits = isinstance(mask, np.ndarray) and mask.shape == (num_envs,) and mask.dtype == bool
        if not fits or not mask.any():
            raise UserError(f"reset_mask={brief(mask)}: must be a boolean array of shape ({num_envs},), true somewhere")

    return dict(options), mask


def seed_list(seed: int | list[int | None] | None, num_envs: int) -> list[int | None]:
    """Returns one seed per environment: the given list, or `seed`, `seed + 1`, ..., or None for each."""
    if isinstance(seed, list):
        return seed
    return [None if seed is None else seed + i for i in range(num_envs)]
