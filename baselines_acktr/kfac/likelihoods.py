"""What a Keras loss says of a model's outputs: a distribution whose Fisher is the loss's second derivative.

A loss of Keras is a mean, or a weighted sum, of one value for each *site*: a row, or a row's pixel or token. Here a
site's value has a likelihood

    draw(outputs, generator)   log-likelihood of a target that is drawn at each site,   [B, ...]
    kl(old, new)               KL between what two outputs stand for at each site, nats,  [B, ...]

so that its Fisher, and the second derivative of its KL, is the second derivative of the value by what enters it
linearly: the generalized Gauss-Newton matrix of the loss (Martens 2014, section 9).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class SiteLikelihood(NamedTuple):
    """The likelihood of a loss, site by site; `draw` and `kl` as above, of outputs [B, ..., K].

    Attributes:
      class_axis: of the outputs, whose numbers stand for one target together; None: each stands for one.
    """

    draw: Callable[[tf.Tensor, Any], tf.Tensor]
    kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    class_axis: int | None = None


def categorical(logits: Callable[[tf.Tensor], tf.Tensor]) -> SiteLikelihood:
    """One class at each site, from the softmax of `logits(outputs)` [B, ..., K]."""

    def draw(outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        found = logits(outputs)
        uniform = generator.uniform(tf.shape(found), minval=1e-20, dtype=found.dtype)
        classes = tf.stop_gradient(tf.argmax(found - tf.math.log(-tf.math.log(uniform)), axis=-1))
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=classes, logits=found)

    def kl(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        old_log = tf.nn.log_softmax(logits(old))
        new_log = tf.nn.log_softmax(logits(new))
        return tf.reduce_sum(tf.exp(old_log) * (old_log - new_log), axis=-1)

    return SiteLikelihood(draw, kl, class_axis=-1)


def bernoulli(logits: Callable[[tf.Tensor], tf.Tensor]) -> SiteLikelihood:
    """K independent bits at each site, of probability sigmoid(logits(outputs)); a site's value is their mean."""

    def draw(outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        found = logits(outputs)
        uniform = generator.uniform(tf.shape(found), dtype=found.dtype)
        bits = tf.stop_gradient(tf.cast(uniform < tf.sigmoid(found), found.dtype))
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=bits, logits=found)
        return -tf.reduce_sum(each, axis=-1) / math.sqrt(found.shape[-1])

    def kl(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        bits = tf.sigmoid(logits(old))
        new_cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=bits, logits=logits(new))
        old_cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=bits, logits=logits(old))
        return tf.reduce_mean(new_cross - old_cross, axis=-1)

    return SiteLikelihood(draw, kl)


