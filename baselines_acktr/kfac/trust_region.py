"""How long a step may be (Wu et al. 2017, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def step_length(direction_norm: tf.Tensor, max_length: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """eta = min(eta_max, sqrt(2 delta / D^T F D))  (Wu et al. 2017, section 3.2).

    Args:
      direction_norm: D^T F D, either with K-FAC's damped model, the sum over layers of <grad_l, D_l>, or with the
        exact Fisher (`fisher_norm`); scalar.
      max_length: eta_max.
      delta: radius of the trust region, in nats of the quadratic model's KL.
    """
    return tf.minimum(max_length, tf.sqrt(2 * delta / direction_norm))


def fisher_norm(
    outputs: Callable[[], tf.Tensor],
    mean_kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    variables: list[tf.Variable],
    direction: list[tf.Tensor],
) -> tf.Tensor:
    """D^T F D with the exact Fisher F of a batch: (J D)^T H (J D); scalar.

    H is the second derivative of the mean KL at the outputs and J their Jacobian. At its minimum the KL has no
    gradient, so this is its whole second derivative along D (Martens 2014, section 9).

    Args:
      outputs: () -> the model's outputs [B, ...].
      mean_kl: (constant copy of the outputs, outputs) -> mean KL of the first to the second, nats; scalar.
      variables: W.
      direction: D, a tensor for each of the variables.
    """
    with tf.autodiff.ForwardAccumulator(variables, direction) as accumulator:
        new = outputs()
    tangent, old = accumulator.jvp(new), tf.stop_gradient(new)
    with (
        tf.autodiff.ForwardAccumulator(new, tangent) as outer,
        tf.autodiff.ForwardAccumulator(new, tangent) as inner,
    ):
        slope = inner.jvp(mean_kl(old, new))
    return outer.jvp(slope, unconnected_gradients=tf.UnconnectedGradients.ZERO)
