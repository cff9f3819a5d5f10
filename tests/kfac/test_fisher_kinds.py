"""Factors from the sampled, the exact and the empirical Fisher, beside their dense definitions in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import normal

from baselines_acktr.kfac import InlineInverter, Kfac, KfacModel

pytestmark = pytest.mark.long
ROWS, INPUTS, HIDDEN, OUTPUTS = 6, 5, 4, 3
X = normal(ROWS, INPUTS)
ONE_HOT = np.eye(OUTPUTS)[np.random.default_rng(2).integers(0, OUTPUTS, ROWS)]
WEIGHTS = np.linspace(0.5, 2, ROWS)
losses = keras.losses


def of_ones_own(targets, outputs):
    return tf.reduce_sum(tf.cosh(outputs - targets), axis=-1)


CASES = [
    (losses.CategoricalCrossentropy(from_logits=True), None),
    (losses.CategoricalCrossentropy(), WEIGHTS),
    (losses.BinaryCrossentropy(from_logits=True), WEIGHTS),
    (losses.MeanSquaredError(), None),
    (of_ones_own, WEIGHTS),
]
LOSSES = pytest.mark.parametrize(("loss", "sample_weight"), CASES, ids=lambda value: getattr(value, "name", None))


@pytest.fixture(autouse=True)
def float64():
    floats, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(policy)


def network(loss, fisher: str) -> KfacModel:
    keras.utils.set_random_seed(0)
    activation = "softmax" if isinstance(loss, keras.Loss) and loss.get_config().get("from_logits") is False else None
    layers = [keras.Input((INPUTS,)), keras.layers.Dense(HIDDEN, "tanh"), keras.layers.Dense(OUTPUTS, activation)]
    sequential = keras.Sequential(layers)
    model = KfacModel(sequential.inputs[0], sequential.outputs[0])
    model.compile(Kfac(model, inverter=InlineInverter(), learning_rate=0.0), loss, fisher=fisher)
    return model


def factors(loss, fisher: str, x=X, y=ONE_HOT, sample_weight=None) -> list[np.ndarray]:
    """S of both layers, as an update on a batch finds it."""
    model = network(loss, fisher)
    model.train_on_batch(x, y, sample_weight)
    return [np.array(factor.s) for factor in model.optimizer.curvature.snapshot(0).factors]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def forward(loss) -> tuple[np.ndarray, np.ndarray]:
    """What enters the loss linearly, z [B, K], and its Jacobian [B, K, O] by the hidden layer's pre-activations."""
    first, last = network(loss, "sampled").layers[1:]
    hidden = np.tanh(X @ first.kernel.numpy() + first.bias.numpy())  # [B, O]
    kernel = last.kernel.numpy()  # [O, K]
    return hidden @ kernel + last.bias.numpy(), kernel.T[None] * (1 - hidden**2)[:, None, :]


def second_derivatives(loss, z: np.ndarray) -> np.ndarray:
    """Of each row's loss by z, what curves down left out, [B, K, K]."""
    if isinstance(loss, losses.CategoricalCrossentropy):
        p = softmax(z)
        return p[:, :, None] * np.eye(OUTPUTS) - p[:, :, None] * p[:, None, :]
    if isinstance(loss, losses.BinaryCrossentropy):
        p = sigmoid(z)
        return (p * (1 - p) / OUTPUTS)[:, :, None] * np.eye(OUTPUTS)
    if isinstance(loss, losses.MeanSquaredError):
        return np.broadcast_to(2 / OUTPUTS * np.eye(OUTPUTS), (ROWS, OUTPUTS, OUTPUTS))
    return np.cosh(z - ONE_HOT)[:, :, None] * np.eye(OUTPUTS)


def scores(loss, z: np.ndarray) -> np.ndarray:
    """Slopes by z of the log-likelihood of the batch's own targets, which a row's loss is the mean of; [B, K]."""
    if isinstance(loss, losses.CategoricalCrossentropy):
        return ONE_HOT - softmax(z)
    if isinstance(loss, losses.BinaryCrossentropy):
        return (ONE_HOT - sigmoid(z)) / np.sqrt(OUTPUTS)
    if isinstance(loss, losses.MeanSquaredError):
        return 2 * (ONE_HOT - z) / np.sqrt(OUTPUTS)
    return -np.sinh(z - ONE_HOT)


