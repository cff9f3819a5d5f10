"""Recurrent networks: what they remember is a state that the caller carries along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import keras
import tensorflow as tf

from baselines_acktr.agent.heads import example, features_of
from baselines_acktr.agent.memories import Cell, LayerNormLstm, Lstm
from baselines_acktr.agent.networks import orthogonal
from baselines_acktr.kfac.taps import FreeVector
from baselines_acktr.learning.sequences import Sequences
from common.distributions import distribution_size

CELLS: dict[str, Callable[[], Cell]] = {
    "lstm": Lstm,
    "cnn_lstm": Lstm,
    "lnlstm": LayerNormLstm,
    "cnn_lnlstm": LayerNormLstm,
}


class Remembering(keras.Model):
    """A network whose features depend on earlier steps, up to its heads.

    Attributes:
      state_size: M, how many numbers its state has for each environment.

    Args:
      name: of the model.
      observation_space: what the network sees.
      network: its name.
      config: of the learner.
      first: where its state begins in that of `Sequences`, which may be that of several networks.
    """

    def __init__(self, name: str, observation_space: gym.Space, network: str, config: Any, first: int = 0) -> None:
        super().__init__(name=name)
        self.features = features_of(observation_space, network, config)
        self.cell = CELLS[network]()
        self.state_size = self.cell.state_size
        self._first = first

    def build_for(self, observation_space: gym.Space) -> None:
        """Makes the weights, when all layers are there."""
        observations = example(observation_space)[:, None]  # [1, 1, ...]
        state = tf.zeros((1, self._first + self.state_size), self.compute_dtype)
        self(Sequences(observations, tf.zeros((1, 1), tf.bool), state))

    def remember(self, sequences: Sequences) -> tuple[tf.Tensor, tf.Tensor]:
        """What the memory puts out in T steps of N environments, [N T, U], and its state after the last one, [N, M].

        The state before each step is the one after the step before, or zeros where an episode starts with it.
        """
        observations, starts, states = sequences
        steps = starts.shape[1]
        state = states[:, self._first : self._first + self.state_size]
        rows = tf.reshape(observations, [-1, *observations.shape[2:]])  # [N T, ...]
        inputs = self.features(rows)  # [N T, D]
        inputs = tf.reshape(inputs, [-1, steps, inputs.shape[-1]])  # [N, T, D]
        kept = 1 - tf.cast(starts, inputs.dtype)  # [N, T]

        outputs = []
        for t in range(steps):
            state = self.cell(inputs[:, t], state * kept[:, t, None])
            outputs.append(state[:, self.state_size // 2 :])
        return tf.reshape(tf.stack(outputs, axis=1), [-1, self.state_size // 2]), state


class RecurrentActorCritic(Remembering):
    """Maps `Sequences` of T steps of N environments to parameters [N T, P] of the policy and values [N T]."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config: Any) -> None:
        super().__init__("recurrent_actor_critic", observation_space, network, config)
        size = distribution_size(action_space)
        self.policy_head = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="policy_head")
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0), name="value_head")
        self.build_for(observation_space)

    def call(self, sequences: Sequences) -> tuple[tf.Tensor, tf.Tensor]:
        parameters, values, _ = self.unroll(sequences)
        return parameters, values

    def unroll(self, sequences: Sequences) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What a call gives, and the state after the last step, [N, M]."""
        hidden, state = self.remember(sequences)
        return self.policy_head(hidden), tf.squeeze(self.value_head(hidden), axis=-1), state


class RecurrentGaussian(Remembering):
    """Maps `Sequences` of T steps of N environments to means and log standard deviations [N T, 2 D]."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config: Any) -> None:
        super().__init__("policy", observation_space, network, config)
        size = distribution_size(action_space) // 2
        self.mean = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="mean")
        self.log_std = FreeVector(size, keras.initializers.Constant(config.first_log_std(size)), name="log_std")
        self.build_for(observation_space)

    def call(self, sequences: Sequences) -> tf.Tensor:
        return self.unroll(sequences)[0]

    def unroll(self, sequences: Sequences) -> tuple[tf.Tensor, tf.Tensor]:
        """What a call gives, and the state after the last step, [N, M]."""
        hidden, state = self.remember(sequences)
        return tf.concat([self.mean(hidden), self.log_std(hidden)], axis=-1), state


class RecurrentCritic(Remembering):
    """Maps `Sequences` of T steps of N environments to values [N T].

    Its state stands behind that of a policy; arguments as for `Remembering`.
    """

    def __init__(self, observation_space: gym.Space, network: str, config: Any, first: int) -> None:
        super().__init__("critic", observation_space, network, config, first)
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0), name="value_head")
        self.build_for(observation_space)

    def call(self, sequences: Sequences) -> tf.Tensor:
        return self.unroll(sequences)[0]

    def unroll(self, sequences: Sequences) -> tuple[tf.Tensor, tf.Tensor]:
        """What a call gives, and the state after the last step, [N, M]."""
        hidden, state = self.remember(sequences)
        return tf.squeeze(self.value_head(hidden), axis=-1), state
