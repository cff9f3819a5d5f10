"""Every layer type, in many models: what is recorded is what its weights see, and every model trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_models import MODELS, numbers
from kfac_helpers import normal

from baselines_acktr.kfac import InlineInverter, Kfac, Objective, UnsupportedLayerError, gaussian_log_likelihood
from baselines_acktr.kfac.factors import Sampling
from baselines_acktr.kfac.layers import diagonal
from baselines_acktr.kfac.layers.base import RowFactorization
from baselines_acktr.kfac.layers.diagonal import DiagonalFactorization
from baselines_acktr.kfac.layers.embedding import EmbeddingFactorization
from baselines_acktr.kfac.taps import factorizations, tap_layers

pytestmark = pytest.mark.long
DIAGONAL = {  # the models that have a layer of which only the diagonal is kept
    "additive_attention",
    "conv_lstm",
    "custom_layer",
    "dense_that_scales",
    "einsum_bias_by_site",
    "gru_reset_before",
    "lora",
    "lora_embedding",
    "lstm_recurrent_dropout",
    "quantized",
    "rnn_of_a_custom_cell",
    "rnn_of_stacked_cells",
    "subclassed",
    "untied_embedding",
}
IN_GRAPHS = {  # the others run operation by operation, which spares tracing them
    "conv2d_groups",  # which Keras compiles
    "conv2d_groups_of_one_site",
    "lstm_with_a_mask",
    "rnn_of_a_custom_cell",
    "transformer",
}
UNTOUCHED = {"lstm_of_one_step", "gru_of_one_step"}  # the first states are zeros, on which the recurrent kernel acts


@pytest.fixture(autouse=True)
def seeded(float64):
    keras.utils.set_random_seed(0)


def made(name: str, rows: int):
    """A model with weights that are not their initial zeros and ones, and its inputs."""
    model, inputs = MODELS[name](rows)
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.3, variable.shape))
    return model, inputs


class Recorded:
    """What a model leaves behind for a random linear function of its outputs."""

    def __init__(self, name: str, rows: int) -> None:
        self.model, inputs = made(name, rows)
        self.found = factorizations(self.model)
        keras.utils.set_random_seed(1)
        plain = tf.nest.flatten(self.model(inputs))
        keras.utils.set_random_seed(1)
        with tf.GradientTape(persistent=True) as self.tape, tap_layers(self.found) as taps:
            outputs = tf.nest.flatten(self.model(inputs))
            directions = [numbers(rows, *output.shape[1:], seed=7) for output in outputs]
            self.value = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(outputs, directions, strict=True)])
        for output, expected in zip(outputs, plain, strict=True):
            np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-12)
        gradients = self.tape.gradient(self.value, [tap.outputs for tap in taps])
        self.calls = [pair for pair in zip(taps, gradients, strict=True) if pair[1] is not None]
        self.sampling = Sampling(None, tf.random.Generator.from_seed(0), rows=tf.constant(rows))

    def of(self, one):
        return [pair for pair in self.calls if pair[0].factorization is one]

    def gradient(self, one) -> np.ndarray:
        parts = self.tape.gradient(self.value, [variable.value for variable in one.variables])
        return one.join([tf.cast(tf.convert_to_tensor(part), "float64") for part in parts]).numpy()


def in_groups(rows: tf.Tensor) -> np.ndarray:
    """[B, S, D] -> [B, S, 1, D]; groups stay."""
    return rows.numpy() if len(rows.shape) == 4 else rows.numpy()[:, :, None]


def loops(calls, sampling_rows: int):
    """The gradient, A and S of some rows by their definition: a triple loop over calls, rows and sites."""
    masks = [np.ones(call.inputs.shape[:2]) if call.mask is None else call.mask.numpy() for call in calls]
    total = sum(mask.sum() for mask in masks)
    gradient, a, s = 0, 0, 0
    for call, mask in zip(calls, masks, strict=True):
        inputs, outputs = in_groups(call.inputs), in_groups(call.outputs)
        for row in range(inputs.shape[0]):
            for site in range(inputs.shape[1]):
                x, y = inputs[row, site], outputs[row, site]
                gradient = gradient + np.einsum("gi,go->gio", x, y)
                a = a + np.einsum("gi,gj->gij", x, x) * mask[row, site] / total
                s = s + np.einsum("go,gp->gop", y, y) / sampling_rows
    return gradient, a, s


@pytest.mark.parametrize("name", MODELS)
def test_rows_reproduce_the_gradient_and_factors_equal_loops(name):
    recorded = Recorded(name, rows=2)
    for one in recorded.found:
        parts = one.split(one.join([tf.cast(variable.value, "float64") for variable in one.variables]))
        for part, variable in zip(parts, one.variables, strict=True):
            np.testing.assert_array_equal(part, variable)
        if not isinstance(one, RowFactorization):
            continue
        gradient, a, s = loops(one.rows(recorded.of(one), recorded.sampling), sampling_rows=2)
        whole = recorded.gradient(one)
        np.testing.assert_allclose(gradient.reshape(whole.shape), whole, rtol=1e-9, atol=1e-11)
        found_a, found_s = one.factors(recorded.of(one), recorded.sampling)
        np.testing.assert_allclose(a.reshape(found_a.shape), found_a, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(s.reshape(found_s.shape), found_s, rtol=1e-9, atol=1e-12)

    covered = [id(variable) for one in recorded.found for variable in one.variables]
    assert sorted(covered) == sorted(id(variable) for variable in recorded.model.trainable_variables)
    assert any(isinstance(one, DiagonalFactorization) for one in recorded.found) == (name in DIAGONAL)


ONE_SITE = [  # for one row the first block of each is the exact Fisher, or its diagonal
    *("dense", "dense_without_bias", "bias_alone_is_trained", "kernel_alone_is_trained", "dense_of_another_name"),
    *("einsum_without_bias", "embedding_alone", "conv2d_of_one_site", "conv2d_groups_of_one_site"),
    *("depthwise_conv2d_of_one_site", "lstm_of_one_step", "gru_of_one_step", "layer_normalization_of_axes"),
    *("prelu_of_shared_axes", "dense_that_scales", "lora", "gru_reset_before", "conv_lstm"),
]


@pytest.mark.parametrize("name", ONE_SITE)
def test_the_block_of_one_row_and_one_site_is_the_exact_fisher(name):
    recorded = Recorded(name, rows=1)
    one = recorded.found[0]
    gradient = recorded.gradient(one)
    a, s = (factor.numpy() for factor in one.factors(recorded.of(one), recorded.sampling))
    if isinstance(one, DiagonalFactorization):
        np.testing.assert_allclose(a[0] * s, gradient[0] ** 2, rtol=1e-9, atol=1e-14)
        return
    a = np.diag(a) if a.ndim == 1 else a
    groups = gradient if gradient.ndim == 3 else gradient[None]
    for g, left, right in zip(groups, a.reshape(-1, *a.shape[-2:]), s.reshape(-1, *s.shape[-2:]), strict=True):
        np.testing.assert_allclose(np.kron(left, right), np.outer(g, g), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains(name):
    model, inputs = made(name, 6)
    before = [variable.numpy() for variable in model.trainable_variables]
    with Kfac(model, learning_rate=0.1, delta=1e-2, momentum=0.0, inverter=InlineInverter()) as optimizer:

        def objective(batch):
            outputs = tf.nest.flatten(model(batch))
            loss = tf.add_n([tf.reduce_mean(tf.square(output - 3)) for output in outputs])
            drawn = tf.add_n([gaussian_log_likelihood(output, optimizer.generator) for output in outputs])
            return Objective(loss, drawn, rows=tf.constant(6))

        tf.config.run_functions_eagerly(name not in IN_GRAPHS)
        try:
            losses = [float(optimizer.minimize(objective, inputs)["loss"]) for _ in range(5)]
        finally:
            tf.config.run_functions_eagerly(False)
    assert losses[-1] < losses[0]
    assert optimizer.counters["skipped_updates"] == 0
    for variable, former in zip(model.trainable_variables, before, strict=True):
        is_moved = np.any(variable.numpy() != former)
        assert is_moved or (name in UNTOUCHED and variable.name == "recurrent_kernel"), variable.path


def test_there_are_at_least_sixty_models():
    assert len(MODELS) >= 60


def test_frequencies_of_tokens_are_the_factor_of_an_embedding():
    recorded = Recorded("embedding", 5)
    (one,) = [one for one in recorded.found if isinstance(one, EmbeddingFactorization)]
    a, s = one.factors(recorded.of(one), recorded.sampling)
    ((tap, gradient),) = recorded.of(one)
    counts = np.bincount(tap.inputs.numpy().ravel(), minlength=7)
    np.testing.assert_allclose(a, counts / counts.sum(), rtol=1e-12)
    np.testing.assert_allclose(s, np.einsum("bti,btj->ij", gradient, gradient) / 5, rtol=1e-12)


def test_a_tied_embedding_keeps_both_partial_traces_of_the_sum_of_its_two_blocks():
    recorded = Recorded("tied_embedding", 3)
    (one,) = [one for one in recorded.found if isinstance(one, EmbeddingFactorization)]
    total, left, right = 0, 0, 0
    for call in recorded.of(one):
        a, s = one.factors([call], recorded.sampling)
        left, right = left + a * np.trace(s), right + s * np.sum(a)
        total += np.sum(a) * np.trace(s)
    a, s = one.factors(recorded.of(one), recorded.sampling)
    np.testing.assert_allclose(a * np.trace(s), left, rtol=1e-10)
    np.testing.assert_allclose(s * np.sum(a), right, rtol=1e-10)
    np.testing.assert_allclose(np.sum(a) * np.trace(s), total, rtol=1e-10)


def test_the_diagonal_of_sampled_gradients_is_without_bias():
    """By Monte Carlo, for a layer whose exact Fisher is known from its rows."""
    rows, draws = 3, 400
    x = numbers(rows, 4)
    layer = keras.layers.Dense(2)
    layer.build((None, 4))
    (one,) = diagonal(layer)
    noise = tf.constant(np.random.default_rng(0).normal(size=(draws, rows, 2)))
    kernel = np.einsum("bi,dbo->dio", x, noise).reshape(draws, -1)
    sums = np.concatenate([kernel, noise.numpy().sum(axis=1)], axis=1)
    sampling = Sampling(None, tf.random.Generator.from_seed(0), rows=tf.constant(rows))
    found = []
    for total in sums:
        with tap_layers([one]) as taps:
            pass
        parts = one.split(tf.constant(total[None]))
        found.append(one.factors(list(zip(taps, parts, strict=True)), sampling)[1].numpy())
    exact = np.concatenate([np.repeat(np.mean(x**2, axis=0), 2), np.ones(2)])
    error = np.std(found, axis=0) / np.sqrt(draws)
    assert np.all(np.abs(np.mean(found, axis=0) - exact) < 4.5 * error)


def test_rows_of_weight_zero_do_not_count():
    whole, part = Recorded("dense", 4), Recorded("dense", 4)
    one = whole.found[0]
    ((tap, gradient),) = whole.of(one)
    weights = np.array([1.0, 0.0, 2.0, 0.0])
    sampling = whole.sampling._replace(row_weights=tf.constant(weights))
    a, _ = one.factors([(tap, gradient * np.sqrt(weights)[:, None])], sampling)
    rows = np.insert(tap.inputs.numpy(), 5, 1.0, axis=1)
    np.testing.assert_allclose(a, np.einsum("b,bi,bj->ij", weights, rows, rows) / 3, rtol=1e-12)
    assert part.found[0] is not one


@pytest.mark.parametrize("name", ["depthwise_conv2d", "conv2d_transpose"])
def test_drawn_sites_give_the_factors_of_all_on_average(name):
    recorded = Recorded(name, 2)
    one = recorded.found[0]
    whole = one.factors(recorded.of(one), recorded.sampling)
    draws = [
        one.factors(recorded.of(one), Sampling(2, tf.random.Generator.from_seed(seed), rows=tf.constant(2)))
        for seed in range(60)
    ]
    for full, sampled in zip(whole, zip(*draws, strict=True), strict=True):
        error = np.std(sampled, axis=0) / np.sqrt(len(draws))
        assert np.all(np.abs(np.mean(sampled, axis=0) - full) <= 5 * error + 1e-12)


def test_a_layer_without_factors_is_named_once(caplog):
    model, _ = made("dense_that_scales", 2)
    with caplog.at_level("INFO"):
        Kfac(model)
    assert caplog.text.count("(Scaled)") == 1


class Tied(keras.layers.Layer):
    """Multiplies by the kernel of another layer."""

    def __init__(self, other: keras.layers.Dense) -> None:
        super().__init__()
        self.other = other

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.other.kernel))


class Looping(keras.layers.Layer):
    """Calls a layer inside a loop of TensorFlow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.layers.Dense(4, "tanh", name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return keras.ops.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, self.inner(x)), (0, inputs))[1]