def expected(loss, sample_weight, each_row: np.ndarray) -> list[np.ndarray]:
    """S of both layers from matrices [B, K, K] at z: the weighted mean over rows, carried back to each layer."""
    weights = np.ones(ROWS) if sample_weight is None else sample_weight
    at_outputs = weights[:, None, None] / ROWS * each_row
    _, jacobian = forward(loss)
    return [np.einsum("bko,bkl,blp->op", jacobian, at_outputs, jacobian), at_outputs.sum(axis=0)]


@LOSSES
def test_exact_factors_are_those_of_the_losses_second_derivative(loss, sample_weight):
    dense = expected(loss, sample_weight, second_derivatives(loss, forward(loss)[0]))
    for got, s in zip(factors(loss, "exact", sample_weight=sample_weight), dense, strict=True):
        np.testing.assert_allclose(got, s, rtol=1e-6, atol=1e-9)


@LOSSES
def test_empirical_factors_are_those_of_the_batchs_own_targets(loss, sample_weight):
    found = scores(loss, forward(loss)[0])
    dense = expected(loss, sample_weight, found[:, :, None] * found[:, None, :])
    for got, s in zip(factors(loss, "empirical", sample_weight=sample_weight), dense, strict=True):
        np.testing.assert_allclose(got, s, rtol=1e-6, atol=1e-9)


@LOSSES
def test_sampled_factors_are_the_exact_ones_on_average(loss, sample_weight):
    copies = 3000
    many = [np.repeat(array, copies, axis=0) for array in (X, ONE_HOT)]
    weights = None if sample_weight is None else np.repeat(sample_weight, copies)
    dense = expected(loss, sample_weight, second_derivatives(loss, forward(loss)[0]))
    for got, s in zip(factors(loss, "sampled", *many, weights), dense, strict=True):
        np.testing.assert_allclose(got, s, atol=0.04 * np.abs(s).max())


def test_exact_factors_of_several_outputs_add_up():
    def two(weights: list[float]) -> np.ndarray:
        keras.utils.set_random_seed(0)
        hidden = keras.layers.Dense(HIDDEN, "tanh")(inputs := keras.Input((INPUTS,)))
        model = KfacModel(inputs, [keras.layers.Dense(OUTPUTS)(hidden), keras.layers.Dense(2)(hidden)])
        optimizer = Kfac(model, inverter=InlineInverter(), learning_rate=0.0)
        both = [losses.CategoricalCrossentropy(from_logits=True), "mse"]
        model.compile(optimizer, both, loss_weights=weights, fisher="exact")
        model.train_on_batch(X, [ONE_HOT, X[:, :2]])
        return np.array(optimizer.curvature.snapshot(0).factors[0].s)

    np.testing.assert_allclose(two([1, 0.5]), two([1, 0]) + 0.5 * two([0, 1]), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("fisher", ["exact", "empirical"])
def test_each_kind_trains_and_is_kept_in_files(fisher, tmp_path):
    model = network("mse", fisher)
    model.optimizer.learning_rate = 1.0
    targets = np.sin(X[:, :OUTPUTS])
    history = model.fit(X, targets, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").get_compile_config()["fisher"] == fisher


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"fisher": "true"}, "fisher='true': must be 'sampled' or 'empirical' or 'exact'"),
        (
            {"fisher": "exact", "log_likelihood": lambda outputs, generator: 0},
            "fisher='exact': must be 'sampled' where log_likelihood is given",
        ),
    ],
)
def test_mistakes_are_one_line(options, line):
    model = network("mse", "sampled")
    with pytest.raises(ValueError) as caught:
        model.compile(Kfac(model), "mse", **options)
    assert str(caught.value) == line


def test_an_exact_fisher_of_too_many_outputs_is_one_line():
    inputs = keras.Input((INPUTS,))
    model = KfacModel(inputs, keras.layers.Dense(65)(inputs))
    model.compile("kfac", "mse", fisher="exact")
    with pytest.raises(ValueError) as caught:
        model.train_on_batch(X, np.zeros((ROWS, 65)))
    assert str(caught.value) == "fisher='exact': a row has 65 outputs, more than 64; must be 'sampled'"
