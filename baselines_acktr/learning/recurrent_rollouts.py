"""Collects rollouts with a policy that remembers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from baselines_acktr.learning.rollouts import EPISODES, Rollout, Runner
from baselines_acktr.learning.sequences import Memory
from common.named_arrays import Arrays


class Remembers(Protocol):
    """What acts and predicts values by what it remembers: N environments, a state of M numbers for each."""

    def first_state(self, count: int) -> np.ndarray:
        """The state of so many environments before their first step, zeros [N, M]."""
        ...

    def act_from(
        self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray, deterministic: bool = False
    ) -> RecurrentDecision:
        """What is done in this step.

        Args:
          state: before this step, [N, M].
          starts: whether an episode starts with it, bool [N].
          observations: [N, ...].
          deterministic: take the most likely actions.
        """
        ...

    def value_from(self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Values [N]; arguments as for `act_from`."""
        ...

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """The actions [N, ...] as the environment takes them."""
        ...


class RecurrentDecision(NamedTuple):
    """What is done about N observations, and what is remembered of them.

    Attributes:
      actions: as the learner stores them, [N, ...].
      neglogps: -log pi(a|s), nats, [N].
      values: V(s), [N].
      state: after this step, [N, M].
    """

    actions: np.ndarray
    neglogps: np.ndarray
    values: np.ndarray
    state: np.ndarray


class RecurrentRunner(Runner):
    """A `Runner` that carries the policy's state from step to step, and from rollout to rollout.

    Attributes:
      sequence_length: steps of each part of a rollout.

    Args:
      env, nsteps, episodes: as for `Runner`; there are a few steps less where that makes the parts of a rollout alike.
      policy: chooses the actions and predicts the values.
      longest: how many steps each part of a rollout has at most (see `Memory`); None: all of them.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        policy: Remembers,
        nsteps: int,
        episodes: int = EPISODES,
        longest: int | None = None,
    ) -> None:
        behaviour: Any = policy
        self._parts = 1 if longest is None else math.ceil(nsteps / longest)  # K
        super().__init__(env, behaviour, nsteps - nsteps % self._parts, episodes=episodes)
        self.sequence_length = self.nsteps // self._parts
        self._remembering = policy
        self._forget()

    def _forget(self) -> None:
        """Every environment is at the start of an episode."""
        self._state = self._remembering.first_state(self.env.num_envs)  # before the next step, [N, M]
        self._starts = np.ones(self.env.num_envs, bool)  # whether an episode starts with it, [N]

    def run(self) -> Rollout:
        first = self._state
        self._told: list[np.ndarray] = []  # starts of each step
        self._after: list[np.ndarray] = []  # the state after each step
        rollout = super().run()
        last = self.sequence_length - 1  # step of the first part
        states = [first, *self._after[last : -1 : self.sequence_length]]  # before the first step of each part
        return rollout._replace(memory=Memory(np.stack(self._told), np.stack(states)))

    def _choose(self) -> tuple[np.ndarray, np.ndarray]:
        decision = self._remembering.act_from(self._state, self._starts, self._observations)
        self._state = decision.state
        self._told.append(self._starts)
        self._after.append(self._state)
        return decision.actions, decision.values

    def _note_ends(self, ended: np.ndarray) -> None:
        self._starts = ended

    def _following_values(self) -> np.ndarray:
        return self._values(self._state, self._starts, self._observations)

    def _final_values(self, steps: np.ndarray, envs: np.ndarray, observations: np.ndarray) -> np.ndarray:
        states = np.stack([self._after[t][i] for t, i in zip(steps, envs, strict=True)])  # [K, M]
        return self._values(states, np.zeros(len(states), bool), observations)

    def _values(self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray) -> np.ndarray:
        return self._remembering.value_from(state, starts, observations)

    def state(self) -> Arrays:
        return super().state() | {"memory": self._state.copy(), "starts": self._starts.copy()}

    def set_state(self, arrays: Arrays, seed: int) -> None:
        super().set_state(arrays, seed)
        if self.anew(arrays):
            self._forget()
        else:
            self._state, self._starts = arrays["memory"], arrays["starts"]
