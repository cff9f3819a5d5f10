"""Claims about what a runner makes of a vector environment that is Gymnasium's own."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from baselines_acktr.learning.rollouts import FinishedEpisodes, Runner


class Stroll(gym.Env):
    """Walks two steps, whose rewards are 1 and 2, with lists for observations."""

    observation_space = gym.spaces.Box(0, 9, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return [0.0], {}

    def step(self, action):
        self.time += 1
        return [float(self.time)], float(self.time), False, self.time == 2, {}


class Still:
    """A policy that does one thing and whose values are the observations."""

    def sample(self, observations):
        return np.zeros(len(observations), int), None

    def to_env(self, actions):
        return actions

    def value(self, observations):
        return np.asarray(observations, np.float32)[:, 0]


def make_runner(wrap, steps=4) -> Runner:
    env = SyncVectorEnv([lambda: wrap(Stroll())] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    return Runner(env, Still(), steps)


def test_episodes_are_counted_where_each_environment_keeps_its_own_statistics(capsys):
    runner = make_runner(gym.wrappers.RecordEpisodeStatistics)
    rollout = runner.run()
    assert (runner.episodes, list(runner.episode_rewards), list(runner.episode_lengths)) == (4, [3.0] * 4, [2] * 4)
    np.testing.assert_array_equal(rollout.next_values, [[1, 1], [2, 2], [1, 1], [2, 2]])
    assert capsys.readouterr().err == ""


def test_an_episode_that_ends_during_the_reset_of_a_step_counts_beside_those_that_ended_before_it():
    def statistics(*scores):
        return {"episode": {"r": np.array(scores), "l": np.array([1, 1])}, "_episode": np.array(scores) > 0}

    infos = statistics(0, 7) | {"final_info": statistics(5, 0)}
    assert FinishedEpisodes(2)(infos, np.array([True, False])) == {0: (5, 1), 1: (7, 1)}


def test_statistics_that_never_come_are_missed_once(capsys):
    runner = make_runner(lambda env: env, steps=190)
    runner.run()
    assert capsys.readouterr().err == ""
    for _ in range(3):
        runner.run()
    err = capsys.readouterr().err
    assert err.startswith("no scores will be known: the environment does not say") and err.count("\n") == 1
