import contextlib
import threading
from collections.abc import Iterator

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.agent.critics import Euclidean, GaussNewton, make_value_function
from baselines_acktr.agent.heads import Critic
from baselines_acktr.config import AcktrContConfig
from common.mpi import ALONE

SPACE = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
KINDS = ["gauss-newton", "adaptive", "euclidean"]


def make(critic="gauss-newton", seed=0, **options):
    keras.utils.set_random_seed(seed)
    options = {"inverses": "inline", "activation": "elu", "hidden_sizes": (16,), "vf_iters": 5, "vf_rows": 0} | options
    config = AcktrContConfig(critic=critic, **options)
    return make_value_function(Critic(SPACE, "mlp", config), config, seed, ALONE)


def data(rows=200, seed=0):
    """Observations, and returns of the size of Humanoid's that depend on them."""
    observations = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    return observations, (4000 + 1000 * np.tanh(observations.sum(axis=1))).astype(np.float32)


@contextlib.contextmanager
def without_graphs() -> Iterator[None]:
    """Within it, TensorFlow takes every step on its own."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def test_kinds():
    assert isinstance(make("euclidean"), Euclidean)
    assert isinstance(make("adaptive"), GaussNewton)


@pytest.mark.parametrize("kind", KINDS)
def test_learns_returns_in_the_thousands(kind):
    value_function = make(kind, vf_lr=0.3)
    observations, returns = data()
    for _ in range(150):
        value_function.fit(observations, returns)
    error = np.mean(np.square(value_function.predict(observations) - returns))
    assert error < 0.1 * returns.var()


@pytest.mark.parametrize("kind", KINDS)
def test_a_move_of_the_moments_leaves_the_predictions(kind):
    value_function = make(kind)
    observations, returns = data()
    value_function.fit(observations, returns)
    before = value_function.predict(observations)
    std = value_function.targets.moments.std
    value_function.targets.follow(-5 * returns, ALONE)
    assert value_function.targets.moments.std > 2 * std
    np.testing.assert_allclose(value_function.predict(observations), before, rtol=1e-3)


def test_adaptive_sigma_is_the_running_deviation_of_the_bellman_error():
    value_function = make("adaptive", vf_stats_decay=0.75, vf_lr=1e-8)
    observations, returns = data()
    value_function.fit(observations, returns)
    value_function.wait()
    standardised = (returns - returns.mean()) / returns.std()
    predicted = value_function.targets.standardise(value_function.predict(observations))
    error = np.mean(np.square(standardised - predicted))
    np.testing.assert_allclose(float(value_function.sigma) ** 2, 0.75 + 0.25 * error, rtol=1e-3)
    assert float(make("gauss-newton").sigma) == 1


def test_sigma_scales_the_fisher_and_so_widens_the_trust_region():
    """S of the value head is 1 / sigma^2."""
    value_function = make("adaptive", vf_stats_decay=0.0, vf_lr=1e-8, vf_iters=1)
    observations, returns = data(rows=20_000)
    value_function.fit(observations, returns)
    value_function.wait()
    factors = {factor.name: factor for factor in value_function.optimizer.curvature.snapshot(0).factors}
    np.testing.assert_allclose(factors["value_head"].s, [[float(value_function.sigma) ** -2]], rtol=0.05)


def test_adaptive_sigma_survives_returns_that_are_all_alike():
    value_function = make("adaptive")
    observations, returns = data()
    for scale in (*100 * [0], *16 * [1]):
        value_function.fit(observations, scale * returns)
    assert np.mean(np.square(value_function.predict(observations) - returns)) < 0.5 * returns.var()


@pytest.mark.parametrize("rows", [0, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_of_all_steps_takes_them_one_after_the_other(kind, rows):
    observations, returns = data()
    first, second = make(kind, vf_rows=rows), make(kind, vf_rows=rows)
    first.fit(observations, returns)
    with without_graphs():
        second.fit(observations, returns)
    np.testing.assert_allclose(first.predict(observations), second.predict(observations), rtol=1e-5)
    assert np.ptp(first.predict(observations)) > 10


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_a_batch_is_given_so_many_updates_and_one_look_at_the_fisher(steps, monkeypatch):
    value_function = make(vf_iters=steps, vf_stats_decay=0.5, vf_rows=20)
    taken = []
    advance = value_function.optimizer.advance

    def noted(loss, observations, targets):
        taken.append(len(observations))
        return advance(loss, observations, targets)

    monkeypatch.setattr(value_function.optimizer, "advance", noted)
    with without_graphs():
        for _ in range(2):
            value_function.fit(*data())
        value_function.wait()
    np.testing.assert_allclose(value_function.optimizer.state()["total_weight"], 1 - 0.5**2)
    assert taken == 2 * (steps - 1) * [20]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_for_after_fit_has_its_steps_in_it(kind):
    observations, returns = data()
    first, second = make(kind), make(kind)
    first.fit(observations, returns)
    second.fit(observations, returns)
    second.wait()
    before = first.predict(observations)
    np.testing.assert_array_equal(before, second.predict(observations))
    first.fit(observations, returns)
    assert first.status()["value_loss"] < second.status()["value_loss"]
    first.close()
    first.fit(observations, returns)
    assert not np.array_equal(first.predict(observations), before)


def test_fit_returns_while_its_steps_are_taken(monkeypatch):
    value_function, may_go_on = make(), threading.Event()
    threads = []
    follow = value_function.targets.follow

    def followed(returns, comm):
        assert may_go_on.wait(60)
        follow(returns, comm)
        threads.append(threading.current_thread())

    monkeypatch.setattr(value_function.targets, "follow", followed)
    may_go_on.set()
    value_function.fit(*data())
    assert threads == [threading.main_thread()]  # it traces graphs, which no other thread may do meanwhile

    may_go_on.clear()
    value_function.fit(*data())
    assert len(threads) == 1
    may_go_on.set()
    assert np.ptp(value_function.predict(data()[0])) > 0
    assert len(threads) == 2 and threads[1] is not threading.main_thread()


def test_an_error_of_the_thread_is_raised_where_it_is_waited_for():
    value_function = make()
    value_function.fit(*data())
    value_function.fit(data()[0], np.zeros(3, np.float32))
    with pytest.raises(Exception, match="shape"):
        value_function.predict(data()[0])
    assert value_function.predict(data()[0]).shape == (200,)


@pytest.mark.parametrize("kind", KINDS)
def test_state_brings_everything_back(kind):
    observations, returns = data()
    first, second = make(kind, vf_rows=20), make(kind, seed=1, vf_rows=20)
    first.fit(observations, returns)
    second.set_state(first.state())
    for value_function in (first, second):
        value_function.fit(observations, 2 * returns)
    for name, array in first.state().items():
        np.testing.assert_array_equal(array, second.state()[name], err_msg=name)
