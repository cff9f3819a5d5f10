import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.learning.conjugate_gradient import (
    conjugate_gradient,
    fisher_vector_product,
    line_search,
)
from common.distributions import distribution_size, make_distribution
from common.packing import flatten, unflatten

SPACES = [gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([2, 3]), gym.spaces.Box(-1, 1, (2,))]


def make_network(space):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(size, "tanh", dtype="float64") for size in (3, distribution_size(space))]
    network = keras.Sequential([keras.Input((2,), dtype="float64"), *layers])
    return network, [variable.value for variable in network.trainable_variables]


def metric(space, parameters):
    """Fisher of one distribution in its parameters [P], written out."""
    if isinstance(space, gym.spaces.Box):  # mean and log std: 1 / std^2 and 2
        return np.diag(np.concatenate([np.exp(-2 * parameters[2:]), [2, 2]]))
    sizes = [space.n] if isinstance(space, gym.spaces.Discrete) else space.nvec
    result, start = np.zeros((len(parameters), len(parameters))), 0
    for size in sizes:
        part = slice(start, start + size)
        p = np.exp(parameters[part]) / np.exp(parameters[part]).sum()
        result[part, part], start = np.diag(p) - np.outer(p, p), start + size
    return result


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_fisher_vector_product_equals_the_dense_fisher_of_every_rows_jacobian(space):
    network, variables = make_network(space)
    observations = tf.constant(np.random.default_rng(0).normal(size=(5, 2)))
    with tf.GradientTape() as tape:
        parameters = network(observations)
    jacobians = [j.numpy().reshape(*parameters.shape, -1) for j in tape.jacobian(parameters, variables)]
    rows = np.concatenate(jacobians, axis=-1)  # [B, size, P]
    dense = np.mean([j.T @ metric(space, p) @ j for j, p in zip(rows, parameters.numpy(), strict=True)], axis=0)

    def mean_kl(old, new):
        return tf.reduce_mean(make_distribution(space, old).kl(make_distribution(space, new)))

    product = tf.function(lambda v: fisher_vector_product(lambda: network(observations), mean_kl, variables, v))
    columns = [product(tf.constant(unit)).numpy() for unit in np.eye(dense.shape[0])]
    np.testing.assert_allclose(np.stack(columns, axis=1), dense, rtol=1e-9, atol=1e-12)


def spd(size=8):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(size, size))
    return root @ root.T + np.eye(size), rng.normal(size=size)


@pytest.mark.parametrize("compiled", [False, True])
def test_conjugate_gradient_solves_the_linear_system(compiled):
    matrix, target = spd()

    def solve(b):
        return conjugate_gradient(lambda v: tf.linalg.matvec(matrix, v), b, iterations=8, tolerance=1e-20)

    solution = (tf.function(solve) if compiled else solve)(tf.constant(target))
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, target), rtol=1e-8)


def count_products(matrix, target, **options):
    products = []

    def product(v):
        products.append(v)
        return tf.linalg.matvec(matrix, v)

    conjugate_gradient(product, tf.constant(target), **options)
    return len(products)


def test_conjugate_gradient_stops_at_its_tolerance_or_its_number_of_iterations():
    matrix, target = spd()
    assert count_products(np.eye(8), target, iterations=8) == 1
    assert count_products(matrix, target, iterations=3) == 3
    assert count_products(matrix, 0 * target, iterations=8) == 0
    loose = {"iterations": 8, "tolerance": 0.1}
    assert 0 < count_products(matrix, target, **loose) < 8
    assert count_products(matrix, 1e-9 * target, **loose) == count_products(matrix, target, **loose)


def test_unflatten_is_the_inverse_of_flatten():
    variables = [tf.Variable(np.random.default_rng(0).normal(size=shape)) for shape in ((2, 3), (3,), ())]
    for variable, part in zip(variables, unflatten(flatten(variables), variables), strict=True):
        np.testing.assert_array_equal(variable, part)


def search(objective, kl, max_kl=0.01, start=1 / 3):
    """Part of the step from `start` to `start + 1` that was taken, and where the variable ended up.

    The gain is checked on the way.
    """
    x = tf.Variable(tf.constant([start], tf.float64))
    initial = objective(x[0])

    def evaluate():
        return objective(x[0]), kl(x[0])

    fraction, gain = tf.function(line_search)(evaluate, [x], tf.ones(1, tf.float64), initial, max_kl)
    np.testing.assert_allclose(gain, objective(x[0]) - initial if fraction else 0, rtol=1e-12)
    return float(fraction), float(x[0])


def test_the_whole_step_is_taken_where_it_is_good():
    assert search(lambda x: x, lambda x: 0 * x, start=2.0) == (1.0, 3.0)


def test_the_first_half_that_keeps_the_kl_is_taken():
    assert search(lambda x: x, lambda x: 0.04 * tf.square(x), start=0.0) == (0.5, 0.5)  # 0.01 is within the limit
    assert search(lambda x: x, lambda x: 0.0401 * tf.square(x), start=0.0) == (0.25, 0.25)


def test_the_first_half_that_improves_the_objective_is_taken():
    assert search(lambda x: x * (0.3 - x), lambda x: 0 * x, start=0.0) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("objective", "kl"),
    [
        (lambda x: -x, lambda x: 0 * x),
        (lambda x: 0 * x, lambda x: 0 * x),
        (lambda x: x, lambda x: 1 + 0 * x),
        (lambda x: x, lambda x: np.nan * x),
        (lambda x: np.nan * x, lambda x: 0 * x),
        (lambda x: tf.exp(1e6 * (x - 1 / 3)), lambda x: 0 * x),
    ],
    ids=["worse", "equal", "too far", "kl not a number", "objective not a number", "infinite"],
)
def test_a_step_that_is_never_good_leaves_the_variables_to_the_bit(objective, kl):
    assert search(objective, kl) == (0.0, 1 / 3)
