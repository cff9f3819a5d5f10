"""How long a step may be (Wu et al. 2017, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def step_length(direction_norm: tf.Tensor, max_length: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """eta = min(eta_max, sqrt(2 delta / D^T F D))  (Wu et al. 2017, section 3.2).

    Args:
      direction_norm: D^T F D, either with K-FAC's damped model, the sum over layers of <grad_l, D_l>, or with the
        exact Fisher (`second_derivative` of the KL); scalar.
      max_length: eta_max.
      delta: radius of the trust region, in nats of the quadratic model's KL.
    """
    return tf.minimum(max_length, tf.sqrt(2 * delta / direction_norm))


def second_derivative(
    function: Callable[[], tf.Tensor], variables: list[tf.Variable], direction: list[tf.Tensor]
) -> tf.Tensor:
    """d^2 f / d epsilon^2 of a scalar function of variables W + epsilon D, at epsilon = 0: D^T H D; scalar.

    Args:
      function: () -> scalar.
      variables: W.
      direction: D, a tensor for each of the variables.
    """
    with (
        tf.autodiff.ForwardAccumulator(variables, direction) as outer,
        tf.autodiff.ForwardAccumulator(variables, direction) as inner,
    ):
        slope = inner.jvp(function())
    return outer.jvp(slope, unconnected_gradients=tf.UnconnectedGradients.ZERO)
