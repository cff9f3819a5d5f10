"""Claims about what the loop measures of an update for the log."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from baselines_acktr import a2c
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session.measurements import Measurements

SPACE = gym.spaces.Box(-1, 1, (3,), np.float32)
CASES = {
    "discrete": (a2c.DiscreteModel, gym.spaces.Discrete(3), {"lr": 0.1}),
    "continuous": (a2c.ContinuousModel, gym.spaces.Box(-1, 1, (2,), np.float32), {"lr": 0.05, "vf_iters": 1}),
}


def make(kind: str):
    model_class, actions, options = CASES[kind]
    model = model_class(SPACE, actions, "mlp", model_class.config_class(hidden_sizes=(4,), **options))
    rng = np.random.default_rng(0)
    observations = rng.normal(1, 3, (5, 8, 3)).astype(np.float32)
    rewards, values = rng.normal(size=(2, 5, 8)).astype(np.float32)
    drawn = np.stack([model.sample(row)[0] for row in observations])
    return model, Rollout(observations, drawn, rewards, np.ones((5, 8), bool), values, np.zeros_like(values))


def exact_kl(kind: str, old: np.ndarray, new: np.ndarray) -> float:
    """Mean KL(old || new) of distribution parameters [B, P], in float64."""
    old, new = old.astype(np.float64), new.astype(np.float64)
    if kind == "discrete":
        old, new = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (old, new))
        return (np.exp(old) * (old - new)).sum(axis=1).mean()
    (mean, log_std), (new_mean, new_log_std) = (np.split(x, 2, axis=1) for x in (old, new))
    squares = np.exp(2 * log_std) + np.square(mean - new_mean)
    return (new_log_std - log_std + squares / (2 * np.exp(2 * new_log_std)) - 0.5).sum(axis=1).mean()


@pytest.mark.parametrize("kind", CASES)
def test_kl_is_that_of_the_policies_before_and_after_on_what_they_had_seen(kind):
    """The filter of the observations moves with the update; the KL is that of the weights alone."""
    model, rollout = make(kind)
    seen = model.policy.filtered(rollout.observations.reshape(-1, 3))
    before = model.policy.parameters(seen).numpy()
    measurements = Measurements(model, rollout)
    model.update(rollout, 10**9)
    expected = exact_kl(kind, before, model.policy.parameters(seen).numpy())
    assert expected > 1e-5
    np.testing.assert_allclose(measurements.after_update()["kl"], expected, rtol=1e-2)


@pytest.mark.parametrize("kind", CASES)
def test_measuring_changes_nothing(kind):
    (model, rollout), (other, _) = make(kind), make(kind)
    measurements = Measurements(model, rollout)
    model.update(rollout, 10**9)
    measurements.after_update()
    other.update(rollout, 10**9)
    for name, array in other.state().items():
        np.testing.assert_array_equal(array, model.state()[name], err_msg=name)


def test_the_explained_variance_is_that_of_the_returns_by_the_values_before():
    """Every episode ends at once, so the rewards are the returns."""
    model, rollout = make("discrete")
    foretold = rollout._replace(values=rollout.rewards + np.float32(0.5))
    measurements = Measurements(model, foretold)
    model.update(foretold, 10**9)
    np.testing.assert_allclose(measurements.after_update()["explained_variance"], 1, atol=1e-6)
    wrong = rollout._replace(values=-rollout.rewards)
    np.testing.assert_allclose(Measurements(model, wrong).after_update()["explained_variance"], -3, rtol=1e-5)
