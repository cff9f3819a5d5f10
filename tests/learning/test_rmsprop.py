import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.config import A2cContConfig
from baselines_acktr.learning.optimizers import make_rmsprop
from baselines_acktr.learning.rmsprop import Rmsprop
from common.mpi import ALONE


def test_two_steps_by_hand():
    """v0 = 1; v1 = 0.9 + 0.1 * 9 = 1.8, v2 = 1.62 + 0.1 * 36 = 5.22; W = 10 - 2 * (3 / sqrt(1.81) + 6 / sqrt(5.23))."""
    variable = keras.Variable([10.0], dtype="float64")
    optimizer = Rmsprop(2.0, 0.9, epsilon=0.01)
    optimizer.build([variable])
    for gradient in (3.0, 6.0):
        optimizer.apply([tf.constant([gradient], tf.float64)])
    np.testing.assert_allclose(variable.numpy(), [10 - 2 * (3 / np.sqrt(1.81) + 6 / np.sqrt(5.23))], rtol=1e-12)


def test_the_first_step_is_the_first_rate_times_the_gradient():
    variable = keras.Variable([10.0], dtype="float64")
    optimizer = Rmsprop(0.002, 0.99, first_rate=0.1, epsilon=1e-12)
    optimizer.build([variable])
    optimizer.apply([tf.constant([1e-4], tf.float64)])  # too short to change the average much
    np.testing.assert_allclose(10 - variable.numpy(), [0.1 * 1e-4], rtol=0.01)


@pytest.mark.parametrize("first_rate", [0.0, 0.001])
def test_a_first_rate_below_the_rate_is_the_rate(first_rate):
    variable = keras.Variable([10.0], dtype="float64")
    optimizer = Rmsprop(0.002, 0.99, first_rate=first_rate)
    optimizer.build([variable])
    assert optimizer._velocities[0].numpy() == [1]


def test_a_long_gradient_is_cut_to_its_norm_and_a_short_one_is_not():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    kernel, bias = model.trainable_variables

    def objective(kernel_gradient, bias_gradient):
        return tf.reduce_sum(kernel * kernel_gradient) + tf.reduce_sum(bias * bias_gradient), {}

    optimizer = make_rmsprop(model, A2cContConfig(lr=1.0, max_grad_norm=0.5), objective, ALONE)
    for scale, cut in ((0.1, 1.0), (10.0, 0.05)):
        for average in optimizer.inner._velocities:
            average.assign(tf.ones_like(average))
        kernel.assign(tf.zeros_like(kernel))
        gradient = scale * np.array([[0.6, 0], [0, 0]]), scale * np.array([0, 0.8])  # of norm `scale`
        optimizer.minimize(*(tf.constant(part, tf.float32) for part in gradient))
        applied = cut * gradient[0]
        np.testing.assert_allclose(kernel.numpy(), -applied / np.sqrt(0.99 + 0.01 * applied**2 + 1e-5), rtol=1e-5)


def test_settings_are_those_of_the_config():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    config = A2cContConfig(lr=0.25, alpha=0.8, epsilon=0.125)
    optimizer = make_rmsprop(model, config, lambda: (tf.constant(0.0), {}), ALONE).inner
    assert (float(optimizer.learning_rate), optimizer.rho, optimizer.epsilon) == (0.25, 0.8, 0.125)
