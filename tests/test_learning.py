"""Learning on the real games, against the paper's figures: `python -m pytest -m slow` (about an hour on two cores)."""

import numpy as np
import pytest

from baselines_acktr.acktr_discrete import learn
from common.measures import first_episode_above
from common.vec_env import make_vec_env

pytestmark = pytest.mark.slow


class Scores:
    """Collects the scores of finished games, in the order in which they ended."""

    def __init__(self, env) -> None:
        self.scores: list[float] = []
        step = env.step

        def counting_step(actions):
            result = step(actions)
            infos = result[-1]
            if "episode" in infos:
                self.scores.extend(infos["episode"]["r"][infos["_episode"]])
            return result

        env.step = counting_step


def scores_of_training(
    env_id: str, timesteps: int, num_env: int, reward_scale: float = 1.0, **hyperparameters
) -> list[float]:
    with make_vec_env(env_id, num_env, seed=0, reward_scale=reward_scale) as env:
        scores = Scores(env)
        learn(env=env, seed=0, total_timesteps=timesteps, **hyperparameters)
    return scores.scores


def test_cartpole_is_solved():
    """Gymnasium calls it solved at a mean of 475 over 100 games."""
    scores = scores_of_training("CartPole-v1", 300_000, 8, reward_scale=0.05, delta=0.01, ent_coef=0.0)
    assert np.mean(scores[-100:]) >= 475


def test_pong_reaches_human_level_within_the_papers_episodes():
    """Table 1: the first episode whose next 100 average 9.3 is number 904."""
    scores = scores_of_training("PongNoFrameskip-v4", 2_000_000, 32, schedule_timesteps=10_000_000)
    first = first_episode_above(scores, 9.3)
    assert first is not None and first <= 904
