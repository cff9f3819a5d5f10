"""Claims about the exact quadratic model, in float64 against dense matrices."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import dense, flat, normal, output_curvature, sequential

from baselines_acktr.kfac import (
    CholeskyForm,
    Divergence,
    EigenForm,
    FreeVector,
    InlineInverter,
    Kfac,
    Objective,
    categorical_kl,
    gaussian_kl,
)
from baselines_acktr.kfac.batch_fisher import BatchFisher
from baselines_acktr.kfac.damping import adapted_damping
from baselines_acktr.kfac.quadratic_model import (
    Solution,
    conjugate_gradient,
    step_along,
    step_with_last,
)

ROWS = 6


def two_headed() -> keras.Model:
    """Logits [B, 3] and values [B, 1] of images [6, 6, 2] that share a convolution."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2), dtype="float64")
    hidden = keras.layers.Conv2D(3, 3, 2, activation="tanh", dtype="float64")(inputs)
    hidden = dense(5, "elu")(keras.layers.Flatten(dtype="float64")(hidden))
    return keras.Model(inputs, [dense(3)(hidden), dense(1)(hidden)])


def free_vector() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,), dtype="float64")
    free = FreeVector(3, "ones", dtype="float64")(inputs)
    return keras.Model(inputs, dense(3)(dense(4, "tanh")(inputs)) * free)


def joint_kl(old, new):
    return {"policy": categorical_kl(old[0], new[0]), "value": 2 * gaussian_kl(old[1], new[1])}


CASES = {
    "dense": (lambda: sequential(dense(4, "tanh"), dense(3), input_shape=(5,)), (5,), categorical_kl),
    "squared error": (lambda: sequential(dense(4, "relu"), dense(3), input_shape=(5,)), (5,), gaussian_kl),
    "two outputs": (two_headed, (6, 6, 2), joint_kl),
    "a free vector": (free_vector, (5,), categorical_kl),
}


def dense_fisher(model, blocks, mean_kl, x) -> np.ndarray:
    """J^T H J, [P, P], in the order of the blocks' weights."""
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(x)
    weights = [weight for block in blocks for weight in block.weights]
    rows = []
    for output in tf.nest.flatten(outputs):
        parts = tape.jacobian(output, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        rows.append(np.concatenate([part.numpy().reshape(output.shape.num_elements(), -1) for part in parts], axis=1))
    jacobian = np.concatenate(rows)
    return jacobian.T @ output_curvature(mean_kl, outputs) @ jacobian


def make(name: str):
    """Blocks of a case, a divergence, a batch of inputs, and the dense Fisher."""
    builder, shape, mean_kl = CASES[name]
    model, x = builder(), normal(ROWS, *shape)
    optimizer = Kfac(model, inverter=InlineInverter())
    divergence = Divergence(model, mean_kl)
    return optimizer.blocks, divergence, x, dense_fisher(model, optimizer.blocks, mean_kl, x)


def vector(blocks, seed: int) -> list[tf.Tensor]:
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=block.velocity.shape)) for block in blocks]


def in_order(blocks, matrices) -> np.ndarray:
    """A vector's numbers in the order of the blocks' weights."""
    return flat(part for block, matrix in zip(blocks, matrices, strict=True) for part in block.split(matrix))


