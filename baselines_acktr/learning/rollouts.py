"""Collects rollouts from a vector environment."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from baselines_acktr.learning.returns import generalized_advantages, lambda_returns
from baselines_acktr.learning.sequences import Memory
from common.errors import RunFailedError, UserError
from common.named_arrays import Arrays, with_prefix, without_prefix

EPISODES = 100  # the mean score is that of the last 100 episodes
_ENDS = 100  # missing statistics are reported after this many ends of episodes or lives in each environment
NO_STATISTICS = (
    "the environment does not say what an episode has brought; wrap it in "
    "gymnasium.wrappers.vector.RecordEpisodeStatistics"
)


class BehaviourPolicy(Protocol):
    """What a runner needs of a model."""

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Sampled actions [N, ...] as the learner stores them, and values [N] where they come for free."""
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
      actions: as the learner stores them, [T, N, ...].
      rewards: float32 [T, N].
      ended: whether the episode ended with this step, by termination or truncation, bool [T, N].
      values: V of `observations`, [T, N].
      next_values: V of the observation after each step in the same episode (the final one, where it was truncated), 0
        where it terminated, [T, N].
      memory: what a recurrent policy remembered; None of the others.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray
    values: np.ndarray
    next_values: np.ndarray
    memory: Memory | None = None

    @property
    def shuffled(self) -> int:
        """How many parts of it a batch may put in another order: B rows, or with a memory K N sequences of steps."""
        if self.memory is None:
            return self.rewards.size
        parts, envs, _ = self.memory.states.shape
        return parts * envs

    def advantages(self, gamma: float, lam: float) -> np.ndarray:
        """What the policy learns from, [T, N] (see `generalized_advantages`)."""
        return generalized_advantages(self.rewards, self.values, self.next_values, self.ended, gamma, lam)

    def returns(self, gamma: float, lam: float) -> np.ndarray:
        """What the critic learns, [T, N] (see `lambda_returns`)."""
        return lambda_returns(self.rewards, self.values, self.next_values, self.ended, gamma, lam)


class _Step(NamedTuple):
    """One step of all environments, [N, ...]."""

    observations: np.ndarray
    actions: np.ndarray
    values: np.ndarray | None
    rewards: np.ndarray
    terminated: np.ndarray
    ended: np.ndarray


def state_gap(env: gym.vector.VectorEnv) -> str:
    """Why the state of `env` cannot be read, so that resuming restarts its episodes; "" where it can."""
    return getattr(env, "state_gap", f"{type(env).__name__} has no get_state")


def require_same_step(env: gym.vector.VectorEnv) -> None:
    """Raises UserError unless `env` resets a finished episode within the step that ends it."""
    mode = getattr(env, "metadata", {}).get("autoreset_mode")
    if not isinstance(env, gym.vector.VectorEnv):
        raise UserError(
            f'env={env}: must be a vector environment, such as common.vec_env.make_vec_env("CartPole-v1", 8)'
        )
    if mode != gym.vector.AutoresetMode.SAME_STEP:
        raise UserError(
            f"env: its autoreset mode is {mode}; must be AutoresetMode.SAME_STEP, as common.vec_env.make_vec_env has it"
        )


class Episode(NamedTuple):
    """One finished episode: its own score, and its length in steps of the agent."""

    score: float
    length: int


