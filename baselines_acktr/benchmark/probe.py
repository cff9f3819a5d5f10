"""The spaces of an environment, read before TensorFlow is imported."""

from __future__ import annotations

import functools

import gymnasium as gym

from common.process import suit_tensorflow
from common.vec_env import make_vec_env


@functools.cache
def spaces_of(env_id: str, pixels: bool = False) -> tuple[gym.Space, gym.Space]:
    """Returns the spaces of one observation and of one action, and configures TensorFlow for such observations."""
    with make_vec_env(env_id, 1, seed=0, pixels=pixels) as env:
        suit_tensorflow(env.single_observation_space)
        return env.single_observation_space, env.single_action_space