def location(precision: float, location_of: Callable[[tf.Tensor], tf.Tensor] = tf.identity) -> SiteLikelihood:
    """K independent numbers around `location_of(outputs)` at each site, each with this Fisher information of its
    location; a site's value is the mean over them.

    A number of unit variance, drawn from a Gaussian, has information 1. Of other distributions only their information
    enters the Fisher, so the Gaussian of the same information stands for them.
    """

    def draw(outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        found = location_of(outputs)
        sigma = math.sqrt(found.shape[-1] / precision)
        noise = sigma * generator.normal(tf.shape(found), dtype=found.dtype)
        targets = tf.stop_gradient(found + noise)
        return -0.5 * tf.reduce_sum(tf.square((targets - found) / sigma), axis=-1)

    def kl(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        return 0.5 * precision * tf.reduce_mean(tf.square(location_of(new) - location_of(old)), axis=-1)

    return SiteLikelihood(draw, kl)


def poisson() -> SiteLikelihood:
    """K independent counts at each site, of these rates; a site's value is the mean over them. Information 1 / rate."""

    def draw(outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        noise = generator.normal(tf.shape(outputs), dtype=outputs.dtype)
        scores = noise / tf.sqrt(positive(outputs) * outputs.shape[-1])
        return tf.reduce_sum(tf.stop_gradient(scores) * outputs, axis=-1)

    def kl(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        old_rate = positive(old)
        new_rate = positive(new)
        return tf.reduce_mean(old_rate * tf.math.log(old_rate / new_rate) - old_rate + new_rate, axis=-1)

    return SiteLikelihood(draw, kl)


def positive(outputs: tf.Tensor) -> tf.Tensor:
    """Outputs, at least Keras' epsilon."""
    return tf.maximum(outputs, keras.config.epsilon())


def log_of(outputs: tf.Tensor) -> tf.Tensor:
    """The logarithm of probabilities: logits whose softmax they are."""
    return tf.math.log(positive(outputs))


def logit_of(outputs: tf.Tensor) -> tf.Tensor:
    """The logit of probabilities."""
    return log_of(outputs) - log_of(1 - outputs)


def huber_information(delta: float) -> float:
    """Fisher information of the location of the density proportional to exp(-huber(e)): P(|e| < delta)."""
    inside = math.sqrt(2 * math.pi) * math.erf(delta / math.sqrt(2))
    outside = 2 * math.exp(-0.5 * delta**2) / delta
    return inside / (inside + outside)


Loss = Any  # a `keras.Loss`, or a function (targets, outputs) -> a value for each site


def _arguments(loss: Loss) -> dict[str, Any]:
    """What a loss was made with; nothing for a plain function."""
    return {**getattr(loss, "_fn_kwargs", {}), **loss.get_config()} if isinstance(loss, keras.Loss) else {}


def _categorical(loss: Loss) -> SiteLikelihood:
    return categorical(tf.identity if _arguments(loss).get("from_logits") else log_of)


def _bernoulli(loss: Loss) -> SiteLikelihood:
    return bernoulli(tf.identity if _arguments(loss).get("from_logits") else logit_of)


def _huber(loss: Loss) -> SiteLikelihood:
    return location(huber_information(float(_arguments(loss).get("delta", 1.0))))


_LIKELIHOODS: dict[str, Callable[[Loss], SiteLikelihood]] = {
    "categorical_crossentropy": _categorical,
    "sparse_categorical_crossentropy": _categorical,
    "kl_divergence": lambda loss: categorical(log_of),
    "binary_crossentropy": _bernoulli,
    "mean_squared_error": lambda loss: location(2.0),
    "mean_squared_logarithmic_error": lambda loss: location(2.0, lambda outputs: tf.math.log(positive(outputs) + 1)),
    "mean_absolute_error": lambda loss: location(1.0),  # of Laplace's density
    "huber": _huber,
    "log_cosh": lambda loss: location(0.5),
    "poisson": lambda loss: poisson(),
}
KNOWN = ", ".join(_LIKELIHOODS)


def site_likelihood(loss: Loss) -> SiteLikelihood | None:
    """The likelihood of a loss of Keras; None where there is none here.

    Args:
      loss: an object, whose axis of classes and whether it takes logits are honoured, or a function.
    """
    function: Any = getattr(loss, "fn", loss)
    is_wrapper = not isinstance(loss, keras.Loss) or type(loss).call is keras.losses.MeanSquaredError.call
    if not (is_wrapper and _is_of_keras(function)):
        return None
    known = _LIKELIHOODS.get(function.__name__)
    if known is None:
        return None
    found = known(loss)
    axis = _arguments(loss).get("axis", -1)
    if axis == -1:
        return found

    def last(outputs: tf.Tensor) -> tf.Tensor:
        return keras.ops.moveaxis(outputs, axis, -1)

    return SiteLikelihood(
        lambda outputs, generator: found.draw(last(outputs), generator),
        lambda old, new: found.kl(last(old), last(new)),
        None if found.class_axis is None else axis,
    )


def _is_of_keras(function: Any) -> bool:
    return getattr(function, "__module__", "").startswith("keras.src.losses")
