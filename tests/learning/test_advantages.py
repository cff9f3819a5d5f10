"""Claims about advantages in units of their deviation."""

from __future__ import annotations

import numpy as np

from baselines_acktr.learning.advantages import RunningScale, standardised
from common.mpi import ALONE

NOISE = np.random.default_rng(0).normal(size=1000).astype(np.float32)


def test_a_batch_in_units_of_its_own_deviation_has_mean_0_and_deviation_1():
    scaled = standardised(5 + 20 * NOISE, ALONE)
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-5)
    assert scaled.dtype == np.float32


def test_advantages_that_are_all_alike_are_0():
    np.testing.assert_array_equal(standardised(np.full(10, 7.0), ALONE), np.zeros(10))


def test_the_running_deviation_remembers_the_batches_before():
    scale = RunningScale()
    for _ in range(50):
        scale.standardise(5 + 2 * NOISE, ALONE)
    np.testing.assert_allclose(scale.standardise(5 + 0.02 * NOISE, ALONE).std(), 0.01, rtol=0.1)
    np.testing.assert_allclose(scale.standardise(5 + 2 * NOISE, ALONE).mean(), 0, atol=1e-5)


def test_the_state_brings_the_deviation_back():
    first, second = RunningScale(), RunningScale()
    first.standardise(9 * NOISE, ALONE)
    second.set_state(first.state())
    np.testing.assert_array_equal(first.standardise(NOISE, ALONE), second.standardise(NOISE, ALONE))
