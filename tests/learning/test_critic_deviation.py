"""Claims about how uncertain a critic is taken to be."""

from __future__ import annotations

import numpy as np
import pytest

from baselines_acktr.learning.critic_deviation import DECAY, CriticDeviation
from common.mpi import ALONE


@pytest.mark.parametrize(("error", "sigma"), [(0.1, 1.0), (1.0, 1.0), (20.0, 20.0)])
def test_sigma_is_the_size_of_the_errors_but_at_least_one(error, sigma):
    deviation = CriticDeviation("float64")
    assert float(deviation.sigma) == 1
    for sign in (1, -1):
        deviation.follow(np.full((4, 6), sign * error), ALONE)
    np.testing.assert_allclose(deviation.sigma, sigma)


def test_sigma_squared_is_the_weighted_mean_of_the_squared_errors():
    deviation = CriticDeviation("float64")
    for error in (3.0, 5.0):
        deviation.follow(np.array([error]), ALONE)
    np.testing.assert_allclose(deviation.sigma**2, (DECAY * 9 + 25) / (DECAY + 1))


def test_errors_that_are_not_finite_are_left_out():
    deviation = CriticDeviation("float64")
    deviation.follow(np.array([3.0]), ALONE)
    deviation.follow(np.array([3.0, np.nan]), ALONE)
    np.testing.assert_allclose(deviation.sigma, 3)


def test_the_state_brings_sigma_back_and_an_older_checkpoint_has_none():
    first, second = CriticDeviation("float64"), CriticDeviation("float64")
    first.follow(np.array([7.0]), ALONE)
    second.set_state(first.state())
    np.testing.assert_allclose(second.sigma, 7)
    second.set_state({})
    assert float(second.sigma) == 1
