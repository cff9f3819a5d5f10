"""Collects rollouts from a vector environment."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from common.errors import RunFailedError


class Policy(Protocol):
    """What a runner needs of a model."""

    def act(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Sampled actions [N, ...] as the learner keeps them, and values [N] where they come for free."""
        ...

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """The actions [N, ...] as the environment takes them."""
        ...

    def value(self, observations: np.ndarray) -> np.ndarray:
        """Values [B] of observations [B, ...]."""
        ...


class Rollout(NamedTuple):
    """T steps of N environments.

    Attributes:
      observations: before each step, [T, N, ...].
      actions: as the learner keeps them, [T, N, ...].
      rewards: float32 [T, N].
      ended: whether the episode ended with this step, by termination or truncation, bool [T, N].
      values: V of `observations`, [T, N].
      next_values: V of the observation after each step in the same episode (the final one, where it was truncated), 0
        where it terminated, [T, N].
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray
    values: np.ndarray
    next_values: np.ndarray


class _Step(NamedTuple):
    """One step of all environments, [N, ...]."""

    observations: np.ndarray
    actions: np.ndarray
    values: np.ndarray | None
    rewards: np.ndarray
    terminated: np.ndarray
    ended: np.ndarray


class Runner:
    """Steps a SAME_STEP vector environment with a policy.

    Attributes:
      episode_rewards, episode_lengths: scores and lengths of the last 100 episodes that ended.
      episodes: how many have ended.

    Args:
      env: vector environment whose infos carry `final_obs` and `episode` (see `common.vec_env`).
      policy: chooses actions and predicts values.
      nsteps: T.
      whole_episodes: go on after `nsteps` until an episode ends, so that batches of one environment hold whole
        episodes.
    """

    def __init__(self, env: gym.vector.VectorEnv, policy: Policy, nsteps: int, whole_episodes: bool = False) -> None:
        self.env, self.policy, self.nsteps, self.whole_episodes = env, policy, nsteps, whole_episodes
        self.episode_rewards: deque[float] = deque(maxlen=100)
        self.episode_lengths: deque[int] = deque(maxlen=100)
        self.episodes = 0
        self._steps = 0
        self._observations, _ = env.reset()

    def run(self) -> Rollout:
        """The next `nsteps` steps, or a few more up to the end of an episode.

        Raises:
          RunFailedError: if an action, an observation or a reward is not finite, naming the environment and the step.
        """
        steps: list[_Step] = []
        final_obs: dict[tuple[int, int], np.ndarray] = {}
        while len(steps) < self.nsteps or (self.whole_episodes and not steps[-1].ended.any()):
            actions, values = self.policy.act(self._observations)
            self._require_finite("action", actions)
            following, rewards, terminated, truncated, infos = self.env.step(self.policy.to_env(actions))
            self._require_finite("reward", rewards)
            self._require_finite("observation", following)
            for i in np.flatnonzero(truncated & ~terminated).tolist():
                final_obs[len(steps), i] = infos["final_obs"][i]
            self._note_episodes(infos)
            steps.append(_Step(self._observations, actions, values, rewards, terminated, terminated | truncated))
            self._observations = following
            self._steps += 1
        return self._assemble(steps, final_obs)

    def _assemble(self, steps: list[_Step], final_obs: dict[tuple[int, int], np.ndarray]) -> Rollout:
        """Joins the steps, and predicts the values that did not come with the actions."""
        observations = np.stack([step.observations for step in steps])
        rewards = np.stack([step.rewards for step in steps]).astype(np.float32)
        known = [step.values for step in steps if step.values is not None]
        if known:
            values = np.stack(known)
        else:
            values = self.policy.value(observations.reshape(-1, *observations.shape[2:])).reshape(rewards.shape)
        next_values = self._next_values(values, np.stack([step.terminated for step in steps]), final_obs)
        actions, ended = np.stack([step.actions for step in steps]), np.stack([step.ended for step in steps])
        return Rollout(observations, actions, rewards, ended, values, next_values)

    def _next_values(
        self, values: np.ndarray, terminated: np.ndarray, final_obs: dict[tuple[int, int], np.ndarray]
    ) -> np.ndarray:
        following = np.concatenate([values[1:], self.policy.value(self._observations)[None]])
        if final_obs:
            rows = tuple(np.array(list(final_obs)).T)
            following[rows] = self.policy.value(np.stack(list(final_obs.values())))
        following[terminated] = 0
        return following

    def _require_finite(self, what: str, array: np.ndarray) -> None:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            raise RunFailedError(
                f"environment {bad.argmax()}: its {what} is not finite in step {self._steps} of this run"
            )

    def _note_episodes(self, infos: dict) -> None:
        if "episode" not in infos:
            return
        ended = np.flatnonzero(infos["_episode"])
        self.episodes += len(ended)
        self.episode_rewards.extend(infos["episode"]["r"][ended].tolist())
        self.episode_lengths.extend(infos["episode"]["l"][ended].tolist())
