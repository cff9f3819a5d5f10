"""Claims about the step size that follows the KL."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from baselines_acktr.kfac import InlineInverter, Kfac
from baselines_acktr.learning.adapted_rate import AdaptedRate, adapted


@pytest.mark.parametrize(("kl", "factor"), [(0.0041, 1 / 1.5), (0.0039, 1), (0.002, 1), (0.0011, 1), (0.0009, 1.5)])
def test_the_step_size_follows_the_kl(kl, factor):
    np.testing.assert_allclose(adapted(0.03, kl, 0.002), 0.03 * factor)


@pytest.mark.parametrize(("rate", "kl", "expected"), [(0.9, 0.0, 1.0), (1e-8, 1.0, 1e-8), (3.0, 0.0, 3.0)])
def test_the_step_size_stays_within_its_bounds(rate, kl, expected):
    assert adapted(rate, kl, 0.002) == expected


@pytest.mark.parametrize(("is_adapted", "restored"), [(True, 0.2), (False, 0.1)])
def test_only_an_adapted_step_size_goes_on_from_a_checkpoint(is_adapted, restored):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    rate = AdaptedRate(Kfac(model, learning_rate=0.1, inverter=InlineInverter()), is_adapted)
    rate.set_state({"": np.array(0.2)})
    np.testing.assert_allclose([rate.value, rate.state()[""]], restored, rtol=1e-6)
