import numpy as np
import pytest

from baselines_acktr.learning.returns import explained_variance, generalized_advantages, lambda_returns


def column(*values):
    return np.array(values, float)[:, None]


NEVER = np.zeros((3, 1), bool)


def test_lambda_returns_by_hand():
    """gamma = 0.5, V = 8 after the last step: G_2 = 4 + 4 = 8, G_1 = 2 + 4 = 6, G_0 = 1 + 3 = 4."""
    returns = lambda_returns(column(1, 2, 4), column(5, 6, 7), column(6, 7, 8), NEVER, 0.5)
    np.testing.assert_allclose(returns, column(4, 6, 8))


def test_lambda_returns_stop_where_an_episode_terminated():
    ended = column(0, 1, 0).astype(bool)
    returns = lambda_returns(column(1, 2, 4), column(5, 6, 7), column(6, 0, 8), ended, 0.5)
    np.testing.assert_allclose(returns, column(2, 2, 8))


def test_lambda_returns_bootstrap_from_the_final_observation_where_an_episode_was_truncated():
    """Its value is 10: G_1 = 2 + 5 = 7, whatever comes after."""
    ended = column(0, 1, 0).astype(bool)
    returns = lambda_returns(column(1, 2, 4), column(5, 6, 7), column(6, 10, 8), ended, 0.5)
    np.testing.assert_allclose(returns, column(4.5, 7, 8))


def random_batch(steps=6, envs=3):
    rng = np.random.default_rng(0)
    r_t, v_tm1 = rng.normal(size=(2, steps, envs))
    ended = rng.random((steps, envs)) < 0.2
    terminated = ended & (rng.random((steps, envs)) < 0.5)
    following = np.concatenate([v_tm1[1:], rng.normal(size=(1, envs))])
    v_t = np.where(terminated, 0, np.where(ended, rng.normal(size=(steps, envs)), following))
    return r_t, v_tm1, v_t, ended


def test_advantages_equal_their_sum():
    """A_t = sum_k (gamma lambda)^k delta_{t+k}, up to the end of the episode or the batch, column by column."""
    r_t, v_tm1, v_t, ended = random_batch()
    advantages = generalized_advantages(r_t, v_tm1, v_t, ended, 0.9, 0.7)
    delta = r_t + 0.9 * v_t - v_tm1
    for n in range(3):
        for t in range(6):
            expected, k = 0.0, 0
            while t + k < 6:
                expected += (0.9 * 0.7) ** k * delta[t + k, n]
                if ended[t + k, n]:
                    break
                k += 1
            np.testing.assert_allclose(advantages[t, n], expected)


def test_lambda_zero_gives_temporal_differences_and_lambda_one_the_returns():
    batch = random_batch()
    r_t, v_tm1, v_t, _ = batch
    np.testing.assert_allclose(generalized_advantages(*batch, 0.9, 0.0), r_t + 0.9 * v_t - v_tm1)
    np.testing.assert_allclose(generalized_advantages(*batch, 0.9, 1.0) + v_tm1, lambda_returns(*batch, 0.9))


def test_value_of_a_constant_reward_is_its_geometric_sum():
    zeros, never = np.zeros((2000, 1)), np.zeros((2000, 1), bool)
    np.testing.assert_allclose(lambda_returns(np.ones((2000, 1)), zeros, zeros, never, 0.98)[0], 50, rtol=1e-9)


def test_float32_stays_float32():
    batch = [array.astype(np.float32) if array.dtype == float else array for array in random_batch()]
    assert generalized_advantages(*batch, 0.9, 0.7).dtype == lambda_returns(*batch, 0.9).dtype == np.float32


def test_wrong_shapes_are_refused():
    ones = np.ones((3, 2))
    with pytest.raises(ValueError, match="shapes differ"):
        lambda_returns(ones, np.ones((3, 1)), ones, ones.astype(bool), 0.9)


def test_explained_variance_by_hand():
    targets = np.array([1.0, 2.0, 3.0])
    assert explained_variance(targets, targets) == 1
    assert explained_variance(np.zeros(3), targets) == 0
    np.testing.assert_allclose(explained_variance(2 * targets, targets), 0)
    np.testing.assert_allclose(explained_variance(-targets, targets), -3)
    assert np.isnan(explained_variance(targets, np.ones(3)))
