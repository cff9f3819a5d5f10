"""A count of what was left out because a number was not finite."""

from __future__ import annotations

import tensorflow as tf


def first_not_finite(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Index of the first tensor with a number that is not finite, -1 if there is none; scalar."""
    bad = tf.stack([~tf.math.is_finite(tf.reduce_sum(tensor)) for tensor in tensors])
    return tf.where(tf.reduce_any(bad), tf.argmax(bad), -1)


class Skips:
    """Counts, as part of a graph, how often something was left out, and remembers why it was the last time.

    Attributes:
      count: how often; scalar.
      culprit: index of the tensor that was not finite the last time, as `first_not_finite` returned it; scalar.
    """

    def __init__(self) -> None:
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.culprit = tf.Variable(0, dtype=tf.int64, trainable=False)

    def add(self, culprit: tf.Tensor) -> None:
        """Counts one more."""
        self.count.assign_add(1)
        self.culprit.assign(culprit)
