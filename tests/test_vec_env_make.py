"""Claims about `make_vec_env` that hold for every backend."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from common.vec_env import make_vec_env


@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "CartPole-v1"])
def test_step_returns_the_shapes_and_types_of_the_contract(env_id):
    with make_vec_env(env_id, 3, seed=0) as env:
        assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
        observations, infos = env.reset()
        assert isinstance(infos, dict)
        assert env.observation_space.contains(observations)
        observations, rewards, terminations, truncations, infos = env.step(np.array([1, 1, 1]))
        assert env.observation_space.contains(observations)
        assert rewards.dtype == np.float32
        assert rewards.shape == (3,)
        assert terminations.dtype == truncations.dtype == bool
        assert terminations.shape == truncations.shape == (3,)
