import numpy as np
import pytest

from common.random_state import get_random_state, set_random_state
from common.running_mean_std import ObservationFilter, RunningMeanStd


def test_moments_of_batches_are_those_of_all_rows():
    rows = np.random.default_rng(0).normal(3, 7, (1000, 4))
    moments = RunningMeanStd((4,))
    for part in np.split(rows, [1, 10, 400]):
        np.testing.assert_allclose(moments.update(part), (part.mean(axis=0), part.var(axis=0)))
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0))
    np.testing.assert_allclose(moments.var, rows.var(axis=0))
    assert moments.count == 1000


def test_moments_of_numbers_far_from_zero_keep_their_precision():
    rows = np.random.default_rng(0).normal(1e6, 1e-2, (1000, 1)).astype(np.float64)
    moments = RunningMeanStd((1,))
    for part in np.split(rows, 10):
        moments.update(part)
    np.testing.assert_allclose(moments.var, rows.var(axis=0), rtol=1e-4)


def test_filter_standardises_and_clips():
    observations = ObservationFilter((2,))
    observations.update(np.array([[0.0, 5.0], [2.0, 5.0]]))
    np.testing.assert_allclose(observations(np.array([[3.0, 5.0], [1e6, 4.0]])), [[2.0, 0.0], [10.0, -10.0]], atol=1e-5)
    assert observations(np.ones((3, 2))).dtype == np.float32


def test_filter_without_observations_only_clips():
    np.testing.assert_array_equal(ObservationFilter((1,))(np.array([[0.5], [-11.0]])), [[0.5], [-10.0]])


def test_filter_does_not_change_while_it_is_used():
    observations = ObservationFilter((2,))
    observations.update(np.random.default_rng(0).normal(size=(10, 2)))
    before = observations.state()
    observations(np.full((100, 2), 7.0))
    for name, array in observations.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_state_brings_the_moments_back():
    first, second = RunningMeanStd((3,)), RunningMeanStd((3,))
    rows = np.random.default_rng(0).normal(size=(20, 3))
    first.update(rows[:10])
    second.set_state(first.state())
    first.update(rows[10:])
    second.update(rows[10:])
    for name, array in first.state().items():
        np.testing.assert_array_equal(array, second.state()[name])
    with pytest.raises(ValueError, match="shape"):
        RunningMeanStd((2,)).set_state(first.state())


def test_random_state_goes_on_where_it_was():
    rng = np.random.default_rng(5)
    rng.standard_normal(3, np.float32)
    rng.integers(10, size=3, dtype=np.uint32)
    other = np.random.default_rng(6)
    set_random_state(other, get_random_state(rng))
    np.testing.assert_array_equal(rng.standard_normal(9), other.standard_normal(9))
    np.testing.assert_array_equal(
        rng.integers(10, size=5, dtype=np.uint32), other.integers(10, size=5, dtype=np.uint32)
    )
