"""Damped inverses of factors in groups, and of diagonals, beside dense solves in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import normal

from baselines_acktr.kfac import CholeskyForm, EigenForm, InlineInverter, Kfac, Objective, gaussian_log_likelihood
from baselines_acktr.kfac.distributed import symmetric, triangle
from baselines_acktr.kfac.forms import DiagonalForm, GroupedForm, form_for

DAMPING = 0.07


def spd(size: int, seed: int) -> np.ndarray:
    root = normal(size, size + 2, seed=seed)
    return root @ root.T / size


def diagonal(size: int, seed: int) -> np.ndarray:
    return np.abs(normal(size, seed=seed))


def dense(factor: np.ndarray) -> np.ndarray:
    return np.diag(factor) if factor.ndim == 1 else factor


def preconditioned(form, a, s, gradient) -> np.ndarray:
    tensors = [tf.constant(array) for array in form.invert(a, s, DAMPING)]
    assert [tensor.shape for tensor in tensors] == [list(shape) for shape in form.shapes(a.shape[-1], s.shape[-1])]
    return form.precondition(tf.constant(gradient), *tensors).numpy()


@pytest.mark.parametrize("base", [CholeskyForm(), EigenForm()])
@pytest.mark.parametrize(
    ("a", "s"),
    [
        (diagonal(5, 0), spd(3, 1)),
        (spd(5, 0), diagonal(3, 1)),
        (diagonal(5, 0), diagonal(3, 1)),
        (np.ones((1, 1)), diagonal(4, 1)),
        (diagonal(5, 0), spd(1, 1)),
    ],
)
def test_a_diagonal_is_solved_with_the_whole_product_damped(base, a, s):
    gradient = normal(len(a), len(s))
    form = form_for(base, a.shape, s.shape)
    assert isinstance(form, DiagonalForm)
    whole = np.kron(dense(a), dense(s)) + DAMPING * np.eye(gradient.size)
    expected = np.linalg.solve(whole, gradient.ravel()).reshape(gradient.shape)
    np.testing.assert_allclose(preconditioned(form, a, s, gradient), expected, rtol=1e-10)


@pytest.mark.parametrize("base", [CholeskyForm(), EigenForm(2)], ids=["cholesky", "eigen"])
def test_groups_are_solved_each_by_itself(base):
    a, s = (np.stack([spd(size, seed + group) for group in range(3)]) for size, seed in ((9, 0), (2, 5)))
    gradient = normal(3, 9, 2)
    form = form_for(base, a.shape, s.shape)
    assert isinstance(form, GroupedForm)
    alone = [preconditioned(base, *group) for group in zip(a, s, gradient, strict=True)]
    np.testing.assert_allclose(preconditioned(form, a, s, gradient), np.stack(alone), rtol=1e-10)


def test_a_triangle_holds_the_symmetric_matrices_of_groups():
    matrices = np.stack([spd(4, seed) for seed in range(3)])
    packed = triangle(tf.constant(matrices))
    assert packed.shape == (3, 10)
    np.testing.assert_allclose(symmetric(packed), matrices, rtol=1e-14)


def test_the_model_of_a_step_is_the_quadratic_form_of_the_dense_blocks():
    """Of blocks with matrices, groups, a diagonal A and a diagonal S."""

    class Scaled(keras.layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,), dtype="int32")
    hidden = keras.layers.Embedding(5, 4, dtype="float64")(inputs)
    hidden = keras.layers.DepthwiseConv1D(2, dtype="float64")(hidden)
    hidden = keras.layers.Dense(2, dtype="float64")(keras.layers.Flatten()(hidden))
    model = keras.Model(inputs, Scaled(2, dtype="float64")(hidden))
    optimizer = Kfac(model, inverter=InlineInverter(), momentum=0.0)

    def objective(tokens):
        outputs = model(tokens)
        return Objective(tf.reduce_sum(outputs**2), gaussian_log_likelihood(outputs, optimizer.generator))

    optimizer.minimize(objective, np.random.default_rng(0).integers(0, 5, (6, 3)).astype("int32"))
    curvature, total = optimizer.curvature, 0
    vector = [tf.constant(normal(*block.velocity.shape, seed=i)) for i, block in enumerate(optimizer.blocks)]
    snapshot = curvature.snapshot(0)
    assert sorted((len(one.a.shape), len(one.s.shape)) for one in snapshot.factors) == [(1, 2), (2, 1), (2, 2), (3, 3)]
    for matrix, factors in zip(vector, snapshot.factors, strict=True):
        groups = matrix.numpy().reshape(-1, *matrix.shape[-2:])
        a, s = factors.a.numpy(), factors.s.numpy()
        pairs = zip(a, s, strict=True) if a.ndim == 3 else [(dense(a), dense(s))]
        for x, (left, right) in zip(groups, pairs, strict=True):
            total += x.ravel() @ np.kron(left, right) @ x.ravel()
    np.testing.assert_allclose(curvature.quadratic_form(vector), total, rtol=1e-10)
