"""Policies that act by recurrent networks, and remember."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from baselines_acktr.agent.critics import ValueFunction
from baselines_acktr.agent.gaussian_policy import GaussianPolicy
from baselines_acktr.agent.policies import Decision, SharedPolicy
from baselines_acktr.agent.recurrent import RecurrentActorCritic
from baselines_acktr.learning.recurrent_rollouts import RecurrentDecision, Remembers
from baselines_acktr.learning.sequences import Sequences
from common.graph import graph


class RecurrentPolicy(SharedPolicy):
    """Discrete actions by a network that remembers and gives values too; arguments and errors as for `SharedPolicy`."""

    network: RecurrentActorCritic

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        decision = self.act_from(*nothing(self, len(observations)), observations)
        return decision.actions, decision.values

    def act(self, observations: np.ndarray, deterministic: bool = False) -> Decision:
        """As `act_from`, where nothing is remembered yet."""
        decision = self.act_from(*nothing(self, len(observations)), observations, deterministic)
        return Decision(decision.actions, decision.neglogps, decision.values)

    # -- what remembers (`learning.recurrent_rollouts.Remembers`) -----------------------------------------------------

    def first_state(self, count: int) -> np.ndarray:
        return np.zeros((count, self.network.state_size), self.network.compute_dtype)

    def act_from(
        self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray, deterministic: bool = False
    ) -> RecurrentDecision:
        step = _one_step(state, starts, observations)
        actions, values, neglogps, following = self._act_from(step, deterministic)
        return RecurrentDecision(actions.numpy(), neglogps.numpy(), values.numpy(), following.numpy())

    def value_from(self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray) -> np.ndarray:
        return self._values(_one_step(state, starts, observations)).numpy()

    @graph
    def _values(self, step: Sequences) -> tf.Tensor:
        return self.network(step)[1]

    @graph
    def _act_from(self, step: Sequences, deterministic: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        parameters, values, state = self.network.unroll(step)
        pi = self.distribution(parameters)
        actions = pi.mode() if deterministic else pi.sample(self.sampler.generator)
        return actions, values, -pi.log_prob(actions), state


class RecurrentGaussianPolicy(GaussianPolicy):
    """Continuous actions by a `RecurrentGaussian`; what is remembered is carried along by a `RecurrentPair`."""

    def _mean(self, x: np.ndarray) -> np.ndarray:
        state = np.zeros((len(x), self.network.state_size), self.network.compute_dtype)
        return self._means(_one_step(state, np.zeros(len(x), bool), x)).numpy()

    @graph
    def _means(self, step: Sequences) -> tf.Tensor:
        return tf.split(self.network(step), 2, axis=-1)[0]


class RecurrentPair:
    """A policy and a critic with a network and a memory each: their states stand side by side.

    Args:
      policy: acts; its network is a `RecurrentGaussian`.
      value_function: predicts values; its network is a `RecurrentCritic`.
    """

    def __init__(self, policy: GaussianPolicy, value_function: ValueFunction) -> None:
        self._policy = policy
        self._value_function = value_function
        self._network: Any = policy.network
        self._critic: Any = value_function.critic

    def first_state(self, count: int) -> np.ndarray:
        return np.zeros((count, self._network.state_size + self._critic.state_size), self._network.compute_dtype)

    def act_from(
        self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray, deterministic: bool = False
    ) -> RecurrentDecision:
        self._value_function.wait()  # as its thread is at work on these weights
        step = self._policy.filtered(_one_step(state, starts, observations))
        mean, values, following = self._unroll(step)
        actions, neglogps = self._policy.choose(mean.numpy(), deterministic)
        restored = self._value_function.targets.restore(values.numpy())
        return RecurrentDecision(actions, neglogps, restored, following.numpy())

    def value_from(self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray) -> np.ndarray:
        self._value_function.wait()
        values = self._values(self._policy.filtered(_one_step(state, starts, observations)))
        return self._value_function.targets.restore(values.numpy())

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        return self._policy.to_env(actions)

    @graph
    def _values(self, step: Sequences) -> tf.Tensor:
        return self._critic(step)

    @graph
    def _unroll(self, step: Sequences) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Means [N, D], standardised values [N], and the state after the step, [N, M]."""
        parameters, state = self._network.unroll(step)
        values, state_of_critic = self._critic.unroll(step)
        mean = tf.split(parameters, 2, axis=-1)[0]
        return mean, values, tf.concat([state, state_of_critic], axis=-1)


def nothing(remembering: Remembers, count: int) -> tuple[np.ndarray, np.ndarray]:
    """State and starts of so many environments in which nothing is remembered yet."""
    return remembering.first_state(count), np.zeros(count, bool)


def _one_step(state: np.ndarray, starts: np.ndarray, observations: np.ndarray) -> Sequences:
    """Sequences of a single step, T = 1, of observations [N, ...]."""
    return Sequences(observations[:, None], starts[:, None], state)
