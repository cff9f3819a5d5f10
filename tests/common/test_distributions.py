import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from common.distributions import Categorical, DiagonalGaussian, MultiCategorical, distribution_size, make_distribution
from common.errors import UserError

LOGITS = np.array([0.3, -1.2, 0.8, 0.0])
OTHER = np.array([-0.5, 0.4, 0.1, 1.0])
SAMPLES = 60_000


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def pair(kind, rows=1):
    if kind == "categorical":
        return [Categorical(tf.constant(np.tile(x, (rows, 1)))) for x in (LOGITS, OTHER)]
    if kind == "gaussian":  # two components: means, then log standard deviations
        return [DiagonalGaussian(tf.constant(np.tile(x, (rows, 1)))) for x in (LOGITS, OTHER)]
    return [MultiCategorical(tf.constant(np.tile(x, (rows, 1))), (3, 1)) for x in (LOGITS, OTHER)]


def test_samples_have_the_softmax_frequencies():
    actions = pair("categorical", SAMPLES)[0].sample(tf.random.Generator.from_seed(0)).numpy()
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / SAMPLES, softmax(LOGITS), atol=0.008)


@pytest.mark.parametrize("kind", ["categorical", "multi", "gaussian"])
def test_entropy_and_kl_equal_their_monte_carlo_estimates(kind):
    p, q = pair(kind, SAMPLES)
    actions = p.sample(tf.random.Generator.from_seed(1))
    log_p, log_q = p.log_prob(actions).numpy(), q.log_prob(actions).numpy()
    assert abs(-log_p.mean() - p.entropy().numpy()[0]) < 4 * log_p.std() / np.sqrt(SAMPLES)
    ratio = log_p - log_q
    assert abs(ratio.mean() - p.kl(q).numpy()[0]) < 4 * ratio.std() / np.sqrt(SAMPLES)


def test_log_prob_is_the_log_softmax():
    np.testing.assert_allclose(pair("categorical")[0].log_prob([2]), np.log(softmax(LOGITS)[2:3]))


def test_parts_of_a_multi_discrete_action_are_independent():
    p, _ = pair("multi")
    expected = np.log(softmax(LOGITS[:3])[1]) + 0.0
    np.testing.assert_allclose(p.log_prob(np.array([[1, 0]])), [expected])
    np.testing.assert_array_equal(p.mode(), [[2, 0]])


def test_kl_to_itself_is_zero():
    for kind in ("categorical", "multi", "gaussian"):
        p, _ = pair(kind)
        np.testing.assert_allclose(p.kl(p), [0.0], atol=1e-12)


def test_sampling_is_reproducible_under_the_seed():
    p = pair("categorical", 50)[0]
    first, second = (p.sample(tf.random.Generator.from_seed(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_spaces_get_their_distribution():
    assert distribution_size(gym.spaces.Discrete(4)) == 4
    assert distribution_size(gym.spaces.MultiDiscrete([3, 2])) == 5
    assert isinstance(make_distribution(gym.spaces.MultiDiscrete([3, 2]), tf.zeros([1, 5])), MultiCategorical)
    assert distribution_size(gym.spaces.Box(-1, 1, (3,))) == 6
    assert isinstance(make_distribution(gym.spaces.Box(-1, 1, (3,)), tf.zeros([1, 6])), DiagonalGaussian)


def test_gaussian_samples_have_the_mean_and_deviation():
    p = pair("gaussian", SAMPLES)[0]
    actions = p.sample(tf.random.Generator.from_seed(0)).numpy()
    std = np.exp(LOGITS[2:])
    np.testing.assert_allclose(actions.mean(axis=0), LOGITS[:2], atol=0.04)
    np.testing.assert_allclose(actions.std(axis=0), std, rtol=0.02)
    np.testing.assert_allclose(np.corrcoef(actions.T)[0, 1], 0, atol=0.02)


def test_gaussian_log_prob_by_hand():
    """One component, mean 1, std 2: log p(4) = -0.5 (3/2)^2 - log 2 - 0.5 log 2 pi."""
    log_prob = DiagonalGaussian(tf.constant([[1.0, np.log(2.0)]])).log_prob(tf.constant([[4.0]]))
    np.testing.assert_allclose(log_prob, [-1.125 - np.log(2) - 0.5 * np.log(2 * np.pi)], rtol=1e-6)


def test_space_without_a_distribution_is_named():
    for space in (gym.spaces.Box(-1, 1, (2, 2)), gym.spaces.MultiBinary(3)):
        with pytest.raises(UserError, match="must be Discrete, or a flat MultiDiscrete or Box"):
            distribution_size(space)
