"""Packing many tensors into one vector [P], and unpacking them again."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def flatten(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Concatenates the elements of all tensors, [P]."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)


def unflatten(vector: tf.Tensor, variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
    """Splits a vector [P] into tensors with the shapes of the variables. It is the inverse of `flatten`."""
    sizes = [variable.shape.num_elements() for variable in variables]
    parts = tf.split(vector, sizes)  # one [size] for each variable

    pairs = zip(parts, variables, strict=True)
    return [tf.reshape(part, variable.shape) for part, variable in pairs]
