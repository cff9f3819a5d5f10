"""Weight decay: a term of the loss, with its exact curvature in the quadratic model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_models import MODELS
from kfac_helpers import flat, normal

from baselines_acktr.kfac import Divergence, InlineInverter, Kfac, KfacModel, Objective, gaussian_kl
from baselines_acktr.kfac.fisher import gaussian_log_likelihood
from baselines_acktr.kfac.weight_decay import WeightDecay

pytestmark = pytest.mark.usefixtures("float64")
ROWS, FEATURES, OUTPUTS, DECAY, DAMPING = 40, 4, 2, 0.3, 0.05
X = normal(ROWS, FEATURES)
Y = normal(ROWS, OUTPUTS, seed=5)
SIZE = (FEATURES + 1) * OUTPUTS


def linear() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((FEATURES,))
    return KfacModel(inputs, keras.layers.Dense(OUTPUTS, bias_initializer="normal")(inputs))


def update(model: keras.Model, optimizer: Kfac, with_divergence: bool = True, times: int = 1) -> dict[str, tf.Tensor]:
    """Updates of 1/2 |outputs - Y|^2 for a row, whose second derivative at the outputs is the identity."""

    def loss(x):
        return 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(model(x) - Y), axis=1))

    def objective(x):
        return Objective(loss(x), gaussian_log_likelihood(model(x), optimizer.generator))

    divergence = Divergence(lambda x: model(x), gaussian_kl) if with_divergence else None
    return [optimizer.minimize(objective, X, divergence=divergence, loss=loss) for _ in range(times)][-1]


def kfac(model: keras.Model, **options) -> Kfac:
    settings = {"weight_decay": DECAY, "damping": DAMPING, "iterations": 12, "delta": 1e6, "inverter": InlineInverter()}
    return Kfac(model, **settings | options)


def dense_parts(model: keras.Model, decays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w, the gradient of the loss with decay, and its second derivative, by their definition for a linear model."""
    w = flat(model.get_weights())
    rows = np.insert(X, FEATURES, 1.0, axis=1)
    fisher = np.kron(rows.T @ rows / ROWS, np.eye(OUTPUTS))
    error = model.predict(X, verbose=0) - Y
    gradient = (rows.T @ error / ROWS).ravel() + decays * w
    return w, gradient, fisher + np.diag(decays)


@pytest.mark.parametrize("left_out", [[], ["bias"]])
def test_a_step_is_the_damped_newton_step_of_the_loss_with_its_decay(left_out):
    model = linear()
    optimizer = kfac(model, damping_interval=1)
    optimizer.exclude_from_weight_decay(var_names=left_out)
    decays = np.full(SIZE, DECAY)
    decays[FEATURES * OUTPUTS :] *= not left_out
    w, gradient, curvature = dense_parts(model, decays)

    found = update(model, optimizer)
    step = np.linalg.solve(curvature + DAMPING * np.eye(SIZE), gradient)
    np.testing.assert_allclose(flat(model.get_weights()), w - step, rtol=1e-8)

    foretold = gradient @ step - 0.5 * step @ (curvature + DAMPING * np.eye(SIZE)) @ step
    np.testing.assert_allclose(found["model_decrease"], foretold, rtol=1e-8)
    came_true = foretold + 0.5 * DAMPING * step @ step  # of the loss with its decay, which is quadratic
    np.testing.assert_allclose(optimizer.damping_ratio, came_true / foretold, rtol=1e-8)
    undecayed = curvature - np.diag(decays)
    np.testing.assert_allclose(found["model_kl"], 0.5 * step @ undecayed @ step, rtol=1e-8)


def test_weights_may_be_left_out_by_themselves():
    model = linear()
    optimizer = kfac(model)
    optimizer.exclude_from_weight_decay([model.layers[-1].bias])
    decays = np.repeat([DECAY, 0.0], [FEATURES * OUTPUTS, OUTPUTS])
    w, gradient, curvature = dense_parts(model, decays)
    update(model, optimizer)
    expected = w - np.linalg.solve(curvature + DAMPING * np.eye(SIZE), gradient)
    np.testing.assert_allclose(flat(model.get_weights()), expected, rtol=1e-8)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_ends_at_the_minimum_of_the_loss_with_its_decay(momentum):
    model = linear()
    optimizer = kfac(model, momentum=momentum, iterations=2)
    update(model, optimizer, times=40)
    _, gradient, _ = dense_parts(model, np.full(SIZE, DECAY))
    assert np.abs(gradient).max() < 1e-6


def test_without_a_divergence_the_step_is_that_of_the_damped_factors():
    model = linear()
    w, gradient, _ = dense_parts(model, np.full(SIZE, DECAY))
    optimizer = kfac(model, momentum=0.0)
    update(model, optimizer, with_divergence=False)
    matrix = gradient.reshape(FEATURES + 1, OUTPUTS)
    expected = flat(optimizer.blocks[0].precondition(tf.constant(matrix))[None])
    np.testing.assert_allclose(flat(model.get_weights()), w - expected, rtol=1e-10)


@pytest.mark.parametrize(
    "name", ["transformer", "tied_embedding", "several_outputs", "encoder_and_decoder", "gru_reset_before"]
)
def test_every_weight_of_every_kind_of_layer_decays_once(name):
    model, _ = MODELS[name](2)
    optimizer = Kfac(model)
    decay = WeightDecay(optimizer.blocks, DECAY)
    weights = [block.join(block.weights) for block in optimizer.blocks]
    parts = [block.split(m) for block, m in zip(optimizer.blocks, decay.times(weights), strict=True)]
    expected = [DECAY * variable.numpy() for variable in optimizer.trained_variables]
    np.testing.assert_allclose(flat([part for some in parts for part in some]), flat(expected), rtol=1e-12)
    assert len(expected) == len(model.trainable_variables)
    np.testing.assert_allclose(decay.loss(), np.sum(flat(expected) ** 2) / DECAY / 2, rtol=1e-12)


def test_inverses_are_damped_by_the_decay_too():
    model, other = linear(), linear()
    with_decay, with_damping = kfac(model), kfac(other, weight_decay=0.0, damping=DAMPING + DECAY)
    update(model, with_decay)
    update(other, with_damping)
    for ours, theirs in zip(with_decay.blocks[0].tensors, with_damping.blocks[0].tensors, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_fit_reports_the_loss_without_the_decay_as_keras_does():
    model = linear()
    model.compile(kfac(model), "mse")
    expected = float(np.mean(np.square(model.predict(X, verbose=0) - Y)))
    history = model.fit(X, Y, batch_size=ROWS, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-10)


def test_a_loaded_model_goes_on_with_the_same_weights_left_out(tmp_path):
    model = linear()
    optimizer = kfac(model)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in model, loaded:
        one.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_array_equal(flat(loaded.get_weights()), flat(model.get_weights()))
    assert loaded.optimizer.get_config()["not_decayed"] == [1]


def test_what_decays_is_said_before_the_first_update():
    model = linear()
    optimizer = kfac(model)
    update(model, optimizer)
    with pytest.raises(ValueError, match=r"^exclude_from_weight_decay: must be called before the first update$"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])
