"""Claims about numbers that are not finite: each is named, costs at most an update, and is never in a checkpoint.

That of an environment's observation or reward is in `test_run.py`.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr import a2c, acktr_cont, acktr_discrete, trpo
from baselines_acktr.kfac import CholeskyForm, EigenForm, InlineInverter, Kfac, Objective, gaussian_log_likelihood
from baselines_acktr.learning.optimizers import GuardedOptimizer
from common import array_file
from common.errors import RunFailedError
from common.mpi import ALONE
from common.vec_env import make_vec_env

ROWS = np.random.default_rng(0).standard_normal((32, 3)).astype(np.float32)


class Poisoned:
    """A regression whose gradient, or one of whose factors, is multiplied by a number that can be set."""

    def __init__(self, form: type = CholeskyForm) -> None:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(4, "tanh", name="first"), keras.layers.Dense(1, name="second")]
        self.model = keras.Sequential([keras.Input((3,)), *layers])
        self.optimizer = Kfac(self.model, inverter=InlineInverter(), form=form())
        self.factors = {name: tf.Variable(1.0) for name in ("gradient", "A", "S")}

    def objective(self, x):
        loss = tf.reduce_mean(tf.square(self.model(x))) * self.factors["gradient"]
        values = self.model(x * self.factors["A"])[:, 0]
        likelihood = gaussian_log_likelihood(values, self.optimizer.generator) * self.factors["S"]
        return Objective(loss, likelihood)

    def step(self) -> None:
        self.optimizer.minimize(self.objective, ROWS)

    @property
    def weights(self) -> list[np.ndarray]:
        return [weight.numpy() for weight in self.model.trainable_weights]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("what", "counter", "message"),
    [
        ("gradient", "skipped_updates", "1 updates and 0 statistics; the gradient of layer 'first' was not finite"),
        ("A", "skipped_statistics", "0 updates and 1 statistics; factor A of layer 'first' was not finite"),
        ("S", "skipped_statistics", "0 updates and 1 statistics; factor S of layer 'first' was not finite"),
    ],
)
def test_a_bad_gradient_or_factor_is_left_out_and_its_layer_is_named(caplog, what, counter, message, value):
    run = Poisoned()
    run.step()
    before = run.weights
    run.factors[what].assign(value)
    run.step()
    moved = any((a != b).any() for a, b in zip(before, run.weights, strict=True))
    assert moved == (what != "gradient")
    assert run.optimizer.counters[counter] == 1
    run.factors[what].assign(1.0)
    run.step()
    assert run.optimizer.counters[counter] == 1
    told = [record.message for record in caplog.records if record.name.startswith("baselines_acktr")]
    assert told == [f"K-FAC left out {message}"]
    assert all(np.isfinite(array).all() for array in run.optimizer.state().values())


@pytest.mark.parametrize("form", [CholeskyForm, EigenForm])
def test_an_inverse_of_a_bad_factor_is_not_used_and_its_layer_is_named(caplog, form):
    run = Poisoned(form)
    run.step()
    inverses = [tensor.numpy() for block in run.optimizer.blocks for tensor in block.tensors]
    good = run.optimizer.blocks[1].averages[0].numpy()
    run.optimizer.blocks[1].averages[0].assign(tf.fill((5, 5), np.nan))
    run.optimizer.refresh_inverses()
    assert run.optimizer.counters["skipped_refreshes"] == 1
    assert "layer 'second'" in caplog.records[0].message
    for a, b in zip(inverses, (t for block in run.optimizer.blocks for t in block.tensors), strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    run.optimizer.blocks[1].averages[0].assign(good)
    run.step()
    assert all(np.isfinite(weight).all() for weight in run.weights)


def test_a_first_order_step_with_a_bad_gradient_is_left_out_and_its_weights_are_named(caplog):
    layer = keras.layers.Dense(2, name="output")
    layer.build((None, 3))

    def objective(*slopes):
        pairs = zip(layer.trainable_variables, slopes, strict=True)
        return tf.add_n([tf.reduce_sum(variable.value * slope) for variable, slope in pairs]), {}

    optimizer = GuardedOptimizer(keras.optimizers.Adam(0.1), layer.trainable_variables, objective, ALONE)
    optimizer.minimize(tf.ones((3, 2)), tf.ones(2))
    before, state = layer.get_weights(), optimizer.state()
    optimizer.minimize(tf.ones((3, 2)), tf.constant([1, np.nan]))
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert optimizer.skipped_updates == 1
    assert "the gradient of output/bias was not finite" in caplog.records[0].message
    after = optimizer.state()
    assert [name for name in state if (state[name] != after[name]).any()] == ["skipped"]


POISONED_WEIGHTS = [
    (acktr_discrete, "CartPole-v1", {"nsteps": 5, "inverses": "inline"}, "predicted value"),
    (a2c, "CartPole-v1", {}, "predicted value"),
    (acktr_cont, "Pendulum-v1", {"timesteps_per_batch": 20, "vf_iters": 1, "inverses": "inline"}, "action"),
]


@pytest.mark.parametrize(("learner", "env_id", "options", "what"), POISONED_WEIGHTS)
def test_bad_weights_stop_the_run_at_the_next_step_and_are_never_saved(tmp_path, learner, env_id, options, what):
    def poison(model):
        for weight in model.policy.network.trainable_variables:
            weight.assign(weight * np.nan)
        model.policy.refresh(np.zeros((1, 1, 3)))
        models.append(model)

    models: list = []
    path = tmp_path / "model"
    with make_vec_env(env_id, 2, seed=0) as env, pytest.raises(RunFailedError, match=f"environment 0: its {what} is"):
        learner.learn(env=env, total_timesteps=1000, callback=poison, save_path=str(path), hidden_sizes=(8,), **options)
    with pytest.raises(RunFailedError, match=r"after update 1: \w+/\S+ is not finite, so nothing is saved"):
        models[0].save(str(path))
    with pytest.raises(FileNotFoundError):
        path.stat()


@pytest.mark.parametrize("learner", [acktr_cont, trpo])
def test_a_bad_critic_stops_the_run_at_the_next_batch(learner):
    def poison(model):
        model.value_function.wait()
        head = model.value_function.critic.value_head
        head.bias.assign(head.bias * np.nan)
        updates.append(model.updates)

    updates: list = []
    options = {"timesteps_per_batch": 20, "vf_iters": 1, "hidden_sizes": (8,)}
    message = "environment 0: its predicted value is not finite"
    with make_vec_env("Pendulum-v1", 2, seed=0) as env, pytest.raises(RunFailedError, match=message):
        learner.learn(env=env, total_timesteps=1000, callback=poison, **options)
    assert updates == [1]


def test_finite_weights_are_saved(tmp_path):
    with make_vec_env("CartPole-v1", 2, seed=0) as env:
        a2c.learn(env=env, total_timesteps=10, nsteps=5, hidden_sizes=(8,), save_path=str(tmp_path / "model"))
    assert array_file.load(tmp_path / "model")[1]["counters"]["updates"] == 1