@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_the_dense_fisher(name):
    blocks, divergence, x, fisher = make(name)
    v = vector(blocks, 0)

    @tf.function
    def product(v):
        batch_fisher = BatchFisher(divergence, blocks, (x,))
        return batch_fisher.pull(batch_fisher.push(v))

    np.testing.assert_allclose(in_order(blocks, product(v)), fisher @ in_order(blocks, v), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_quadratic_forms_are_those_of_the_dense_fisher(name):
    blocks, divergence, x, fisher = make(name)
    u, v = vector(blocks, 0), vector(blocks, 1)
    batch_fisher = BatchFisher(divergence, blocks, (x,))
    tangents = batch_fisher.push(v)
    ordered = in_order(blocks, v)

    mixed = batch_fisher.inner(batch_fisher.push(u), tangents)
    np.testing.assert_allclose(mixed, in_order(blocks, u) @ fisher @ ordered, rtol=1e-9)
    if parts := batch_fisher.parts(tangents):
        policy = dense_fisher(divergence.outputs, blocks, lambda old, new: joint_kl(old, new)["policy"], x)
        np.testing.assert_allclose(parts["policy"], ordered @ policy @ ordered, rtol=1e-9)
        total = batch_fisher.inner(tangents, tangents)
        np.testing.assert_allclose(sum(parts.values()), total, rtol=1e-12)
        assert set(parts) == {"policy", "value"}


def blocks_of(model):
    return Kfac(model, inverter=InlineInverter()).blocks


def test_all_products_share_one_forward_pass():
    model, calls = sequential(dense(4, "tanh"), dense(3), input_shape=(5,)), []

    def outputs(x):
        calls.append(x)
        return model(x)

    blocks = blocks_of(model)
    fisher = BatchFisher(Divergence(outputs, categorical_kl), blocks, (normal(ROWS, 5),))
    for seed in range(3):
        fisher.pull(fisher.push(vector(blocks, seed)))
    assert len(calls) == 1


def spd(size: int, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(size, size))
    return root @ root.T / size + np.eye(size)


class RootFisher:
    """F = J^T J of a matrix J, for vectors of one matrix."""

    def __init__(self, root: np.ndarray) -> None:
        self.root = root

    def push(self, vector):
        return [tf.matmul(self.root, vector[0])]

    def pull(self, tangents):
        return [tf.matmul(self.root.T, tangents[0])]

    def inner(self, ours, theirs):
        return tf.reduce_sum(ours[0] * theirs[0])


def solve(blend: float, iterations: int, size: int = 7, damping: float = 0.3):
    """What conjugate gradient finds for dense matrices, the system that it solves, and J, P and g."""
    root = normal(size, 3, seed=5)
    fisher, preconditioner, gradient = root @ root.T, spd(size, 2), normal(size, 1, seed=3)
    found = conjugate_gradient(
        RootFisher(root.T),
        lambda r: [tf.matmul(preconditioner, r[0])],
        [tf.constant(gradient)],
        iterations=iterations,
        damping=damping,
        blend=blend,
    )
    system = blend * np.linalg.inv(preconditioner) + (1 - blend) * (fisher + damping * np.eye(size))
    return found, system, root.T, preconditioner, gradient


@pytest.mark.parametrize("blend", [0.0, 0.5, 0.9])
def test_conjugate_gradient_comes_to_the_dense_solution(blend):
    found, system, root, _, gradient = solve(blend, iterations=7)
    expected = np.linalg.solve(system, gradient)
    np.testing.assert_allclose(found.d[0], expected, rtol=1e-8)
    np.testing.assert_allclose(found.tangents[0], root @ expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("blend", [0.0, 0.5])
def test_one_iteration_is_the_best_length_of_the_preconditioned_gradient(blend):
    found, system, _, preconditioner, gradient = solve(blend, iterations=1)
    direction = preconditioner @ gradient
    length = (gradient.T @ direction) / (direction.T @ system @ direction)
    np.testing.assert_allclose(found.d[0], length * direction, rtol=1e-10)


def test_every_iteration_lowers_the_quadratic_model():
    values = []
    for iterations in range(1, 6):
        found, system, _, _, gradient = solve(0.5, iterations)
        d = found.d[0].numpy()
        values.append(float((0.5 * d.T @ system @ d - gradient.T @ d).squeeze()))
    assert all(later < earlier for earlier, later in itertools.pairwise(values)), values


def test_a_gradient_of_zero_gives_no_direction():
    zero = [tf.zeros((3, 1), tf.float64)]
    found = conjugate_gradient(RootFisher(np.eye(3)), lambda r: r, zero, iterations=3, damping=0.1)
    np.testing.assert_array_equal(found.d[0], np.zeros((3, 1)))


def plane(last: np.ndarray):
    """The step in the plane of a direction and a last step, and the dense matrices that it is of."""
    root, damping, gradient, direction = spd(5, 1), 0.2, normal(5, 1, seed=2), normal(5, 1, seed=3)
    found = Solution([tf.constant(direction)], [tf.constant(root @ direction)])
    step = step_with_last(RootFisher(root), found, [tf.constant(gradient)], [tf.constant(last)], damping)
    return step, root.T @ root, damping, gradient, direction


def test_with_the_last_step_it_is_the_minimum_of_the_dense_plane():
    last = normal(5, 1, seed=4)
    step, fisher, damping, gradient, direction = plane(last)
    basis = np.hstack([direction, last])
    system = fisher + damping * np.eye(5)
    x = basis @ np.linalg.solve(basis.T @ system @ basis, basis.T @ gradient)
    np.testing.assert_allclose(step.x[0], x, rtol=1e-9)
    np.testing.assert_allclose(step.slope, (gradient.T @ x).squeeze(), rtol=1e-9)
    np.testing.assert_allclose(step.fisher_norm, (x.T @ fisher @ x).squeeze(), rtol=1e-9)
    np.testing.assert_allclose(step.tangents[0], spd(5, 1) @ x, rtol=1e-9)
    np.testing.assert_allclose(step.squares, (x.T @ x).squeeze(), rtol=1e-9)
    foretold = gradient.T @ (0.5 * x) - 0.5 * 0.25 * x.T @ system @ x
    np.testing.assert_allclose(step.decrease(0.5, damping), foretold.squeeze(), rtol=1e-9)


@pytest.mark.parametrize("multiple", [0.0, 2.0])
def test_a_last_step_that_is_no_other_direction_has_no_part(multiple):
    _, fisher, damping, gradient, direction = plane(normal(5, 1))
    step, *_ = plane(multiple * direction)
    length = (gradient.T @ direction) / (direction.T @ (fisher + damping * np.eye(5)) @ direction)
    np.testing.assert_allclose(step.x[0], length * direction, rtol=1e-6)


def test_a_step_along_a_direction_knows_its_norms():
    root, gradient, d = spd(5, 1), normal(5, 1, seed=2), normal(5, 1, seed=3)
    found = Solution([tf.constant(d)], [tf.constant(root @ d)])
    step = step_along(RootFisher(root), found, [tf.constant(gradient)])
    expected = gradient.T @ d, d.T @ root.T @ root @ d, d.T @ d
    for value, right in zip((step.slope, step.fisher_norm, step.squares), expected, strict=True):
        np.testing.assert_allclose(value, right.squeeze())


# -- in the optimizer -------------------------------------------------------------------------------------------------


def regression(elsewhere=None, **options):
    """A linear model with a squared error, whose quadratic model is exact; its optimizer, objective and batch."""
    model = sequential(dense(2), input_shape=(4,))
    x, y = normal(8, 4), normal(8, 2, seed=3)
    optimizer = Kfac(model, **{"inverter": InlineInverter(), "damping": 0.1, "delta": 1e6, "momentum": 0.0} | options)

    def objective(x, y):
        outputs = model(x)
        draws = tf.stop_gradient(outputs + optimizer.generator.normal(tf.shape(outputs), dtype=outputs.dtype))
        likelihood = -0.5 * tf.reduce_sum(tf.square(draws - outputs))
        return Objective(gaussian_kl(y, outputs), likelihood)

    held_out = None if elsewhere is None else Divergence(lambda x, y: model(elsewhere), gaussian_kl)
    divergence = Divergence(lambda x, y: model(x), gaussian_kl, held_out)

    def update():
        return optimizer.minimize(objective, x, y, divergence=divergence)

    return model, optimizer, update, lambda: float(gaussian_kl(y, model(x))), x


def weights(optimizer) -> np.ndarray:
    return flat(weight.numpy() for block in optimizer.blocks for weight in block.weights)


@pytest.mark.parametrize("form", [CholeskyForm(), EigenForm()])
def test_with_enough_iterations_a_step_is_the_damped_newton_step(form):
    model, optimizer, update, _, x = regression(iterations=10, form=form)
    fisher = dense_fisher(model, optimizer.blocks, gaussian_kl, x)
    with tf.GradientTape() as tape:
        loss = gaussian_kl(normal(8, 2, seed=3), model(x))
    gradient = flat(tape.gradient(loss, optimizer.blocks[0].weights))
    before = weights(optimizer)
    metrics = update()
    step = np.linalg.solve(fisher + 0.1 * np.eye(len(fisher)), gradient)
    np.testing.assert_allclose(before - weights(optimizer), step, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(metrics["model_kl"], 0.5 * step @ fisher @ step, rtol=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learning_rate": 0.3},
        {"delta": 1e-4},
        {"iterations": 5},
        {"blend": 0.5},
        {"delta": 1e-4, "elsewhere": normal(8, 4, seed=5)},
    ],
)
def test_the_foretold_decrease_of_a_quadratic_loss_comes_true_but_for_the_damping(options):
    _, optimizer, update, loss, _ = regression(damping_interval=0, **options)
    for _ in range(3):
        before, old = loss(), weights(optimizer)
        metrics = update()
        penalty = 0.5 * 0.1 * np.sum(np.square(weights(optimizer) - old))
        np.testing.assert_allclose(metrics["model_decrease"], before - loss() - penalty, rtol=1e-8)


def test_with_momentum_an_update_is_the_minimum_in_the_plane_of_gradient_and_last_step():
    model, optimizer, update, _, x = regression(iterations=1, damping_interval=0, momentum=0.9)
    fisher = dense_fisher(model, optimizer.blocks, gaussian_kl, x)
    start = weights(optimizer)
    update()
    middle = weights(optimizer)
    with tf.GradientTape() as tape:
        loss = gaussian_kl(normal(8, 2, seed=3), model(x))
    gradient = flat(tape.gradient(loss, optimizer.blocks[0].weights))
    update()
    last, step = start - middle, middle - weights(optimizer)
    (block,) = optimizer.blocks
    direction = flat(block.split(block.precondition(tf.constant(gradient.reshape(block.velocity.shape)))))
    basis, system = np.stack([direction, last], axis=1), fisher + 0.1 * np.eye(len(fisher))
    expected = basis @ np.linalg.solve(basis.T @ system @ basis, basis.T @ gradient)
    np.testing.assert_allclose(step, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("delta", "learning_rate"), [(1e-5, 1.0), (1e-5, 0.5)])
def test_the_trust_region_is_that_of_the_exact_fisher(delta, learning_rate):
    model, optimizer, update, _, x = regression(delta=delta, learning_rate=learning_rate)
    fisher, before = dense_fisher(model, optimizer.blocks, gaussian_kl, x), weights(optimizer)
    metrics = update()
    step = before - weights(optimizer)
    np.testing.assert_allclose(0.5 * step @ fisher @ step, delta, rtol=1e-9)
    np.testing.assert_allclose(metrics["model_kl"], delta, rtol=1e-9)


def measured_step(elsewhere: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None, float]:
    """A step of a linear model within 1e-5 nats, the dense Fisher of the rows held out, and the KL that is reported."""
    model, optimizer, _, _, x = regression(delta=1e-5)

    def objective(x):
        outputs = model(x)
        likelihood = tf.reduce_sum(outputs * normal(8, 2, seed=5))
        return Objective(gaussian_kl(normal(8, 2, seed=3), outputs), likelihood)

    held_out = None if elsewhere is None else Divergence(lambda x: model(elsewhere), gaussian_kl)
    fisher = None if elsewhere is None else dense_fisher(model, optimizer.blocks, gaussian_kl, elsewhere)
    before = weights(optimizer)
    metrics = optimizer.minimize(objective, x, divergence=Divergence(model, gaussian_kl, held_out))
    return before - weights(optimizer), fisher, float(metrics["model_kl"])


def test_held_out_rows_measure_a_step_and_leave_its_direction():
    alone, _, _ = measured_step(None)
    step, fisher, kl = measured_step(3 * normal(5, 4, seed=7))
    np.testing.assert_allclose(step / np.linalg.norm(step), alone / np.linalg.norm(alone), rtol=1e-9)
    np.testing.assert_allclose(0.5 * step @ fisher @ step, 1e-5, rtol=1e-9)
    np.testing.assert_allclose(kl, 1e-5, rtol=1e-9)


def test_parts_of_the_kl_are_told_apart():
    model, x = two_headed(), normal(ROWS, 6, 6, 2)
    optimizer = Kfac(model, inverter=InlineInverter(), momentum=0.0)

    def objective(x):
        logits, values = model(x)
        return Objective(tf.reduce_mean(tf.square(values)), tf.reduce_sum(logits[:, 0]) + tf.reduce_sum(values))

    fisher = dense_fisher(model, optimizer.blocks, lambda old, new: joint_kl(old, new)["value"], x)
    before = weights(optimizer)
    metrics = optimizer.minimize(objective, x, divergence=Divergence(model, joint_kl))
    step = before - weights(optimizer)
    np.testing.assert_allclose(metrics["model_value_kl"], 0.5 * step @ fisher @ step, rtol=1e-8)
    np.testing.assert_allclose(metrics["model_policy_kl"] + metrics["model_value_kl"], metrics["model_kl"], rtol=1e-9)


# -- damping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.9, 0.95**5), (0.75, 1.0), (0.5, 1.0), (0.25, 1.0), (0.1, 0.95**-5), (-1.0, 0.95**-5), (np.nan, 0.95**-5)],
)
def test_the_rule_of_levenberg_and_marquardt_by_hand(ratio, expected):
    assert adapted_damping(1.0, ratio, 5, 1e-9) == pytest.approx(expected)


def test_damping_has_a_lower_bound():
    assert adapted_damping(1e-3, 1.0, 5, 9.9e-4) == 9.9e-4


def test_where_the_model_is_right_the_damping_falls_every_interval():
    _, optimizer, update, _, _ = regression(damping=1e-3, damping_interval=3, min_damping=8e-4)
    dampings = []
    for _ in range(7):
        update()
        dampings.append(float(optimizer.damping))
    np.testing.assert_allclose(dampings, [1e-3, 1e-3, 1e-3 * 0.95**3, 1e-3 * 0.95**3, 1e-3 * 0.95**3, 8e-4, 8e-4])


def test_where_the_loss_rises_instead_the_damping_grows():
    model = sequential(dense(2), input_shape=(4,))
    wrong = Kfac(model, inverter=InlineInverter(), damping=0.1, damping_interval=1, delta=1e6, momentum=0.0)

    def steep(x):
        outputs = model(x)
        return Objective(tf.reduce_mean(tf.cosh(3 * outputs)), tf.reduce_sum(outputs))

    wrong.minimize(steep, normal(8, 4), divergence=Divergence(model, lambda old, new: 1e-3 * gaussian_kl(old, new)))
    assert float(wrong.damping) == pytest.approx(0.1 / 0.95)


def test_an_adapted_damping_is_part_of_the_state():
    _, optimizer, update, _, _ = regression(damping_interval=1)
    update()
    assert optimizer.state()["damping"] == pytest.approx(0.1 * 0.95)
    _, other, _, _, _ = regression(damping_interval=1)
    other.set_state(optimizer.state())
    assert float(other.damping) == pytest.approx(0.1 * 0.95)


def test_a_damping_that_stays_is_no_part_of_the_state():
    _, optimizer, update, _, _ = regression(damping_interval=0)
    update()
    assert "damping" not in optimizer.state() and float(optimizer.damping) == pytest.approx(0.1)
