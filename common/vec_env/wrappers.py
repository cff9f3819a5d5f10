"""Wrappers that give Gymnasium's environments and vector environments the contract of `common.vec_env`."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import VectorEnv, VectorWrapper

from common.joined_space import JoinedBox, parts_of
from common.named_arrays import Arrays, with_prefix, without_prefix
from common.vec_env.door import action_check, checked_options, checked_seed

StepResult = tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class FlatObservation(gym.wrappers.FlattenObservation):
    """Flattens observations that are not a Box (Discrete, MultiBinary, Tuple, Dict, ...) into one vector.

    Categories become one-hot vectors.
    """

    state_attributes = ()

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        has_image = any(len(part.space.shape or ()) == 3 for part in parts_of(env.observation_space))
        if has_image and multiprocessing.parent_process() is None:
            name = env.spec.id if env.spec else type(env.unwrapped).__name__
            _say_once(
                f"--env={name}: its observations contain an image, too small for convolutions, which is flattened into "
                "one vector"
            )


class JoinedObservation(gym.ObservationWrapper):
    """Joins observations of several kinds, images among them, into one vector that knows its parts (`JoinedBox`)."""

    state_attributes = ()

    def __init__(self, env: gym.Env, space: JoinedBox) -> None:
        super().__init__(env)
        self.observation_space = space

    def observation(self, observation: Any) -> np.ndarray:
        """The numbers of all parts, float32 [D]."""
        return np.asarray(spaces.flatten(self.env.observation_space, observation), np.float32)


class ChannelAxis(gym.ObservationWrapper):
    """Adds a channel axis to images: `[H, W]` becomes `[H, W, 1]`, the shape that convolutions expect."""

    state_attributes = ()

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space = cast(spaces.Box, env.observation_space)
        self.observation_space = spaces.Box(space.low[..., None], space.high[..., None], dtype=space.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Returns an image [H, W] as [H, W, 1]."""
        return np.asarray(observation)[..., None]


class OwnedObservation(gym.Wrapper):
    """Copies the last observation of an episode, which an environment that reuses its arrays would overwrite."""

    state_attributes = ()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            observation = copy.deepcopy(observation)
        return observation, reward, terminated, truncated, info


class EpisodeStatistics(gym.wrappers.RecordEpisodeStatistics):
    """Adds the statistics of a finished game to `info["episode"]`. They can be continued in another process.

    They replace an `episode` that the environment, or one of its registered wrappers, puts there itself.
    """

    state_attributes = ("episode_returns", "episode_lengths", "seconds")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment and the statistics."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, _without_episode(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment, and adds the statistics at the end of a game."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.episode_returns += float(reward)
        self.episode_lengths += 1
        info = _without_episode(info)

        if terminated or truncated:
            info["episode"] = {
                "r": self.episode_returns,
                "l": self.episode_lengths,
                "t": round(self.seconds, 6),
            }
            self.episode_start_time = time.perf_counter()

        return observation, reward, terminated, truncated, info

    @property
    def seconds(self) -> float:
        """Duration of the current game so far, in seconds."""
        return time.perf_counter() - self.episode_start_time

    @seconds.setter
    def seconds(self, value: float) -> None:
        self.episode_start_time = time.perf_counter() - value


@functools.cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _without_episode(info: dict[str, Any]) -> dict[str, Any]:
    if "episode" not in info:
        return info
    return {key: value for key, value in info.items() if key != "episode"}


def owned_float32(env: gym.Env) -> gym.Env:
    """Converts float64 Box observations to float32, and copies the last observation of each episode."""
    space = env.observation_space
    if isinstance(space, spaces.Box) and space.dtype == np.float64:
        return gym.wrappers.DtypeObservation(env, np.float32)
    return OwnedObservation(env)


class ResumableWrapper(VectorWrapper):
    """A wrapper of a vector environment that adds no state of its own: it passes on the state of what it wraps.

    Attributes:
      state_gap: why the state of the environments cannot be read, in a few words; "" if it can.
    """

    @property
    def state_gap(self) -> str:
        return cast(Any, self.env).state_gap

    def get_state(self) -> Arrays:
        """Returns the state that `set_state` continues from. It does not contain the last observations."""
        return cast(Any, self.env).get_state()

    def set_state(self, state: Arrays) -> None:
        """Continues from a state that `get_state` returned. No reset is needed unless there is a `state_gap`."""
        cast(Any, self.env).set_state(state)


