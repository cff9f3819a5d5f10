"""What losses of Keras say of a model's outputs, beside their own second derivatives."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import hessian, normal, output_curvature

from baselines_acktr.kfac import terms
from baselines_acktr.kfac.keras_model import likelihood_of
from baselines_acktr.kfac.likelihoods import huber_information, site_likelihood

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("float64")]
ROWS, STEPS, CLASSES = 3, 2, 4
losses = keras.losses


ONE_HOT = np.array([0.0, 1.0, 0.0])

# A loss, what makes outputs of pre-activations, and targets of one row (None: the outputs themselves).
KNOWN = [
    (losses.CategoricalCrossentropy(from_logits=True), tf.identity, ONE_HOT),
    (losses.CategoricalCrossentropy(), tf.nn.softmax, ONE_HOT),
    (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), tf.identity, ONE_HOT),
    (losses.CategoricalCrossentropy(from_logits=True), tf.identity, np.stack([ONE_HOT, ONE_HOT])),
    (losses.KLDivergence(), tf.nn.softmax, np.array([0.2, 0.5, 0.3])),
    (losses.BinaryCrossentropy(from_logits=True), tf.identity, ONE_HOT),
    (losses.BinaryCrossentropy(), tf.sigmoid, ONE_HOT),
    (losses.MeanSquaredError(), tf.identity, ONE_HOT),
    (losses.MeanSquaredError(), tf.identity, np.stack([ONE_HOT, ONE_HOT])),
    (losses.MeanSquaredLogarithmicError(), tf.exp, None),
    (losses.Poisson(), tf.exp, None),
]


@pytest.mark.parametrize(("loss", "activation", "targets"), KNOWN, ids=lambda value: getattr(value, "name", None))
def test_fisher_of_a_likelihood_is_the_gauss_newton_matrix_of_its_loss(loss, activation, targets):
    pre_activations, draws = normal(*(ONE_HOT if targets is None else targets).shape), 200_000
    if targets is None:
        targets = activation(tf.constant(pre_activations)).numpy()
    z = tf.constant(np.repeat(pre_activations[None], draws, axis=0))
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = likelihood_of(loss).log_likelihood(activation(z), tf.random.Generator.from_seed(0))
    gradients = tape.gradient(value, z).numpy().reshape(draws, -1)
    expected = hessian(lambda z: loss(targets[None], activation(z)), pre_activations[None])
    np.testing.assert_allclose(gradients.T @ gradients / draws, expected, atol=0.02 * np.abs(expected).max())

    point = tf.constant(pre_activations[None])
    kl = output_curvature(lambda old, new: likelihood_of(loss).mean_kl(activation(old), activation(new)), point)
    np.testing.assert_allclose(kl, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "density"),
    [
        (losses.MeanAbsoluteError(), lambda e: np.exp(-np.abs(e))),
        (losses.Huber(0.7), lambda e: np.exp(-np.where(np.abs(e) < 0.7, e**2 / 2, 0.7 * (np.abs(e) - 0.35)))),
        (losses.LogCosh(), lambda e: 1 / np.cosh(e)),
        (losses.MeanSquaredError(), lambda e: np.exp(-(e**2))),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_loss_of_an_error_has_the_fisher_information_of_its_density(loss, density):
    """E[(d log p / d e)^2] by integration, divided among the numbers of a row."""
    errors = np.linspace(-60, 60, 2_400_001)
    weights = density(errors)
    slopes = np.gradient(np.log(np.maximum(weights, 1e-300)), errors)
    information = np.sum(weights * slopes**2) / np.sum(weights)
    point = tf.constant(normal(1, 3))
    found = output_curvature(likelihood_of(loss).mean_kl, point)
    np.testing.assert_allclose(found, information / 3 * np.eye(3), rtol=1e-3, atol=1e-12)


def test_huber_becomes_the_squared_error_where_it_is_wide():
    np.testing.assert_allclose(huber_information(30.0), 1.0, rtol=1e-12)
    assert huber_information(0.01) < 1e-3 + 0.01**2 * math.pi


def test_other_losses_have_no_likelihood():
    def custom(y_true, y_pred):
        return tf.reduce_sum(tf.square(y_true - y_pred), axis=-1)

    class Own(losses.MeanSquaredError):
        def call(self, y_true, y_pred):
            return 2 * super().call(y_true, y_pred)

    for loss in losses.CategoricalHinge(), losses.get("hinge"), custom, Own(), losses.BinaryFocalCrossentropy():
        assert site_likelihood(loss) is None


def compiled(loss, outputs: int = 1, **options) -> keras.Model:
    inputs = keras.Input((STEPS, CLASSES))
    model = keras.Model(inputs, [keras.layers.Activation("linear")(inputs) for _ in range(outputs)])
    model.compile("sgd", loss, **options)
    return model


LOGITS = normal(ROWS, STEPS, CLASSES)
LABELS = np.array([[0, 1], [2, 3], [1, 1]])
BY_ROW, BY_SITE = np.array([[0.5], [0.0], [2.0]]), np.array([[1.0, 0.0], [0.5, 2.0], [0.0, 0.0]])


def sparse(**options):
    return losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def custom(y_true, y_pred):
    return tf.reduce_sum(tf.math.softplus(tf.square(y_pred - 1)), axis=-1)


@pytest.mark.parametrize(
    ("loss", "sample_weight", "mask"),
    [
        (sparse(), None, None),
        (sparse(), BY_ROW, None),
        (sparse(), BY_SITE, None),
        (sparse(ignore_class=1), None, None),
        (sparse(ignore_class=1), BY_ROW, None),
        (sparse(), None, BY_SITE > 0),
        (sparse(), BY_ROW, BY_SITE > 0),
        (sparse(reduction="sum"), BY_SITE, None),
        (sparse(reduction="mean_with_sample_weight"), BY_SITE, None),
        ("mse", BY_ROW, None),
        ("mse", None, BY_SITE > 0),
        (losses.CategoricalCrossentropy(from_logits=True, axis=1), None, None),
        (custom, None, None),
        (custom, BY_ROW, None),
    ],
)
def test_weights_masks_and_reductions_reach_the_curvature(loss, sample_weight, mask):
    model = compiled(loss)
    if isinstance(loss, losses.SparseCategoricalCrossentropy):
        targets = tf.constant(LABELS)
    elif isinstance(loss, losses.CategoricalCrossentropy):  # of classes on axis 1
        targets = tf.constant(np.moveaxis(np.eye(STEPS)[np.zeros((ROWS, CLASSES), int)], -1, 1))
    else:
        targets = tf.constant(np.eye(CLASSES)[LABELS])
    weight = None if sample_weight is None else tf.constant(sample_weight)

    def with_mask(outputs):
        outputs = tf.identity(outputs)
        if mask is not None:
            outputs._keras_mask = tf.constant(mask)
        return outputs

    def whole(outputs):
        return model.compute_loss(None, targets, with_mask(outputs), weight)

    outputs = with_mask(tf.constant(LOGITS))
    _, found = terms.loss_with_terms(model, lambda: model.compute_loss(None, targets, outputs, weight))
    judged = terms.judged(found)
    expected = hessian(whole, LOGITS)
    np.testing.assert_allclose(output_curvature(terms.mean_kl, judged), expected, rtol=1e-6, atol=1e-9)
    assert np.abs(expected).max() > 0.01
    row_weights = terms.row_weights(judged)
    assert (row_weights is None) == (
        sample_weight is None and mask is None and getattr(loss, "ignore_class", None) is None
    )


def test_a_row_of_weight_zero_has_no_gradient_and_others_the_root_of_theirs():
    model, weight = compiled(sparse()), tf.constant(BY_ROW)
    outputs, targets = tf.constant(LOGITS), tf.constant(LABELS)

    def gradients(sample_weight):
        _, found = terms.loss_with_terms(model, lambda: model.compute_loss(None, targets, outputs, sample_weight))
        judged = terms.judged(found)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            value = terms.log_likelihood(terms.Judged([outputs], judged.curvatures), tf.random.Generator.from_seed(0))
        return tape.gradient(value, outputs).numpy(), terms.row_weights(judged)

    plain, _ = gradients(None)
    weighted, row_weights = gradients(weight)
    np.testing.assert_allclose(weighted, plain * np.sqrt(BY_ROW)[..., None], rtol=1e-10)
    np.testing.assert_allclose(row_weights / row_weights[0], BY_ROW[:, 0] / BY_ROW[0], rtol=1e-10)


def test_several_outputs_add_up_with_their_weights():
    model = compiled([sparse(), "mse"], outputs=2, loss_weights=[2.0, 0.5])
    targets = [tf.constant(LABELS), tf.constant(np.eye(CLASSES)[LABELS])]
    outputs = [tf.constant(LOGITS), tf.constant(normal(ROWS, STEPS, CLASSES, seed=4))]
    loss, found = terms.loss_with_terms(model, lambda: model.compute_loss(None, targets, outputs, None))
    parts = [sparse()(targets[0], outputs[0]), losses.MeanSquaredError()(targets[1], outputs[1])]
    np.testing.assert_allclose(loss, 2 * parts[0] + 0.5 * parts[1])
    curvature = output_curvature(terms.mean_kl, terms.judged(found))
    size = LOGITS.size
    np.testing.assert_allclose(
        curvature[:size, :size], 2 * hessian(lambda z: sparse()(targets[0], z), LOGITS), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(curvature[size:, size:], 0.5 * 2 / size * np.eye(size), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(curvature[:size, size:], 0, atol=1e-12)


def test_the_stand_in_of_an_own_curvature_has_it_as_its_covariance():
    model = compiled(custom)
    targets, outputs = tf.constant(np.eye(CLASSES)[LABELS]), tf.constant(LOGITS)
    _, found = terms.loss_with_terms(model, lambda: model.compute_loss(None, targets, outputs, None))
    (curvature,) = terms.judged(found).curvatures
    draws = 20_000
    many = curvature._replace(root=tf.repeat(curvature.root[:1], draws, axis=0))
    repeated = tf.repeat(outputs[:1], draws, axis=0)
    with tf.GradientTape() as tape:
        tape.watch(repeated)
        value = many.log_likelihood(repeated, tf.random.Generator.from_seed(0))
    gradients = tape.gradient(value, repeated).numpy().reshape(draws, -1) / np.sqrt(draws)
    expected = (curvature.root[0] @ tf.transpose(curvature.root[0])).numpy()
    np.testing.assert_allclose(gradients.T @ gradients / draws, expected, atol=0.05 * np.abs(expected).max())


def test_what_curves_down_is_left_out():
    def concave(y_true, y_pred):
        return -tf.reduce_sum(tf.square(y_pred[..., :1]), axis=-1) + tf.reduce_sum(tf.square(y_pred[..., 1:]), axis=-1)

    model = compiled(concave)
    outputs, targets = tf.constant(LOGITS), tf.constant(LOGITS)
    _, found = terms.loss_with_terms(model, lambda: model.compute_loss(None, targets, outputs, None))
    curvature = output_curvature(terms.mean_kl, terms.judged(found))
    expected = np.diag(np.tile([0, 1, 1, 1], ROWS * STEPS)) * 2 / (ROWS * STEPS)
    np.testing.assert_allclose(curvature, expected, rtol=1e-6, atol=1e-9)
