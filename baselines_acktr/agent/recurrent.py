"""Recurrent networks and the policies that act by them: what they remember is a state that the caller carries along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.heads import example, features_of
from baselines_acktr.agent.memories import Cell, LayerNormLstm, Lstm
from baselines_acktr.agent.networks import orthogonal
from baselines_acktr.agent.policies import Decision, SharedPolicy
from baselines_acktr.learning.sequences import Sequences
from common.distributions import distribution_size

CELLS: dict[str, Callable[[], Cell]] = {
    "lstm": Lstm,
    "cnn_lstm": Lstm,
    "lnlstm": LayerNormLstm,
    "cnn_lnlstm": LayerNormLstm,
}


class RecurrentActorCritic(keras.Model):
    """Maps `Sequences` of T steps of N environments to parameters [N T, P] of the policy and values [N T].

    The state before each step is the one after the step before, or zeros where an episode starts with it.

    Attributes:
      state_size: M, how many numbers each environment's state has.
    """

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config: Any) -> None:
        super().__init__(name="recurrent_actor_critic")
        self.features = features_of(observation_space, network, config)
        self.cell = CELLS[network]()
        size = distribution_size(action_space)
        self.policy_head = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="policy_head")
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0), name="value_head")
        self.state_size = self.cell.state_size

        observations = example(observation_space)[:, None]  # [1, 1, ...]
        self(Sequences(observations, tf.zeros((1, 1), tf.bool), tf.zeros((1, self.state_size), self.compute_dtype)))

    def call(self, sequences: Sequences) -> tuple[tf.Tensor, tf.Tensor]:
        parameters, values, _ = self.unroll(sequences)
        return parameters, values

    def unroll(self, sequences: Sequences) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What a call gives, and the state after the last step, [N, M]."""
        observations, starts, state = sequences
        steps = starts.shape[1]
        rows = tf.reshape(observations, [-1, *observations.shape[2:]])  # [N T, ...]
        inputs = self.features(rows)  # [N T, D]
        inputs = tf.reshape(inputs, [-1, steps, inputs.shape[-1]])  # [N, T, D]
        kept = 1 - tf.cast(starts, inputs.dtype)  # [N, T]

        outputs = []
        for t in range(steps):
            state = self.cell(inputs[:, t], state * kept[:, t, None])
            outputs.append(state[:, self.state_size // 2 :])

        hidden = tf.reshape(tf.stack(outputs, axis=1), [-1, self.state_size // 2])  # [N T, U]
        return self.policy_head(hidden), tf.squeeze(self.value_head(hidden), axis=-1), state


class RecurrentDecision(NamedTuple):
    """What a recurrent policy does about N observations.

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


class RecurrentPolicy(SharedPolicy):
    """Discrete actions by a network that remembers; arguments and errors as for `SharedPolicy`."""

    network: RecurrentActorCritic

    def first_state(self, count: int) -> np.ndarray:
        """The state of so many environments before their first step, zeros [N, M]."""
        return np.zeros((count, self.network.state_size), self.network.compute_dtype)

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        decision = self.act_from(*self._nothing(len(observations)), observations)
        return decision.actions, decision.values

    def act(self, observations: np.ndarray, deterministic: bool = False) -> Decision:
        """As `act_from`, where nothing is remembered yet."""
        decision = self.act_from(*self._nothing(len(observations)), observations, deterministic)
        return Decision(decision.actions, decision.neglogps, decision.values)

    def value(self, observations: np.ndarray) -> np.ndarray:
        """Values [N] of observations [N, ...], where nothing is remembered yet."""
        return self.value_from(*self._nothing(len(observations)), observations)

    def _nothing(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        return self.first_state(count), np.zeros(count, bool)

    def act_from(
        self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray, deterministic: bool = False
    ) -> RecurrentDecision:
        """Acts as `act` does, and remembers.

        Args:
          state: before this step, [N, M].
          starts: whether an episode starts with it, bool [N].
          observations: [N, ...].
          deterministic: take the most likely actions.
        """
        step = _one_step(state, starts, observations)
        actions, values, neglogps, following = self._act_from(step, deterministic)
        return RecurrentDecision(actions.numpy(), neglogps.numpy(), values.numpy(), following.numpy())

    def value_from(self, state: np.ndarray, starts: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Values [N]; arguments as for `act_from`."""
        return self._values(_one_step(state, starts, observations)).numpy()

    @tf.function(reduce_retracing=True)
    def _values(self, step: Sequences) -> tf.Tensor:
        return self.network(step)[1]

    @tf.function(reduce_retracing=True)
    def _act_from(self, step: Sequences, deterministic: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        parameters, values, state = self.network.unroll(step)
        pi = self.distribution(parameters)
        actions = pi.mode() if deterministic else pi.sample(self.sampler.generator)
        return actions, values, -pi.log_prob(actions), state


def _one_step(state: np.ndarray, starts: np.ndarray, observations: np.ndarray) -> Sequences:
    """Sequences of a single step, T = 1, of observations [N, ...]."""
    return Sequences(observations[:, None], starts[:, None], state)