class FinishedEpisodes:
    """Reads from the infos of a vector environment which episodes have ended.

    Their statistics are in `episode`, or in `final_info` where each environment keeps them itself.
    """

    def __init__(self, num_envs: int) -> None:
        self._ends = 0
        self._patience = _ENDS * num_envs
        self._found = False

    def __call__(self, infos: dict[str, Any], ended: np.ndarray) -> dict[int, Episode]:
        """{environment: its episode} of those that a step has finished.

        Args:
          infos: of the step.
          ended: where an episode was terminated or truncated, or a life in it, bool [N].
        """
        self._ends += int(np.count_nonzero(ended))
        episodes = {}
        for found in (infos, infos.get("final_info", {})):  # in both, where one ended during the reset of a step
            if "episode" in found:
                self._found = True
                scores = found["episode"]["r"]  # [N]
                lengths = found["episode"]["l"]  # [N]
                for i in np.flatnonzero(found["_episode"]).tolist():
                    episodes[i] = Episode(float(scores[i]), int(lengths[i]))
        return episodes

    @property
    def missing(self) -> bool:
        """Whether many ends went by without any statistics."""
        return not self._found and self._ends >= self._patience


class Runner:
    """Steps a SAME_STEP vector environment with a policy.

    Attributes:
      episode_rewards, episode_lengths: scores and lengths of the last episodes that ended.
      episodes: how many have ended.

    Args:
      env: vector environment whose infos carry `final_obs` and the statistics of episodes (see `FinishedEpisodes`).
      policy: chooses actions and predicts values.
      nsteps: T.
      whole_episodes: go on after `nsteps`, for at most as many again, until an episode ends, so that batches of one
        environment hold whole episodes.
      episodes: how many of the last ones are remembered.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        policy: BehaviourPolicy,
        nsteps: int,
        whole_episodes: bool = False,
        episodes: int = EPISODES,
    ) -> None:
        self.env = env
        self.policy = policy
        self.nsteps = nsteps
        self.whole_episodes = whole_episodes

        self.episode_rewards: deque[float] = deque(maxlen=episodes)
        self.episode_lengths: deque[int] = deque(maxlen=episodes)
        self.episodes = 0
        self._finished = FinishedEpisodes(env.num_envs)
        self._steps = 0
        self._warned = False  # that the environment gives no statistics of episodes
        self._observations = np.empty(0)  # until the first step

    @property
    def begun(self) -> bool:
        """Whether the environments have been reset."""
        return bool(self._observations.size)

    def begin(self) -> None:
        """Resets the environments, where that is still to be done."""
        if not self.begun:
            self._observations, _ = self.env.reset()

    def run(self) -> Rollout:
        """The next `nsteps` steps; with `whole_episodes` up to twice as many, until an episode ends.

        Raises:
          RunFailedError: if an action, an observation, a reward or a predicted value is not finite, naming the
            environment and the step.
        """
        self.begin()
        steps: list[_Step] = []
        final_obs: dict[tuple[int, int], np.ndarray] = {}
        longest = 2 * self.nsteps if self.whole_episodes else self.nsteps

        while len(steps) < self.nsteps or (len(steps) < longest and not steps[-1].ended.any()):
            actions, values = self._choose()
            self._require_finite("action", actions)
            if values is not None:
                self._require_finite("predicted value", values)

            following, rewards, terminated, truncated, infos = self.env.step(self.policy.to_env(actions))
            self._require_finite("reward", rewards)
            self._require_finite("observation", following)
            for i in np.flatnonzero(truncated & ~terminated).tolist():
                final_obs[len(steps), i] = np.asarray(infos["final_obs"][i])
                self._require_finite("final observation", final_obs[len(steps), i][None], first=i)

            self._note_episodes(infos, terminated | truncated)
            self._note_ends(terminated | truncated)
            steps.append(_Step(self._observations, actions, values, rewards, terminated, terminated | truncated))
            self._observations = following
            self._steps += 1

        return self._assemble(steps, final_obs)

    def _choose(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Actions [N, ...] for the present observations, and values [N] where they come for free."""
        return self.policy.sample(self._observations)

    def _note_ends(self, ended: np.ndarray) -> None:
        """Hears where an episode has ended, bool [N]."""

    def state(self) -> Arrays:
        """Everything that the next rollouts depend on but the policy, by name, copied."""
        env: Any = self.env
        return with_prefix("env", env.get_state() if hasattr(env, "get_state") else {}) | {
            "observations": self._observations.copy(),
            "episode_rewards": np.array(self.episode_rewards, np.float64),
            "episode_lengths": np.array(self.episode_lengths, np.int64),
            "counts": np.array([self.episodes, self._steps], np.int64),
            "anew": np.array(bool(state_gap(env))),
        }

    def set_state(self, arrays: Arrays, seed: int) -> None:
        """Restores what `state` returned; where the environments' own state is missing they are reset with `seed`.

        Raises:
          UserError: the state is of another number or kind of environments.
        """
        env: Any = self.env
        self.episode_rewards.extend(arrays["episode_rewards"].tolist())
        self.episode_lengths.extend(arrays["episode_lengths"].tolist())
        self.episodes, self._steps = arrays["counts"].tolist()
        try:
            if hasattr(env, "set_state"):
                env.set_state(without_prefix("env", arrays))
            self._observations = env.reset(seed=seed)[0] if self.anew(arrays) else arrays["observations"]
        except (KeyError, ValueError) as error:
            raise UserError(f"the checkpoint's environments are not like these: {error!r}") from error

    def anew(self, arrays: Arrays) -> bool:
        """Whether episodes start anew with this state, because it or `env` lacks that of the environments."""
        return bool(arrays.get("anew", np.array(False)) or state_gap(self.env))

    def _assemble(self, steps: list[_Step], final_obs: dict[tuple[int, int], np.ndarray]) -> Rollout:
        """Joins the steps, and predicts the values that did not come with the actions."""
        observations = np.stack([step.observations for step in steps])  # [T, N, ...]
        rewards = np.stack([step.rewards for step in steps]).astype(np.float32)  # [T, N]

        known = [step.values for step in steps if step.values is not None]
        if known:
            values = np.stack(known)
        else:
            values = self.policy.value(observations.reshape(-1, *observations.shape[2:])).reshape(rewards.shape)
        next_values = self._next_values(values, np.stack([step.terminated for step in steps]), final_obs)
        for predicted in (values, next_values):
            self._require_finite("predicted value", predicted.T)

        return Rollout(
            observations=observations,
            actions=np.stack([step.actions for step in steps]),
            rewards=rewards,
            ended=np.stack([step.ended for step in steps]),
            values=values,
            next_values=next_values,
        )

    def _next_values(
        self, values: np.ndarray, terminated: np.ndarray, final_obs: dict[tuple[int, int], np.ndarray]
    ) -> np.ndarray:
        """V of the observation after each step, [T, N], from the values of those before it."""
        following = np.concatenate([values[1:], self._following_values()[None]])  # [T, N]
        if final_obs:
            steps, envs = np.array(list(final_obs)).T
            following[steps, envs] = self._final_values(steps, envs, np.stack(list(final_obs.values())))
        following[terminated] = 0
        return following

    def _following_values(self) -> np.ndarray:
        """Values [N] of the observations after the last step."""
        return self.policy.value(self._observations)

    def _final_values(self, steps: np.ndarray, envs: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Values [K] of final observations [K, ...] of truncated episodes, after steps [K] of environments [K]."""
        return self.policy.value(observations)

    def _require_finite(self, what: str, array: np.ndarray, first: int = 0) -> None:
        """Raises unless `array`, a row for each environment from number `first` on, is finite."""
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            raise RunFailedError(
                f"environment {first + bad.argmax()}: its {what} is not finite in step {self._steps} of this run"
            )

    def _note_episodes(self, infos: dict[str, Any], ended: np.ndarray) -> None:
        episodes = self._finished(infos, ended).values()
        self.episodes += len(episodes)
        self.episode_rewards.extend(episode.score for episode in episodes)
        self.episode_lengths.extend(episode.length for episode in episodes)
        if self._finished.missing and not self._warned:
            self._warned = True
            print(f"no scores will be known: {NO_STATISTICS}", file=sys.stderr, flush=True)
