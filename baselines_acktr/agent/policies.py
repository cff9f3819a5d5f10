"""Networks of policy and value: shared by both, or one each."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import keras
import tensorflow as tf

from baselines_acktr.agent.networks import find_network, orthogonal
from baselines_acktr.kfac.taps import FreeVector
from common.distributions import distribution_size
from common.errors import UserError


class ActorCritic(keras.Model):
    """Maps observations [B, ...] to distribution parameters [B, P] and values [B], sharing all but the heads."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="actor_critic")
        size = distribution_size(action_space)
        self.features = _features(observation_space, network, config)
        self.policy_head = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="policy_head")
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0), name="value_head")
        self(_example(observation_space))

    def call(self, observations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = self.features(observations)
        return self.policy_head(features), tf.squeeze(self.value_head(features), axis=-1)


class ActorAndCritic(keras.Model):
    """Maps observations [B, ...] to distribution parameters [B, P] and values [B] by a network each, made alike."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="actor_and_critic")
        self.policy = CategoricalPolicy(observation_space, action_space, network, config)
        self.critic = Critic(observation_space, network, config)
        self(_example(observation_space))

    def call(self, observations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.policy(observations), self.critic(observations)


class CategoricalPolicy(keras.Model):
    """Maps observations [B, ...] to distribution parameters [B, P] over discrete actions."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="policy")
        size = distribution_size(action_space)
        self.features = _features(observation_space, network, config)
        self.head = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="policy_head")
        self(_example(observation_space))

    def call(self, observations: tf.Tensor) -> tf.Tensor:
        return self.head(self.features(observations))


class GaussianPolicy(keras.Model):
    """Maps observations [B, ...] to means and log standard deviations [B, 2 D]; the latter are the same for each."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="policy")
        size = distribution_size(action_space) // 2
        self.features = _features(observation_space, network, config)
        self.mean = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="mean")
        self.log_std = FreeVector(size, keras.initializers.Constant(config.first_log_std(size)), name="log_std")
        self(_example(observation_space))

    def call(self, observations: tf.Tensor) -> tf.Tensor:
        return tf.concat([self.mean(self.features(observations)), self.log_std(observations)], axis=-1)


class Critic(keras.Model):
    """Maps observations [B, ...] to values [B]."""

    def __init__(self, observation_space: gym.Space, network: str, config) -> None:
        super().__init__(name="critic")
        self.features = _features(observation_space, network, config)
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0), name="value_head")
        self(_example(observation_space))

    def call(self, observations: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(self.value_head(self.features(observations)), axis=-1)


def _features(observation_space: gym.Space, network: str, config) -> keras.Model:
    """The network up to the heads; raises UserError if there is none for the space."""
    if not isinstance(observation_space, gym.spaces.Box):
        raise UserError(f"observation space {observation_space}: must be a Box (images or vectors)")
    return find_network(network)(observation_space, config)


def _example(observation_space: Any) -> tf.Tensor:
    return tf.zeros((1, *observation_space.shape), observation_space.dtype.name)
