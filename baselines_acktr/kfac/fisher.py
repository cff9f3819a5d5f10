"""Sampled log-likelihoods: what K-FAC differentiates to estimate the Fisher of a model's own distribution.

Each function draws targets from the model's distribution, without gradient, and returns their log-likelihood SUMMED
over rows (a scalar), so that its gradient at a layer's pre-activations holds one row's own gradient in each row.
"""

from __future__ import annotations

import tensorflow as tf


def categorical_log_likelihood(logits: tf.Tensor, generator: tf.random.Generator) -> tf.Tensor:
    """Log-likelihood of one class per row, drawn from softmax(logits).

    Args:
      logits: [B, K].
      generator: draws the classes.
    """
    uniform = generator.uniform(tf.shape(logits), minval=1e-20, dtype=logits.dtype)
    classes = tf.argmax(logits - tf.math.log(-tf.math.log(uniform)), axis=-1)
    return -tf.reduce_sum(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.stop_gradient(classes), logits=logits)
    )


def bernoulli_log_likelihood(logits: tf.Tensor, generator: tf.random.Generator) -> tf.Tensor:
    """Log-likelihood of one bit per entry, drawn from sigmoid(logits).

    Args:
      logits: [B, ...].
      generator: draws the bits.
    """
    bits = tf.cast(generator.uniform(tf.shape(logits), dtype=logits.dtype) < tf.sigmoid(logits), logits.dtype)
    return -tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.stop_gradient(bits), logits=logits))


def gaussian_log_likelihood(mean: tf.Tensor, generator: tf.random.Generator, sigma: float = 1.0) -> tf.Tensor:
    """Log-likelihood, up to a constant, of one target per row drawn from N(mean, sigma^2 I).

    With sigma = 1 its Fisher is the Gauss-Newton matrix of the squared error (Wu et al. 2017, section 3.1).

    Args:
      mean: [B, ...].
      generator: draws the targets.
      sigma: standard deviation, in the units of `mean`.
    """
    targets = tf.stop_gradient(mean + sigma * generator.normal(tf.shape(mean), dtype=mean.dtype))
    return -0.5 * tf.reduce_sum(tf.square((targets - mean) / sigma))
