"""The actor-critic: one network shared by policy and value."""

from __future__ import annotations

import gymnasium as gym
import keras
import tensorflow as tf

from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.networks import find_network, orthogonal
from common.distributions import distribution_size
from common.errors import UserError


class ActorCritic(keras.Model):
    """Maps observations [B, ...] to distribution parameters [B, P] and values [B].

    Raises:
      UserError: if the spaces have no network or no distribution.
    """

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="actor_critic")
        if not isinstance(observation_space, gym.spaces.Box):
            raise UserError(f"observation space {observation_space}: must be a Box (images or vectors)")
        size = distribution_size(action_space)
        self.features = find_network(network)(observation_space, config)
        self.policy_head = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="policy_head")
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0), name="value_head")
        self(tf.zeros((1, *observation_space.shape), observation_space.dtype.name))

    def call(self, observations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = self.features(observations)
        return self.policy_head(features), tf.squeeze(self.value_head(features), axis=-1)


def make_actor_critic(
    observation_space: gym.Space, action_space: gym.Space, network: str, config: AcktrDiscreteConfig, seed: int
) -> ActorCritic:
    """An `ActorCritic` whose initial weights depend on `seed` alone."""
    keras.utils.set_random_seed(seed)
    return ActorCritic(observation_space, action_space, network, config)
