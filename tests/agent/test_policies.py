"""Claims about policies alone: how they draw, what they call likely, what they measure."""

from __future__ import annotations

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.agent.filters import NoFilter, make_filter
from baselines_acktr.agent.gaussian_policy import GaussianPolicy
from baselines_acktr.agent.heads import ActorCritic, CategoricalNetwork, GaussianNetwork
from baselines_acktr.agent.policies import CategoricalPolicy, SharedPolicy, SharedValueFunction
from baselines_acktr.config import A2cContConfig, A2cDiscreteConfig
from common.errors import UserError

SPACE = gym.spaces.Box(-1, 1, (3,), np.float32)
CHOICES = gym.spaces.Discrete(3, start=5)
BOX = gym.spaces.Box(-2, 2, (2,), np.float32)
SMALL = {"hidden_sizes": (4,)}
ROWS = np.random.default_rng(0).uniform(-1, 1, (6, 3)).astype(np.float32)


def make(kind: str, seed: int = 0):
    keras.utils.set_random_seed(1)
    if kind == "shared":
        return SharedPolicy(ActorCritic(SPACE, CHOICES, "mlp", A2cDiscreteConfig(**SMALL)), CHOICES, seed)
    if kind == "categorical":
        network = CategoricalNetwork(SPACE, CHOICES, "mlp", A2cDiscreteConfig(**SMALL))
        return CategoricalPolicy(network, make_filter(SPACE), CHOICES, seed)
    network = GaussianNetwork(SPACE, BOX, "mlp", A2cContConfig(**SMALL))
    return GaussianPolicy(network, make_filter(SPACE), BOX, seed, in_numpy=kind == "gaussian")


KINDS = ["shared", "categorical", "gaussian", "gaussian-in-tensorflow"]


def state_of(policy) -> dict[str, np.ndarray]:
    return policy.sampler.state() if isinstance(policy, SharedPolicy) else policy.state()


@pytest.mark.parametrize("kind", KINDS)
def test_the_neglogps_are_those_of_the_distribution(kind):
    policy = make(kind)
    actions, neglogps, _ = policy.act(ROWS)
    pi = policy.distribution(policy.parameters(policy.filtered(ROWS)))
    np.testing.assert_allclose(neglogps, -pi.log_prob(actions).numpy(), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_likely_actions_are_the_mode_and_leave_the_draws_alone(kind):
    policy = make(kind)
    before = state_of(policy)
    actions = policy.act(ROWS, deterministic=True).actions
    pi = policy.distribution(policy.parameters(policy.filtered(ROWS)))
    np.testing.assert_allclose(actions, pi.mode().numpy(), rtol=1e-5, atol=1e-6)
    for name, array in state_of(policy).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("kind", KINDS)
def test_sample_and_act_draw_the_same_actions(kind):
    first, second = make(kind), make(kind)
    np.testing.assert_array_equal(first.sample(ROWS)[0], second.act(ROWS).actions)
    assert not np.array_equal(make(kind, seed=1).sample(ROWS)[0], make(kind).sample(ROWS)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_kl_since_is_that_of_the_parameters_before_and_after(kind):
    policy = make(kind)
    seen = tf.constant(ROWS)
    before = policy.parameters(seen)
    assert abs(float(policy.kl_since(before, seen))) < 1e-7
    rng = np.random.default_rng(0)
    for weight in policy.network.trainable_variables:
        weight.assign(weight + rng.normal(size=weight.shape))
    old, new = policy.distribution(before), policy.distribution(policy.parameters(seen))
    expected = np.mean(old.kl(new))
    assert expected > 1e-3
    np.testing.assert_allclose(float(policy.kl_since(before, seen)), expected, rtol=1e-5)


def test_discrete_actions_count_from_the_start_of_their_space_for_the_environment():
    for kind in ("shared", "categorical"):
        np.testing.assert_array_equal(make(kind).to_env(np.array([0, 2])), [5, 7])


def test_a_shared_network_gives_the_values_with_the_actions():
    policy = make("shared")
    expected = policy.network(ROWS)[1].numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(policy.sample(ROWS)[1], expected, rtol=1e-5)
    np.testing.assert_allclose(policy.act(ROWS).values, expected, rtol=1e-5)
    np.testing.assert_allclose(SharedValueFunction(policy.network).predict(ROWS), expected, rtol=1e-5)
    assert make("categorical").sample(ROWS)[1] is None


def test_a_shared_policy_has_discrete_actions():
    with pytest.raises(UserError, match="must be Discrete or MultiDiscrete"):
        SharedPolicy(make("shared").network, BOX, 0)


def test_new_weights_are_acted_with_after_refresh_and_the_filter_has_seen_the_rollout():
    policy = make("gaussian")
    rollout = np.stack([ROWS, 3 * ROWS])  # [T, N, 3]
    policy.network.mean.bias.assign([0.7, -0.7])
    before = policy.act(ROWS, deterministic=True).actions
    policy.refresh(rollout)
    np.testing.assert_allclose(policy.filter.mean, rollout.reshape(-1, 3).mean(axis=0), rtol=1e-6)
    mean = policy.network(policy.filtered(ROWS)).numpy()[:, :2]
    np.testing.assert_allclose(policy.act(ROWS, deterministic=True).actions, mean, rtol=1e-5, atol=1e-6)
    assert np.abs(before - mean).min() > 0.1


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_state_brings_filter_and_draws_back(kind):
    first, second = make(kind), make(kind, seed=1)
    first.refresh(np.stack([ROWS, 3 * ROWS]))
    first.sample(ROWS)
    second.set_state(first.state())
    np.testing.assert_array_equal(first.sample(ROWS)[0], second.sample(ROWS)[0])
    np.testing.assert_array_equal(first.filtered(ROWS), second.filtered(ROWS))


def test_images_are_left_as_they_are():
    images = make_filter(gym.spaces.Box(0, 255, (4, 4, 1), np.uint8))
    assert isinstance(images, NoFilter)
    rows = np.full((2, 4, 4, 1), 7, np.uint8)
    images.update(rows)
    assert images(rows) is rows
    assert images.state() == {}
