"""Collects rollouts from a vector environment."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from baselines_acktr.returns import n_step_returns


class Policy(Protocol):
    """What a runner needs of a model."""

    def step(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray, None, np.ndarray]: ...

    def value(self, observations: np.ndarray) -> np.ndarray: ...


class Rollout(NamedTuple):
    """T steps of N environments.

    Attributes:
      observations: before each step, [T, N, ...].
      actions: taken, [T, N, ...].
      values: V of `observations`, [T, N].
      returns: k-step returns, [T, N].
    """

    observations: np.ndarray
    actions: np.ndarray
    values: np.ndarray
    returns: np.ndarray


class Runner:
    """Steps a SAME_STEP vector environment with a policy.

    Attributes:
      episode_rewards, episode_lengths: scores and lengths of the last 100 episodes that ended.
      episodes: how many have ended.

    Args:
      env: vector environment whose infos carry `final_obs` and `episode` (see `common.vec_env`).
      policy: chooses actions and predicts values.
      nsteps: T.
      gamma: discount.
    """

    def __init__(self, env: gym.vector.VectorEnv, policy: Policy, nsteps: int, gamma: float) -> None:
        self.env, self.policy, self.nsteps, self.gamma = env, policy, nsteps, gamma
        self.episode_rewards: deque[float] = deque(maxlen=100)
        self.episode_lengths: deque[int] = deque(maxlen=100)
        self.episodes = 0
        self._observations, _ = env.reset()

    def run(self) -> Rollout:
        """The next `nsteps` steps."""
        shape = (self.nsteps, self.env.num_envs)
        observations = np.empty(shape + self._observations.shape[1:], self._observations.dtype)
        actions = np.empty(shape + (self.env.single_action_space.shape or ()), np.int64)
        values, rewards, discounts = (np.empty(shape, np.float32) for _ in range(3))
        for t in range(self.nsteps):
            observations[t] = self._observations
            actions[t], values[t], _, _ = self.policy.step(self._observations)
            self._observations, rewards[t], terminated, truncated, infos = self.env.step(actions[t])
            self._note_episodes(infos)
            discounts[t] = self.gamma * ~(terminated | truncated)
            cut = truncated & ~terminated
            if cut.any():
                rewards[t] += self.gamma * cut * self._final_values(infos, cut)
        returns = n_step_returns(rewards, discounts, self.policy.value(self._observations))
        return Rollout(observations, actions, values, returns)

    def _final_values(self, infos: dict, cut: np.ndarray) -> np.ndarray:
        """V of the final observations of the episodes cut short by a time limit, elsewhere of the next one, [N]."""
        final = self._observations.copy()
        for i in np.flatnonzero(cut):
            final[i] = infos["final_obs"][i]
        return self.policy.value(final)

    def _note_episodes(self, infos: dict) -> None:
        if "episode" not in infos:
            return
        ended = np.flatnonzero(infos["_episode"])
        self.episodes += len(ended)
        self.episode_rewards.extend(infos["episode"]["r"][ended].tolist())
        self.episode_lengths.extend(infos["episode"]["l"][ended].tolist())
