import contextlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import dense, factors_of, homogeneous_jacobian, normal, sequential

from baselines_acktr.kfac import FreeVector, UnsupportedLayerError, categorical_log_likelihood
from baselines_acktr.kfac.layers import factorizations_of
from baselines_acktr.kfac.layers.convolutions import patches
from baselines_acktr.kfac.taps import factorizations, supported_layers, tap_layers


@pytest.mark.parametrize("use_bias", [True, False])
def test_factors_equal_exact_fisher_for_batch_of_one(use_bias):
    model = sequential(dense(4, "tanh", use_bias), dense(3, None, use_bias), input_shape=(5,))
    x, direction = normal(1, 5), normal(1, 3, seed=2)
    factors = factors_of(model, lambda outputs: tf.reduce_sum(outputs * direction), x)
    for layer, (a, s) in zip(model.layers, factors, strict=True):
        gradient = direction[0] @ homogeneous_jacobian(model, layer, x)[0]
        np.testing.assert_allclose(np.kron(a, s), np.outer(gradient, gradient), rtol=1e-12, atol=1e-14)


def test_factors_equal_exact_fisher_for_deep_linear_network():
    """In a deep linear network with Gaussian outputs s does not depend on a, so A (x) S is exact for any batch."""
    model = sequential(dense(4), dense(3), dense(2), input_shape=(5,))
    x = normal(7, 5)
    per_output = [factors_of(model, lambda outputs, k=k: tf.reduce_sum(outputs[:, k]), x) for k in range(2)]
    for index, layer in enumerate(model.layers):
        a = per_output[0][index][0]
        s = sum(factors[index][1] for factors in per_output)  # E[xi xi^T] = I: sum over unit directions
        jacobian = homogeneous_jacobian(model, layer, x)
        exact = np.einsum("bki,bkj->ij", jacobian, jacobian) / len(x)
        np.testing.assert_allclose(np.kron(a, s), exact, rtol=1e-10, atol=1e-12)


CONVOLUTIONS = [
    dict(kernel_size=k, strides=s, padding=p, dilation_rate=d, use_bias=b)
    for k, s, p, d, b in itertools.product([(3, 2)], [1, 2, (2, 1)], ["valid", "same"], [1, 2], [True, False])
    if s == 1 or d == 1
] + [dict(kernel_size=1, strides=3, padding="same", dilation_rate=1, use_bias=True)]


