"""Three small supervised problems with a target each, on which optimizers are compared.

The losses are Keras' own: means over rows and, where a row has several targets, over these. Likelihood and divergence
are scaled alike, so both give the Hessian of the loss at the outputs.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from baselines_acktr.kfac.keras_model import likelihood_of


class Family(NamedTuple):
    """The distribution of a row's targets, whose parameters are a model's outputs [B, K].

    Attributes:
      loss: `loss(targets, outputs)` -> mean over rows of the negative log-likelihood of a row's targets, by their
        number M (K; 1 for classes), up to a constant, nats; scalar.
      log_likelihood: `log_likelihood(outputs, generator)` -> that of targets drawn from the distribution, summed over
        rows, by sqrt(M), so that its Fisher is by M; scalar.
      mean_kl: `mean_kl(old, new)` -> mean over rows of KL(old || new), by M, nats; scalar.
    """

    loss: Callable[[Any, tf.Tensor], tf.Tensor]
    log_likelihood: Callable[[tf.Tensor, Any], tf.Tensor]
    mean_kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _categorical_loss(labels: Any, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def _bernoulli_loss(pixels: Any, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(pixels, logits))


def mean_squared_error(targets: Any, outputs: tf.Tensor) -> tf.Tensor:
    """Mean over rows and outputs; scalar."""
    return tf.reduce_mean(tf.square(targets - outputs))


def _family(loss: Callable[[Any, tf.Tensor], tf.Tensor], keras_loss: keras.Loss) -> Family:
    likelihood = likelihood_of(keras_loss)
    assert likelihood.mean_kl is not None
    return Family(loss, likelihood.log_likelihood, likelihood.mean_kl)


CATEGORICAL = _family(_categorical_loss, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
BERNOULLI = _family(_bernoulli_loss, keras.losses.BinaryCrossentropy(from_logits=True))
GAUSSIAN = _family(mean_squared_error, keras.losses.MeanSquaredError())


@dataclasses.dataclass(frozen=True)
class Problem:
    """What to fit, and when it is solved.

    Attributes:
      name: of the problem.
      inputs: [N, I].
      targets: [N] or [N, K].
      family: of the targets: loss, likelihood and divergence.
      make_model: `make_model(seed)` -> a network from [B, I] to the family's parameters [B, K].
      batch_size: rows of an update, drawn with replacement; N takes every row once.
      metric: `metric(targets, outputs)` -> what is judged, on all rows; scalar.
      target: solved when the metric is below it.
      limit: updates after which a run is given up.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    family: Family
    make_model: Callable[[int], keras.Model]
    batch_size: int
    metric: Callable[[Any, tf.Tensor], tf.Tensor]
    target: float
    limit: int

    def batch(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of `batch_size` rows."""
        if self.batch_size == len(self.inputs):
            return self.inputs, self.targets
        rows = rng.integers(0, len(self.inputs), self.batch_size)
        return self.inputs[rows], self.targets[rows]


def _tanh_network(widths: Sequence[int], seed: int, linear: Sequence[int] = ()) -> keras.Model:
    """A fully connected network with Glorot's initial weights: tanh layers, but the last and those in `linear`.

    Args:
      widths: of the inputs and of every layer.
      seed: of the initial weights.
      linear: indices of layers without tanh.
    """
    keras.utils.set_random_seed(seed)
    last = len(widths) - 2
    activations = [None if layer == last or layer in linear else "tanh" for layer in range(last + 1)]
    layers = [keras.layers.Dense(*layer) for layer in zip(widths[1:], activations, strict=True)]
    return keras.Sequential([keras.Input((widths[0],)), *layers])


def _images() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: images [1797, 64] from 0 to 1 and labels [1797]."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels.astype(np.int64)


def digits() -> Problem:
    """Classes of the digits by 64-64-64-10; metric: the loss over all images, nats."""
    images, labels = _images()
    return Problem(
        name="digits",
        inputs=images,
        targets=labels,
        family=CATEGORICAL,
        make_model=lambda seed: _tanh_network((64, 64, 64, 10), seed),
        batch_size=256,
        metric=CATEGORICAL.loss,
        target=0.05,
        limit=500,
    )


def excess_cross_entropy(pixels: Any, logits: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of pixels [B, K] from 0 to 1 less their entropy, mean over rows and pixels, nats; scalar."""
    entropy = -tf.math.xlogy(pixels, pixels) - tf.math.xlogy(1 - pixels, 1 - pixels)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(pixels, logits) - entropy)


def autoencoder() -> Problem:
    """Digits through a linear code, 64-100-50-25-8-25-50-100-64; metric: `excess_cross_entropy` over all images."""
    images, _ = _images()
    return Problem(
        name="autoencoder",
        inputs=images,
        targets=images,
        family=BERNOULLI,
        make_model=lambda seed: _tanh_network((64, 100, 50, 25, 8, 25, 50, 100, 64), seed, linear=(3,)),
        batch_size=512,
        metric=excess_cross_entropy,
        target=0.04,
        limit=2000,
    )


def _teacher(widths: Sequence[int], rows: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Normal inputs [N, I] and what a random tanh network makes of them, of mean 0 and variance 1 each, [N, K].

    Args:
      widths: of the inputs, the hidden layers and the outputs.
      rows: N.
      gain: deviation of a unit's weights, times the root of their number.
    """
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(rows, widths[0]))
    *hidden, last = (gain / np.sqrt(shape[0]) * rng.normal(size=shape) for shape in itertools.pairwise(widths))
    outputs = functools.reduce(lambda units, weights: np.tanh(units @ weights), hidden, inputs) @ last
    return inputs.astype(np.float32), ((outputs - outputs.mean(axis=0)) / outputs.std(axis=0)).astype(np.float32)


def regression() -> Problem:
    """What a random network 16-32-32-4 computes, by 16-64-64-4; metric: the loss, in units of the targets' variance."""
    inputs, targets = _teacher((16, 32, 32, 4), rows=4096, gain=1.5)
    return Problem(
        name="regression",
        inputs=inputs,
        targets=targets,
        family=GAUSSIAN,
        make_model=lambda seed: _tanh_network((16, 64, 64, 4), seed),
        batch_size=256,
        metric=mean_squared_error,
        target=0.03,
        limit=2000,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {make.__name__: make for make in (digits, autoencoder, regression)}
