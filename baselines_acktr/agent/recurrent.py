"""Recurrent networks and the policies that act by them: what they remember is a state that the caller carries along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.critics import ValueFunction
from baselines_acktr.agent.gaussian_policy import GaussianPolicy
from baselines_acktr.agent.heads import example, features_of
from baselines_acktr.agent.memories import Cell, LayerNormLstm, Lstm
from baselines_acktr.agent.networks import orthogonal
from baselines_acktr.agent.policies import Decision, SharedPolicy
from baselines_acktr.kfac.taps import FreeVector
from baselines_acktr.learning.recurrent_rollouts import RecurrentDecision, Remembers
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

    @tf.function(reduce_retracing=True)
    def _values(self, step: Sequences) -> tf.Tensor:
        return self.network(step)[1]

    @tf.function(reduce_retracing=True)
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

    @tf.function(reduce_retracing=True)
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

    @tf.function(reduce_retracing=True)
    def _values(self, step: Sequences) -> tf.Tensor:
        return self._critic(step)

    @tf.function(reduce_retracing=True)
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
