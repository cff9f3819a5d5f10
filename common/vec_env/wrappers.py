"""What the contract of `common.vec_env` adds to Gymnasium's own vector environments."""

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

from common.named_arrays import Arrays, with_prefix, without_prefix
from common.vec_env.door import action_check, checked_options, checked_seed

_SMALLEST_PICTURE = 36  # pixels, that the convolutions of the cnn fit in
StepResult = tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class FlatObservation(gym.wrappers.FlattenObservation):
    """Observations that are no Box (Discrete, MultiBinary, Tuple, Dict, ...) as one vector, categories one-hot."""

    state_attributes = ()

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        if _has_picture(env.observation_space) and multiprocessing.parent_process() is None:
            name = env.spec.id if env.spec else type(env.unwrapped).__name__
            _say_once(f"--env={name}: its observations have a picture in them, which is learned as part of one vector")


class ChannelAxis(gym.ObservationWrapper):
    """Pictures `[H, W]` as `[H, W, 1]`, the form that convolutions take."""

    state_attributes = ()

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space = cast(spaces.Box, env.observation_space)
        self.observation_space = spaces.Box(space.low[..., None], space.high[..., None], dtype=space.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Returns a picture with the axis."""
        return np.asarray(observation)[..., None]


class OwnedObservation(gym.Wrapper):
    """Copies the observation that ends an episode, which an environment that reuses its arrays would overwrite."""

    state_attributes = ()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps one environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            observation = copy.deepcopy(observation)
        return observation, reward, terminated, truncated, info


class EpisodeStatistics(gym.wrappers.RecordEpisodeStatistics):
    """Gymnasium's statistics of a game, in `info["episode"]`; they can go on in another process.

    They take the place of what the environment itself, or a wrapper that it is registered with, puts there.
    """

    state_attributes = ("episode_returns", "episode_lengths", "seconds")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment and the statistics."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, _without_episode(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, and adds the statistics at the end of a game."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.episode_returns += float(reward)
        self.episode_lengths += 1
        info = _without_episode(info)
        if terminated or truncated:
            info["episode"] = {"r": self.episode_returns, "l": self.episode_lengths, "t": round(self.seconds, 6)}
            self.episode_start_time = time.perf_counter()
        return observation, reward, terminated, truncated, info

    @property
    def seconds(self) -> float:
        """Duration of the present game."""
        return time.perf_counter() - self.episode_start_time

    @seconds.setter
    def seconds(self, value: float) -> None:
        self.episode_start_time = time.perf_counter() - value


def _has_picture(space: spaces.Space) -> bool:
    parts = space.values() if isinstance(space, spaces.Dict) else space if isinstance(space, spaces.Tuple) else ()
    return any(_has_picture(part) or len(part.shape or ()) == 3 for part in parts)


@functools.cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _without_episode(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key != "episode"} if "episode" in info else info


def is_picture(space: spaces.Space) -> bool:
    """Says whether a space is one of gray pictures `[H, W]` of bytes, large enough for the cnn."""
    if not (isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 2):
        return False
    return min(space.shape) >= _SMALLEST_PICTURE


def owned_float32(env: gym.Env) -> gym.Env:
    """Makes an environment's final observations its own, and float64 boxes float32."""
    space = env.observation_space
    if isinstance(space, spaces.Box) and space.dtype == np.float64:
        return gym.wrappers.DtypeObservation(env, np.float32)
    return OwnedObservation(env)


class ResumableWrapper(VectorWrapper):
    """A wrapper without a state of its own.

    Attributes:
      state_gap: why the environments' state cannot be read, in a few words; "" where it can.
    """

    @property
    def state_gap(self) -> str:
        return cast(Any, self.env).state_gap

    def get_state(self) -> Arrays:
        """Returns what `set_state` needs for the same steps to follow, but not the last observations."""
        return cast(Any, self.env).get_state()

    def set_state(self, state: Arrays) -> None:
        """Continues from what `get_state` returned, without a reset unless there is a `state_gap`."""
        cast(Any, self.env).set_state(state)


class EpisodeInfo(ResumableWrapper):
    """Moves the statistics of finished games to `infos["episode"]`, and makes rewards float32.

    Under same-step autoreset Gymnasium leaves what the environments said of the end of an episode in
    `infos["final_info"]`. A game that ended during the reset itself is already in `infos["episode"]`.

    The environments are `ResumableEnv`s. Where one fails all are closed, since some were stepped and others were not.
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
        return {name: array for i, state in enumerate(states) for name, array in with_prefix(str(i), state).items()}

    def set_state(self, state: Arrays) -> None:
        if state and not self.state_gap:
            states = [without_prefix(str(i), state) for i in range(self.num_envs)]
            cast(Any, self.env).set_attr("env_state", states)

    def step(self, actions: Any) -> StepResult:
        """Steps all environments; raises ValueError for a wrong action, before any is stepped."""
        actions = self._checked(actions)
        try:
            observations, rewards, terminations, truncations, infos = self.env.step(actions)
        except Exception:
            self.env.close()
            raise
        final = infos.get("final_info", {})
        if "episode" in final:
            episode, mask = final["episode"], final["_episode"]
            if "episode" in infos:
                episode = {key: np.where(mask, episode[key], infos["episode"][key]) for key in ("r", "l", "t")}
                mask = mask | infos["_episode"]
            infos |= {"episode": episode, "_episode": mask}
        return observations, rewards.astype(np.float32), terminations, truncations, infos


class SeededVectorEnv(ResumableWrapper):
    """The outermost wrapper: seeds the first reset, scales rewards, and closes at the end of a `with` block.

    Attributes:
      arguments: of `make_vec_env`, those that say what is learned; a checkpoint has them.
    """

    def __init__(
        self,
        env: VectorEnv,
        seed: int | None,
        reward_scale: float = 1.0,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Wraps `env`.

        Args:
          env: the environment.
          seed: seed of the first reset where that is given none; None leaves it random.
          reward_scale: factor on the rewards; `infos["episode"]` keeps the game's own.
          arguments: of `make_vec_env`, those that say what is learned.
        """
        super().__init__(env)
        self.arguments = dict(arguments or {})
        self._seed: Any = seed
        self._reward_scale = np.float32(reward_scale)
        self._base, self._started = env.unwrapped, False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all environments, the first time with the seed of the constructor unless one is given.

        Args:
          seed: of environment 0, those of the others follow; or a list with one, or None, for each.
          options: of the environments; with `reset_mask`, bool [N], only those where it is true are reset, and of the
            others the last observations are returned again.

        Raises:
          UserError: a seed or mask that is not allowed.
          ClosedEnvironmentError, ResetNeeded: it is closed; a mask at the first reset.
        """
        seed = checked_seed(seed, self.num_envs)
        options, mask = checked_options(options, self.num_envs)
        self._require_open()
        if mask is not None and not self._started:
            raise ResetNeeded("reset_mask: the first reset must be one of all environments")
        seed, self._seed = (self._seed if seed is None else seed), None
        result = cast(Any, self.env).reset(seed=seed, options=options)
        self._started = True
        return result

    def set_state(self, state: Arrays) -> None:
        self._require_open()
        self._seed, self._started = None, True
        super().set_state(state)

    def _require_open(self) -> None:
        if self._base.closed:
            raise ClosedEnvironmentError("this environment is closed; make another one")

    def step(self, actions: Any) -> StepResult:
        """Steps all environments.

        Raises:
          ValueError: a wrong action, naming the environment's index; nothing was stepped.
          ClosedEnvironmentError, ResetNeeded: it is closed, or was never reset.
        """
        if self._base.closed or not self._started:
            self._require_open()
            raise ResetNeeded("call reset() before step()")
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        return observations, rewards * self._reward_scale, terminations, truncations, infos

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
