"""Claims about the environments that need a memory."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from baselines_acktr.examples.memory import FixedSequence
from common.vec_env import make_vec_env


@pytest.mark.parametrize("env_id", ["FixedSequence-v0", "PositionsOfCartPole-v0", "PositionsOfPendulum-v0"])
def test_they_keep_to_gymnasiums_contract(env_id):
    check_env(gym.make(env_id).unwrapped, skip_render_check=True)


def test_only_the_sequence_itself_brings_every_reward_and_no_single_action_does():
    env = FixedSequence()

    def score(actions) -> float:
        env.reset()
        results = [env.step(action) for action in actions]
        assert [result[2] for result in results] == [False] * 9 + [True]
        return sum(result[1] for result in results)

    assert score(env.sequence) == 10
    assert max(score([action] * 10) for action in range(10)) <= 3


def test_of_cartpole_only_the_positions_are_seen_and_games_end_after_500_steps():
    env, whole = gym.make("PositionsOfCartPole-v0"), gym.make("CartPole-v1")
    np.testing.assert_array_equal(env.reset(seed=3)[0], whole.reset(seed=3)[0][[0, 2]])
    np.testing.assert_array_equal(env.step(1)[0], whole.step(1)[0][[0, 2]])
    assert env.spec.max_episode_steps == 500


def test_of_the_pendulum_only_the_angle_is_seen_and_games_end_after_200_steps():
    env, whole = gym.make("PositionsOfPendulum-v0"), gym.make("Pendulum-v1")
    np.testing.assert_array_equal(env.reset(seed=3)[0], whole.reset(seed=3)[0][:2])
    np.testing.assert_array_equal(env.step([0.5])[0], whole.step([0.5])[0][:2])
    assert env.spec.max_episode_steps == 200


@pytest.mark.parametrize("env_id", ["FixedSequence-v0", "PositionsOfCartPole-v0", "PositionsOfPendulum-v0"])
def test_runs_of_them_are_resumed_exactly(env_id):
    with make_vec_env(env_id, 1, 0) as env:
        env.reset()
        assert env.state_gap == ""
