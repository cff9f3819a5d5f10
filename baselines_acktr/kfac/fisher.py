"""The distributions that a model's outputs stand for: what K-FAC's factors and the exact Fisher are made of.

`..._log_likelihood` draws targets from the model's distribution, without gradient, and returns their log-likelihood
SUMMED over rows (a scalar), so that its gradient at a layer's pre-activations holds one row's own gradient in each row:
K-FAC's factors are estimated from it.

`..._kl` is the KL divergence between two such distributions, a MEAN over rows (a scalar, nats). Its second derivative
is the exact Fisher at the outputs: a `Divergence` wants it.
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


def gaussian_log_likelihood(
    mean: tf.Tensor, generator: tf.random.Generator, sigma: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Log-likelihood, up to a constant, of one target per row drawn from N(mean, sigma^2 I).

    With sigma = 1 its Fisher is the Gauss-Newton matrix of the squared error (Wu et al. 2017, section 3.1).

    Args:
      mean: [B, ...].
      generator: draws the targets.
      sigma: standard deviation, in the units of `mean`.
    """
    targets = tf.stop_gradient(mean + sigma * generator.normal(tf.shape(mean), dtype=mean.dtype))
    return -0.5 * tf.reduce_sum(tf.square((targets - mean) / sigma))


def categorical_kl(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """KL(softmax(old) || softmax(new)) of logits [B, K], mean over rows."""
    old_log = tf.nn.log_softmax(old)
    new_log = tf.nn.log_softmax(new)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(old_log) * (old_log - new_log), axis=-1))


def bernoulli_kl(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """KL between independent bits of probability sigmoid(old) and sigmoid(new), [B, ...]; sum over bits, mean over
    rows."""
    bits = tf.sigmoid(old)
    kl = tf.nn.sigmoid_cross_entropy_with_logits(bits, new) - tf.nn.sigmoid_cross_entropy_with_logits(bits, old)
    return tf.reduce_mean(_row_sums(kl))


def gaussian_kl(old: tf.Tensor, new: tf.Tensor, sigma: float | tf.Tensor = 1.0) -> tf.Tensor:
    """KL between N(old, sigma^2 I) and N(new, sigma^2 I), means [B, ...]; sum over numbers, mean over rows."""
    return 0.5 * tf.reduce_mean(_row_sums(tf.square((new - old) / sigma)))


def _row_sums(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tensor, axis=list(range(1, len(tensor.shape))))