def conv_factors_by_loops(layer, x, gradient):
    """The definition: a triple loop over rows, sites and kernel positions."""
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.strides, layer.dilation_rate
    rows, height, width, channels = x.shape
    out_h, out_w = gradient.shape[1:3]
    pad = np.zeros(2, int)
    if layer.padding == "same":
        spans = ((out_h - 1) * sh + (kh - 1) * dh + 1 - height, (out_w - 1) * sw + (kw - 1) * dw + 1 - width)
        pad = np.maximum(spans, 0) // 2
    a = s = 0
    for b, i, j in itertools.product(range(rows), range(out_h), range(out_w)):
        patch = np.zeros((kh, kw, channels))
        for p, q in itertools.product(range(kh), range(kw)):
            y, z = i * sh + p * dh - pad[0], j * sw + q * dw - pad[1]
            if 0 <= y < height and 0 <= z < width:
                patch[p, q] = x[b, y, z]
        row = np.append(patch.ravel(), 1.0) if layer.use_bias else patch.ravel()
        a = a + np.outer(row, row) / (rows * out_h * out_w)
        s = s + np.outer(gradient[b, i, j], gradient[b, i, j]) / rows
    return a, s


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_conv_factors_equal_loops(options):
    layer = keras.layers.Conv2D(4, dtype="float64", **options)
    model = sequential(layer, input_shape=(7, 6, 2))
    x = normal(3, 7, 6, 2)
    gradient = normal(*model(x).shape, seed=2)
    ((a, s),) = factors_of(model, lambda outputs: tf.reduce_sum(outputs * gradient), x)
    expected_a, expected_s = conv_factors_by_loops(layer, x, gradient)
    np.testing.assert_allclose(a, expected_a, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(s, expected_s, rtol=1e-12, atol=1e-14)


SEQUENCES = [
    dict(strides=s, padding=p, dilation_rate=d)
    for s, p, d in itertools.product([1, 2], ["valid", "same", "causal"], [1, 2])
    if s == 1 or d == 1
]


@pytest.mark.parametrize("options", SEQUENCES, ids=str)
def test_convolution_of_a_sequence_has_the_factors_of_its_patches(options):
    """Its patches are what a convolution with unit kernels gives."""
    layer = keras.layers.Conv1D(4, 3, dtype="float64", **options)
    model = sequential(layer, input_shape=(7, 2))
    x = normal(3, 7, 2)
    gradient = normal(*model(x).shape, seed=2)
    ((a, s),) = factors_of(model, lambda outputs: tf.reduce_sum(outputs * gradient), x)
    unit = keras.layers.Conv1D(6, 3, use_bias=False, dtype="float64", **options)
    unit.build(x.shape)
    unit.kernel.assign(np.eye(6).reshape(3, 2, 6))
    rows = np.insert(unit(x).numpy().reshape(-1, 6), 6, 1.0, axis=1)
    np.testing.assert_allclose(a, rows.T @ rows / len(rows), rtol=1e-12, atol=1e-14)
    outer = gradient.reshape(-1, 4)
    np.testing.assert_allclose(s, outer.T @ outer / 3, rtol=1e-12, atol=1e-14)


def test_patches_times_kernel_equal_the_convolution():
    layer = keras.layers.Conv2D(3, 3, 2, padding="same", use_bias=False, dtype="float64")
    model = sequential(layer, input_shape=(8, 7, 2))
    x = normal(2, 8, 7, 2)
    outputs = model(x)
    rows = tf.reshape(patches(layer, tf.constant(x), outputs.shape[1:3]), [2, -1, 3 * 3 * 2])
    product = rows @ tf.reshape(layer.kernel, [-1, 3])
    np.testing.assert_allclose(product, tf.reshape(outputs, [2, -1, 3]), rtol=1e-12)


def test_layer_called_twice_counts_both_calls_as_sites():
    inputs = keras.Input((4,), dtype="float64")
    shared = dense(4)
    model = keras.Model(inputs, shared(shared(inputs)))
    x, direction = normal(1, 4), normal(1, 4, seed=2)
    ((a, s),) = factors_of(model, lambda outputs: tf.reduce_sum(outputs * direction), x)
    first, second = np.append(x, 1.0), np.append(shared(x), 1.0)
    back = direction[0] @ shared.kernel.numpy().T
    np.testing.assert_allclose(a, (np.outer(first, first) + np.outer(second, second)) / 2, rtol=1e-12)
    np.testing.assert_allclose(s, np.outer(direction, direction) + np.outer(back, back), rtol=1e-12)


def test_trunk_shared_by_two_heads_gets_the_sum_of_their_gradients():
    inputs = keras.Input((4,), dtype="float64")
    trunk, left, right = dense(3), dense(2), dense(1)
    features = trunk(inputs)
    model = keras.Model(inputs, [left(features), right(features)])
    factors = factors_of(model, lambda outputs: tf.reduce_sum(outputs[0]) + 2 * tf.reduce_sum(outputs[1]), normal(5, 4))
    gradient = left.kernel.numpy().sum(axis=1) + 2 * right.kernel.numpy()[:, 0]
    np.testing.assert_allclose(factors[0][1], np.outer(gradient, gradient), rtol=1e-12)


def test_free_vector_has_the_fisher_of_its_rows():
    layer = FreeVector(3, dtype="float64")
    model = sequential(layer, input_shape=(2,))
    gradient = normal(6, 3)
    ((a, s),) = factors_of(model, lambda outputs: tf.reduce_sum(outputs * gradient), normal(6, 2))
    np.testing.assert_array_equal(a, [[1.0]])
    np.testing.assert_allclose(s, gradient.T @ gradient / 6, rtol=1e-12)


NORMALIZATIONS = [
    keras.layers.BatchNormalization(dtype="float64"),
    keras.layers.BatchNormalization(axis=1, dtype="float64"),
    keras.layers.BatchNormalization(scale=False, dtype="float64"),
    keras.layers.GroupNormalization(2, dtype="float64"),
    keras.layers.GroupNormalization(2, axis=1, dtype="float64"),
    keras.layers.LayerNormalization(dtype="float64"),
    keras.layers.LayerNormalization(axis=2, dtype="float64"),
    keras.layers.LayerNormalization(center=False, dtype="float64"),
    keras.layers.RMSNormalization(dtype="float64"),
]


def normalized_model(layer, seed=0):
    """A model with one normalization of images [4, 3, 2]; one of the scales is 0."""
    model = sequential(layer, keras.layers.Flatten(), dense(3, "tanh"), dense(2), input_shape=(4, 3, 2), seed=seed)
    for variable in layer.non_trainable_variables:
        variable.assign(np.random.default_rng(seed).uniform(0.5, 2, variable.shape))
    first = layer.trainable_variables[0]
    first.assign(first.numpy() * (np.arange(len(first.numpy())) != 1))
    return model


@pytest.mark.parametrize("layer", NORMALIZATIONS, ids=lambda layer: layer.name)
def test_scale_and_shift_have_their_exact_fisher(layer):
    model = normalized_model(layer)
    x = normal(7, 4, 3, 2)
    per_output = [factors_of(model, lambda outputs, k=k: tf.reduce_sum(outputs[:, k]), x)[0] for k in range(2)]
    np.testing.assert_array_equal(per_output[0][0], [[1.0]])
    jacobian = homogeneous_jacobian(model, layer, x)
    exact = np.einsum("bki,bkj->ij", jacobian, jacobian) / len(x)
    np.testing.assert_allclose(sum(s for _, s in per_output), exact, rtol=1e-10, atol=1e-12)
    assert np.abs(exact).max() > 0.01


@pytest.mark.parametrize("layer", NORMALIZATIONS, ids=lambda layer: layer.name)
def test_tapping_leaves_a_normalization_what_it_computes_and_keeps(layer):
    x = tf.constant(normal(7, 4, 3, 2))

    def trained(tapped: bool):
        model = normalized_model(layer.__class__.from_config(layer.get_config()), seed=3)
        taps = tap_layers(factorizations(model)) if tapped else contextlib.nullcontext()
        with tf.GradientTape() as tape, taps:
            outputs = model(x, training=True)
        gradients = tape.gradient(outputs, [variable.value for variable in model.trainable_variables])
        return [outputs, *gradients, *model.get_weights()], [list(layer.variables) for layer in model.layers]

    values, variables = trained(tapped=True)
    expected, expected_variables = trained(tapped=False)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-10, atol=1e-12)
    assert [len(group) for group in variables] == [len(group) for group in expected_variables]