class EpisodeInfo(ResumableWrapper):
    """Moves the statistics of finished games to `infos["episode"]`, and converts rewards to float32.

    With same-step autoreset, Gymnasium puts the info of the last step of an episode into `infos["final_info"]`. The
    statistics of a game that ended during the reset itself are in `infos["episode"]` already.

    The wrapped environments are `ResumableEnv`s. If one of them fails, all are closed, because some have been stepped
    and others have not.
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self._checked = action_check(env.single_action_space, env.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all environments."""
        try:
            return cast(Any, self.env).reset(seed=seed, options=options)
        except Exception:
            self.env.close()
            raise

    @property
    def state_gap(self) -> str:
        return next(filter(None, cast(Any, self.env).get_attr("state_gap")), "")

    def get_state(self) -> Arrays:
        if self.state_gap:
            return {}
        states = cast(Any, self.env).get_attr("env_state")

        arrays: Arrays = {}
        for i, state in enumerate(states):
            arrays |= with_prefix(str(i), state)
        return arrays

    def set_state(self, state: Arrays) -> None:
        if state and not self.state_gap:
            states = [without_prefix(str(i), state) for i in range(self.num_envs)]
            cast(Any, self.env).set_attr("env_state", states)

    def step(self, actions: Any) -> StepResult:
        """Steps all environments.

        Raises:
          ValueError: an action is wrong. No environment was stepped.
        """
        actions = self._checked(actions)
        try:
            observations, rewards, terminations, truncations, infos = self.env.step(actions)
        except Exception:
            self.env.close()
            raise

        final = infos.get("final_info", {})
        if "episode" in final:
            episode = final["episode"]
            mask = final["_episode"]

            if "episode" in infos:
                earlier = infos["episode"]
                episode = {key: np.where(mask, episode[key], earlier[key]) for key in ("r", "l", "t")}
                mask = mask | infos["_episode"]
            infos |= {"episode": episode, "_episode": mask}

        return observations, rewards.astype(np.float32), terminations, truncations, infos


class SeededVectorEnv(ResumableWrapper):
    """The outermost wrapper. It seeds the first reset, scales rewards, and closes at the end of a `with` block.

    Attributes:
      arguments: the arguments of `make_vec_env` that determine what is learned. Checkpoints contain them.
    """

    def __init__(
        self,
        env: VectorEnv,
        seed: int | None,
        reward_scale: float = 1.0,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Wraps a vector environment.

        Args:
          env: the vector environment.
          seed: seed of the first reset if the caller gives none. None leaves it random.
          reward_scale: factor by which rewards are multiplied. The scores in `infos["episode"]` are not scaled.
          arguments: the arguments of `make_vec_env` that determine what is learned.
        """
        super().__init__(env)
        self.arguments = dict(arguments or {})
        self._seed: Any = seed
        self._reward_scale = np.float32(reward_scale)
        self._base = env.unwrapped
        self._started = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all environments. The first reset uses the seed of the constructor unless a seed is given.

        Args:
          seed: seed of environment 0, from which those of the others count on; or a list with a seed, or None, for
          each. options: options for the environments. With `reset_mask` (bool [N]), only the environments where it is
          true are
            reset, and the last observations of the others are returned again.

        Raises:
          UserError: the seed or the mask is not allowed.
          ClosedEnvironmentError: the environment is closed.
          ResetNeeded: the first reset has a mask.
        """
        seed = checked_seed(seed, self.num_envs)
        options, mask = checked_options(options, self.num_envs)
        self._require_open()

        if mask is not None and not self._started:
            raise ResetNeeded("reset_mask: the first reset must be one of all environments")

        seed = self._seed if seed is None else seed
        self._seed = None
        result = cast(Any, self.env).reset(seed=seed, options=options)
        self._started = True

        return result

    def set_state(self, state: Arrays) -> None:
        self._require_open()
        self._seed = None
        self._started = True
        super().set_state(state)

    def _require_open(self) -> None:
        if self._base.closed:
            raise ClosedEnvironmentError("this environment is closed; make another one")

    def step(self, actions: Any) -> StepResult:
        """Steps all environments.

        Raises:
          ValueError: an action is wrong; the message names the index of the environment. No environment was stepped.
          ClosedEnvironmentError: the environment is closed.
          ResetNeeded: `reset` has not been called yet.
        """
        if self._base.closed or not self._started:
            self._require_open()
            raise ResetNeeded("call reset() before step()")
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        return observations, rewards * self._reward_scale, terminations, truncations, infos

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
