import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import normal

from baselines_acktr.kfac import BackgroundInverter, CholeskyForm, EigenForm, InlineInverter
from baselines_acktr.kfac.forms import Form
from baselines_acktr.kfac.inverses import Factors, Snapshot, invert_all
from baselines_acktr.kfac.lapack import NotPositiveDefiniteError, spd_inverse


def spd(size: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
    root = normal(size, size + 2, seed=seed)
    return (root @ root.T / size).astype(dtype)


def snapshot(*pairs, step: int = 0) -> Snapshot:
    return Snapshot(step, [Factors(f"layer{i}", tf.constant(a), tf.constant(s)) for i, (a, s) in enumerate(pairs)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-3)])
def test_spd_inverse_equals_numpy_inverse(dtype, tolerance):
    matrix = spd(37, dtype=dtype)
    inverse = spd_inverse(matrix)
    assert inverse.dtype == dtype
    np.testing.assert_array_equal(inverse, inverse.T)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=tolerance, atol=tolerance)


def test_spd_inverse_leaves_its_argument_alone():
    matrix = spd(5)
    before = matrix.copy()
    spd_inverse(matrix)
    np.testing.assert_array_equal(matrix, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -100.0])
def test_spd_inverse_refuses_bad_matrices(bad):
    matrix = spd(5)
    matrix[2, 2] = bad
    with pytest.raises(NotPositiveDefiniteError):
        spd_inverse(matrix)


def precondition(form: Form, a, s, gradient, damping):
    tensors = [tf.constant(array) for array in form.invert(a, s, damping)]
    return form.precondition(tf.constant(gradient), *tensors).numpy()


def test_cholesky_form_equals_dense_solve_with_damped_kronecker_product():
    a, s, gradient, damping = spd(4), 3 * spd(3, seed=1), normal(4, 3), 0.07
    pi = np.sqrt((np.trace(a) / 4) / (np.trace(s) / 3))
    dense = np.kron(a + pi * np.sqrt(damping) * np.eye(4), s + np.sqrt(damping) / pi * np.eye(3))
    expected = np.linalg.solve(dense, gradient.ravel()).reshape(4, 3)
    np.testing.assert_allclose(precondition(CholeskyForm(), a, s, gradient, damping), expected, rtol=1e-10)


def test_cholesky_form_does_not_depend_on_where_the_scale_stands():
    a, s, gradient = spd(4), spd(3, seed=1), normal(4, 3)
    first = precondition(CholeskyForm(), a, s, gradient, 0.1)
    np.testing.assert_allclose(precondition(CholeskyForm(), 50 * a, s / 50, gradient, 0.1), first, rtol=1e-10)


def test_eigen_form_equals_dense_solve_with_kronecker_product_plus_damping():
    a, s, gradient, damping = spd(4), 3 * spd(3, seed=1), normal(4, 3), 0.07
    expected = kronecker_solve(a, s, gradient, damping)
    np.testing.assert_allclose(precondition(EigenForm(), a, s, gradient, damping), expected, rtol=1e-10)


def kronecker_solve(a, s, gradient, damping):
    dense = np.kron(a, s) + damping * np.eye(gradient.size)
    return np.linalg.solve(dense, gradient.ravel()).reshape(gradient.shape)


def with_eigenvalues(values, seed=0):
    vectors, _ = np.linalg.qr(normal(len(values), len(values), seed=seed))
    return vectors * values @ vectors.T


@pytest.mark.parametrize("others", [0.0, 1e-6])
def test_few_eigenvalues_are_exact_where_the_others_are_equal(others):
    a, s, gradient = with_eigenvalues([5.0, 3.0, 1.0] + 9 * [others]), spd(3), normal(12, 3)
    expected = kronecker_solve(a, s, gradient, 0.07)
    np.testing.assert_allclose(precondition(EigenForm(rank=3), a, s, gradient, 0.07), expected, rtol=1e-8)


def test_few_eigenvalues_share_the_mean_of_the_others():
    values = np.array([5.0, 3.0, 1.0, 2e-5, 1e-5, 1e-5, 0, 0, 0, 0, 0, 0])
    averaged = np.where(values < 1, values[values < 1].mean(), values)
    s, gradient = spd(3), normal(12, 3)
    truncated = precondition(EigenForm(rank=3), with_eigenvalues(values), s, gradient, 0.07)
    closeness = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(truncated, kronecker_solve(with_eigenvalues(averaged), s, gradient, 0.07), **closeness)
    assert not np.allclose(truncated, kronecker_solve(with_eigenvalues(values), s, gradient, 0.07), **closeness)