def test_dense_on_a_sequence_treats_steps_as_sites():
    layer = dense(2)
    model = sequential(layer, input_shape=(5, 3))
    x, gradient = normal(4, 5, 3), normal(4, 5, 2, seed=2)
    ((a, s),) = factors_of(model, lambda outputs: tf.reduce_sum(outputs * gradient), x)
    rows = np.concatenate([x, np.ones((4, 5, 1))], axis=-1).reshape(20, 4)
    np.testing.assert_allclose(a, rows.T @ rows / 20, rtol=1e-12)
    np.testing.assert_allclose(s, np.einsum("bti,btj->ij", gradient, gradient) / 4, rtol=1e-12)


def conv_model():
    return sequential(keras.layers.Conv2D(2, 3, dtype="float64"), input_shape=(6, 6, 1))


def test_subsample_of_sites_is_unbiased():
    model, x = conv_model(), normal(2, 6, 6, 1)
    gradient = normal(2, 4, 4, 2, seed=2)

    def objective(outputs):
        return tf.reduce_sum(outputs * gradient)

    ((full_a, full_s),) = factors_of(model, objective, x)
    draws = [factors_of(model, objective, x, max_sites=4, seed=seed)[0] for seed in range(300)]
    for full, sampled in ((full_a, [a for a, _ in draws]), (full_s, [s for _, s in draws])):
        error = np.std(sampled, axis=0) / np.sqrt(len(draws))
        assert np.all(np.abs(np.mean(sampled, axis=0) - full) <= 4.5 * error + 1e-12)
        assert error.max() > 0


def test_subsample_of_sites_is_deterministic_under_the_seed():
    model, x = conv_model(), normal(2, 6, 6, 1)

    def draw(seed):
        return factors_of(model, tf.reduce_sum, x, max_sites=4, seed=seed)[0][0]

    np.testing.assert_array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.Conv2D(4, 3, dtype="float64"), (3 * 3 * 2 + 1, 4)),
        (keras.layers.LayerNormalization(dtype="float64"), (1, 2 + 2)),
        (FreeVector(3, dtype="float64"), (1, 3)),
    ],
    ids=["convolution", "normalization", "vector"],
)
def test_join_and_split_are_inverse(layer, shape):
    sequential(layer, input_shape=(5, 5, 2))
    (one,) = factorizations_of(layer)
    weights = [variable.value for variable in one.variables]
    matrix = one.join(weights)
    assert matrix.shape == shape
    for part, weight in zip(one.split(matrix), weights, strict=True):
        np.testing.assert_array_equal(part, weight)


def test_tapping_leaves_outputs_and_the_layer_as_they_were():
    model = sequential(dense(4, "tanh"), dense(2), input_shape=(3,))
    x = normal(5, 3)
    before = model(x).numpy()
    with tap_layers(factorizations(model)) as taps:
        np.testing.assert_array_equal(model(x), before)
    np.testing.assert_allclose(np.tanh(taps[0].outputs), taps[1].inputs)
    model(x)
    assert len(taps) == 2


def test_layer_of_an_unknown_type_is_named_where_factors_are_asked_for():
    class Scaled(keras.layers.Dense):
        def call(self, inputs):
            return super().call(inputs * 2)

    model = keras.Sequential([keras.Input((4,)), Scaled(3, name="culprit")])
    with pytest.raises(UnsupportedLayerError, match="'culprit' of type Scaled; supported are Dense"):
        supported_layers(model)
    assert supported_layers(model, strict=False) == model.layers


def test_frozen_layer_is_left_out():
    frozen, trained = keras.layers.LayerNormalization(trainable=False), dense(2)
    model = keras.Sequential([keras.Input((3,)), frozen, trained])
    assert supported_layers(model) == [trained]


def test_categorical_sampled_gradients_have_the_exact_fisher():
    """E[g g^T] over sampled classes is diag(p) - p p^T, by Monte Carlo."""
    logits = tf.constant(np.tile([0.5, -1.0, 1.5], (40_000, 1)))
    generator = tf.random.Generator.from_seed(0)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = categorical_log_likelihood(logits, generator)
    gradient = tape.gradient(value, logits).numpy()
    p = np.exp([0.5, -1.0, 1.5]) / np.exp([0.5, -1.0, 1.5]).sum()
    np.testing.assert_allclose(gradient.T @ gradient / len(gradient), np.diag(p) - np.outer(p, p), atol=0.01)