def tied() -> keras.Model:
    inputs = keras.Input((4,))
    encoder = keras.layers.Dense(3, "tanh", name="encoder")
    return keras.Model(inputs, Tied(encoder)(encoder(inputs)))


def looping() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), Looping(), keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (tied, "encoder", "has weights that are used outside of its calls, too"),
        (looping, "inner", "is called inside a loop or a function of its own"),
    ],
)
def test_weights_that_act_unseen_are_named_and_trained_by_their_diagonal(make, name, reason):
    model, x = make(), numbers(6, 4)

    def update(**options) -> list[float]:
        optimizer = Kfac(model, learning_rate=0.3, inverter="inline", **options)

        def objective(batch):
            outputs = model(batch)
            loss = tf.reduce_mean(tf.square(outputs - 1))
            return Objective(loss, gaussian_log_likelihood(outputs, optimizer.generator), rows=tf.constant(6))

        return [float(optimizer.minimize(objective, x)["loss"]) for _ in range(3)]

    with pytest.raises(UnsupportedLayerError, match=rf"^layer '{name}' {reason}, .* diagonal=\['{name}'\]"):
        update()
    losses = update(diagonal=[name])
    assert losses[-1] < losses[0]


def test_the_squares_of_sums_are_taken_after_ranks_and_draws_were_put_together():
    layer = keras.layers.Dense(2)
    layer.build((None, 4))
    (one,) = diagonal(layer)
    sums = tf.constant(normal(3, 2, 10))  # [ranks, draws, N], each divided by the square root of 5 rows
    rows = 5
    ones = tf.ones([2, 1, 1], tf.float64)
    a, s = one.from_means(ones, tf.reduce_mean(sums, axis=0), ranks=3)
    whole = np.sum(sums * np.sqrt(rows), axis=0)  # of all 15 rows, for each draw
    np.testing.assert_allclose(s, np.mean(whole**2 / 15, axis=0), rtol=1e-12)
    assert a.shape == (1, 1)
