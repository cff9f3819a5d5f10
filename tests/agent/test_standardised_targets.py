"""Claims about the standardised targets of a critic, alone."""

from __future__ import annotations

import keras
import numpy as np

from baselines_acktr.agent.standardised_targets import StandardisedTargets
from common.mpi import ALONE

FEATURES = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def make() -> tuple[StandardisedTargets, keras.layers.Dense]:
    keras.utils.set_random_seed(0)
    head = keras.layers.Dense(1)
    head.build((None, 4))
    return StandardisedTargets(head, memory=100), head


def returns(scale: float) -> np.ndarray:
    return (scale * (3 + np.random.default_rng(1).normal(size=50))).astype(np.float32)


def test_targets_have_mean_0_and_deviation_1_and_are_restored():
    targets, _ = make()
    targets.follow(returns(1000), ALONE)
    standardised = targets.standardise(returns(1000))
    np.testing.assert_allclose([standardised.mean(), standardised.std()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(targets.restore(standardised), returns(1000), rtol=1e-4)
    assert standardised.dtype == np.float32


def test_when_the_moments_move_the_predictions_stay():
    targets, head = make()
    targets.follow(returns(10), ALONE)
    before = targets.restore(head(FEATURES).numpy())
    std = targets.moments.std
    targets.follow(returns(-50), ALONE)
    assert targets.moments.std > 2 * std
    np.testing.assert_allclose(targets.restore(head(FEATURES).numpy()), before, rtol=1e-4)


def test_the_first_returns_leave_the_head_alone():
    targets, head = make()
    before = head.get_weights()
    targets.follow(returns(10), ALONE)
    for array, same in zip(head.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, same)


def test_the_state_brings_the_moments_back():
    first, second = make()[0], make()[0]
    first.follow(returns(10), ALONE)
    second.set_state(first.state())
    np.testing.assert_array_equal(first.standardise(returns(3)), second.standardise(returns(3)))
