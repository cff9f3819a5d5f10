import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.learning.losses import policy_gradient_loss, value_loss


def test_policy_gradient_loss_by_hand():
    loss = policy_gradient_loss(tf.constant([-1.0, -2.0]), tf.constant([3.0, -1.0]))
    np.testing.assert_allclose(loss, -(-3.0 + 2.0) / 2)


def test_value_loss_by_hand():
    np.testing.assert_allclose(value_loss(tf.constant([1.0, 2.0]), tf.constant([3.0, 2.5])), 0.5 * (4 + 0.25) / 2)


def test_no_gradient_goes_into_advantages_and_targets():
    first, second = tf.Variable([1.0, 2.0]), tf.Variable([0.5, 0.5])
    with tf.GradientTape(persistent=True) as tape:
        policy, value = policy_gradient_loss(first, second * 1), value_loss(first, second * 1)
    assert tape.gradient(policy, second) is None
    assert tape.gradient(value, second) is None
    np.testing.assert_allclose(tape.gradient(value, first), (np.array([1.0, 2.0]) - 0.5) / 2)


@pytest.mark.parametrize("loss", [policy_gradient_loss, value_loss])
def test_wrong_rank_is_refused(loss):
    with pytest.raises(ValueError, match="incompatible"):
        loss(tf.zeros([4]), tf.zeros([4, 1]))
