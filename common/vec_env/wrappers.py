"""What the contract of `common.vec_env` adds to Gymnasium's own vector environments."""

from __future__ import annotations

import copy
from types import TracebackType
from typing import Any, Self

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper

StepResult = tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class OwnedObservation(gym.Wrapper):
    """Copies the observation that ends an episode, which an environment that reuses its arrays would overwrite."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps one environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            observation = copy.deepcopy(observation)
        return observation, reward, terminated, truncated, info


def owned_float32(env: gym.Env) -> gym.Env:
    """Makes an environment's final observations its own, and float64 boxes float32."""
    space = env.observation_space
    if isinstance(space, spaces.Box) and space.dtype == np.float64:
        return gym.wrappers.DtypeObservation(env, np.float32)
    return OwnedObservation(env)


class EpisodeInfo(VectorWrapper):
    """Moves the statistics of finished games to `infos["episode"]`, and makes rewards float32.

    Under same-step autoreset Gymnasium leaves what the environments said of the end of an episode in
    `infos["final_info"]`. A game that ended during the reset itself is already in `infos["episode"]`.
    """

    def step(self, actions: Any) -> StepResult:
        """Steps all environments."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        final = infos.get("final_info", {})
        if "episode" in final:
            episode, mask = final["episode"], final["_episode"]
            if "episode" in infos:
                episode = {key: np.where(mask, episode[key], infos["episode"][key]) for key in ("r", "l", "t")}
                mask = mask | infos["_episode"]
            infos |= {"episode": episode, "_episode": mask}
        return observations, rewards.astype(np.float32), terminations, truncations, infos


class SeededVectorEnv(VectorWrapper):
    """The outermost wrapper: seeds the first reset, scales rewards, and closes at the end of a `with` block."""

    def __init__(self, env: VectorEnv, seed: int | None, reward_scale: float = 1.0) -> None:
        """Wraps `env`.

        Args:
          env: the environment.
          seed: seed of the first reset where that is given none; None leaves it random.
          reward_scale: factor on the rewards; `infos["episode"]` keeps the game's own.
        """
        super().__init__(env)
        self._seed = seed
        self._reward_scale = np.float32(reward_scale)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets all environments, the first time with the seed of the constructor unless one is given."""
        seed, self._seed = (self._seed if seed is None else seed), None
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> StepResult:
        """Steps all environments."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        return observations, rewards * self._reward_scale, terminations, truncations, infos

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
