"""How long a step may be (Wu et al. 2017, section 3.2)."""

from __future__ import annotations

import tensorflow as tf


def step_length(direction_norm: tf.Tensor, max_length: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """eta = min(eta_max, sqrt(2 delta / D^T F D))  (Wu et al. 2017, section 3.2).

    Args:
      direction_norm: D^T F D, either with K-FAC's damped model, the sum over layers of <grad_l, D_l>, or with the
        batch's exact Fisher (`quadratic_model`); scalar.
      max_length: eta_max.
      delta: radius of the trust region, in nats of the quadratic model's KL.
    """
    return tf.minimum(max_length, tf.sqrt(2 * delta / direction_norm))