def test_few_eigenvalues_are_those_of_factors_four_times_as_large():
    assert EigenForm(rank=3).shapes(12, 20) == [(12, 3), (20, 20), (3, 20), (20,)]
    assert EigenForm(rank=3).shapes(11, 20) == [(11, 11), (20, 20), (11, 20), (20,)]
    assert EigenForm(rank=0).shapes(12, 20) == [(12, 12), (20, 20), (12, 20), (20,)]


@pytest.mark.parametrize("form", [CholeskyForm(), EigenForm(), EigenForm(rank=1)])
def test_one_bad_factor_fails_the_whole_refresh_and_is_named(form):
    bad = np.full((3, 3), np.nan)
    refresh = invert_all(snapshot((spd(4), spd(3)), (spd(2), bad)), form, 0.1)
    assert refresh.inverses is None
    assert "layer1" in refresh.failure


def test_indefinite_factor_fails_the_refresh():
    indefinite = np.diag([1.0, -5.0])
    assert invert_all(snapshot((spd(4), indefinite)), CholeskyForm(), 1e-4).inverses is None


def test_background_result_equals_inline_result():
    request = snapshot((spd(30), spd(20, seed=1)), (spd(7), spd(5, seed=2)), step=3)
    with InlineInverter() as inline, BackgroundInverter() as background:
        for inverter in (inline, background):
            inverter.submit(request, CholeskyForm(), 0.01)
        first, second = inline.poll(wait=True), background.poll(wait=True)
    assert first.step == second.step == 3
    np.testing.assert_array_equal(first.inverses, second.inverses)


class GatedForm(Form):
    """Waits for a gate, then fails if told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.gate, self.error = threading.Event(), error

    def shapes(self, rows, columns):
        return [(rows, rows)]

    def cost(self, rows, columns):
        return rows**3

    def invert(self, a, s, damping):
        self.gate.wait(10)
        if self.error:
            raise self.error
        return (a,)

    def precondition(self, gradient, *tensors):
        return gradient


def test_learner_does_not_wait_for_the_background_thread():
    form = GatedForm()
    with BackgroundInverter() as inverter:
        inverter.submit(snapshot((spd(2), spd(2))), form, 0.1)
        assert inverter.poll() is None
        assert not inverter.idle
        form.gate.set()
        assert inverter.poll(wait=True).inverses is not None
        assert inverter.idle


def test_second_snapshot_is_refused_while_one_is_in_work():
    form = GatedForm()
    with BackgroundInverter() as inverter:
        inverter.submit(snapshot((spd(2), spd(2))), form, 0.1)
        with pytest.raises(RuntimeError, match="still working"):
            inverter.submit(snapshot((spd(2), spd(2))), form, 0.1)
        form.gate.set()


def test_exception_in_the_background_surfaces_in_the_learner():
    form = GatedForm(error=OSError("disk on fire"))
    form.gate.set()
    with BackgroundInverter() as inverter:
        inverter.submit(snapshot((spd(2), spd(2))), form, 0.1)
        with pytest.raises(OSError, match="disk on fire"):
            inverter.poll(wait=True)
        assert inverter.idle


def kfac_threads() -> int:
    return sum(thread.name == "kfac-inverses" for thread in threading.enumerate())


def test_thread_ends_with_close_and_starts_again_when_needed():
    others = kfac_threads()  # of optimizers that other tests have not closed
    inverter = BackgroundInverter()
    assert kfac_threads() == others
    for _ in range(2):
        inverter.submit(snapshot((spd(2), spd(2))), CholeskyForm(), 0.1)
        assert kfac_threads() == others + 1
        inverter.close()
        assert kfac_threads() == others


def test_waiting_thread_uses_no_processor_time():
    with BackgroundInverter() as inverter:
        inverter.submit(snapshot((spd(2), spd(2))), CholeskyForm(), 0.1)
        inverter.poll(wait=True)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1


@pytest.mark.parametrize(("rows", "columns"), [(1, 5), (4, 1), (1, 1)])
def test_a_factor_of_width_one_takes_no_damping_its_partner_all_of_it(rows, columns):
    rng = np.random.default_rng(rows)
    a, s = (root @ root.T for root in (rng.normal(size=(rows, rows)), rng.normal(size=(columns, columns))))
    gradient = rng.normal(size=(rows, columns))
    form = CholeskyForm()
    direction = form.precondition(tf.constant(gradient), *map(tf.constant, form.invert(a, s, 0.05)))
    dense = np.kron(a, s) + 0.05 * np.eye(rows * columns)
    np.testing.assert_allclose(np.ravel(direction), np.linalg.solve(dense, gradient.ravel()), rtol=1e-9)
