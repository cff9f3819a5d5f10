import numpy as np
import pytest

from baselines_acktr.returns import explained_variance, n_step_returns


def test_n_step_returns_by_hand():
    """gamma = 0.5, bootstrap 8: G_2 = 4 + 4 = 8, G_1 = 2 + 4 = 6, G_0 = 1 + 3 = 4."""
    returns = n_step_returns(np.array([[1.0], [2.0], [4.0]]), np.full((3, 1), 0.5), np.array([8.0]))
    np.testing.assert_allclose(returns[:, 0], [4.0, 6.0, 8.0])


def test_n_step_returns_stop_where_an_episode_ended():
    discounts = np.array([[0.5], [0.0], [0.5]])
    returns = n_step_returns(np.array([[1.0], [2.0], [4.0]]), discounts, np.array([8.0]))
    np.testing.assert_allclose(returns[:, 0], [2.0, 2.0, 8.0])


def test_n_step_returns_equal_their_sum():
    """G_t = sum_k gamma^k r_{t+k} + gamma^{T-t} V, column by column."""
    rng = np.random.default_rng(0)
    r_t, bootstrap, gamma = rng.normal(size=(6, 3)), rng.normal(size=3), 0.9
    returns = n_step_returns(r_t, np.full((6, 3), gamma), bootstrap)
    for t in range(6):
        expected = sum(gamma**k * r_t[t + k] for k in range(6 - t)) + gamma ** (6 - t) * bootstrap
        np.testing.assert_allclose(returns[t], expected)


def test_value_of_a_constant_reward_is_its_geometric_sum():
    returns = n_step_returns(np.ones((2000, 1)), np.full((2000, 1), 0.98), np.zeros(1))
    np.testing.assert_allclose(returns[0], 50, rtol=1e-9)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        n_step_returns(np.ones((3, 2)), np.ones((3, 1)), np.ones(2))


def test_explained_variance_by_hand():
    targets = np.array([1.0, 2.0, 3.0])
    assert explained_variance(targets, targets) == 1
    assert explained_variance(np.zeros(3), targets) == 0
    np.testing.assert_allclose(explained_variance(2 * targets, targets), 0)
    np.testing.assert_allclose(explained_variance(-targets, targets), -3)
    assert np.isnan(explained_variance(targets, np.ones(3)))
