"""Four small supervised problems for comparing optimizers, each with a target to reach.

The losses are those of Keras: means over rows and, if a row has several targets, over these. Likelihood and divergence
are scaled in the same way, so that both give the Hessian of the loss with respect to the outputs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from baselines_acktr.kfac.keras_model import likelihood_of


class Family(NamedTuple):
    """The distribution of a row's targets. Its parameters are the outputs of a model, [B, K].

    M is the number of targets of a row (K; 1 for classes).

    Attributes:
      loss: `loss(targets, outputs)` returns the negative log-likelihood of the targets divided by M, up to a constant;
        mean over rows, in nats, scalar.
      log_likelihood: `log_likelihood(outputs, generator)` draws targets from the distribution and returns their
        log-likelihood divided by sqrt(M), so that the Fisher matrix is divided by M; sum over rows, scalar.
      mean_kl: `mean_kl(old, new)` returns KL(old || new) divided by M; mean over rows, in nats, scalar.
    """

    loss: Callable[[Any, tf.Tensor], tf.Tensor]
    log_likelihood: Callable[[tf.Tensor, Any], tf.Tensor]
    mean_kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _categorical_loss(labels: Any, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def _bernoulli_loss(pixels: Any, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(pixels, logits))


def mean_squared_error(targets: Any, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the squared error, averaged over rows and outputs; scalar."""
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
    """What to fit, and when the problem counts as solved.

    Attributes:
      name: name of the problem.
      inputs: [N, I], or [N, ...].
      targets: [N] or [N, K].
      family: distribution of the targets.
      make_model: `make_model(seed)` builds a network from inputs [B, I] to the parameters of the distribution, [B, K].
      batch_size: rows per update, drawn with replacement. With N, every update takes all rows.
      metric: `metric(targets, outputs)` returns the number that is judged, computed on all rows; scalar.
      target: the problem is solved when the metric is below this number.
      limit: number of updates after which a run is given up.
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
        """Returns inputs and targets of a batch of `batch_size` rows."""
        if self.batch_size == len(self.inputs):
            return self.inputs, self.targets
        rows = rng.integers(0, len(self.inputs), self.batch_size)  # [B]
        return self.inputs[rows], self.targets[rows]


def _tanh_network(widths: Sequence[int], seed: int, linear: Sequence[int] = ()) -> keras.Model:
    """Builds a fully connected network with Glorot's initial weights. All layers but the last have tanh.

    Args:
      widths: number of inputs, then units of every layer.
      seed: seed of the initial weights.
      linear: indices of further layers without tanh.
    """
    keras.utils.set_random_seed(seed)
    inputs, *units = widths
    last = len(units) - 1

    layers = [keras.Input((inputs,))]
    for i, width in enumerate(units):
        activation = None if i == last or i in linear else "tanh"
        layers.append(keras.layers.Dense(width, activation))
    return keras.Sequential(layers)


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's digits: images [1797, 64] from 0 to 1, and labels [1797]."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels.astype(np.int64)  # [1797, 64], [1797]


def classification_of_digits(
    name: str,
    shape: Sequence[int],
    make_model: Callable[[int], keras.Model],
    batch_size: int = 256,
    target: float = 0.05,
    limit: int = 500,
) -> Problem:
    """Classification of the digits. The metric is the loss over all images, in nats.

    Args:
      name: of the problem.
      shape: of an image as the network takes it, of 64 numbers.
      make_model, batch_size, target, limit: as for `Problem`.
    """
    images, labels = digit_images()
    return Problem(
        name=name,
        inputs=images.reshape(-1, *shape),
        targets=labels,
        family=CATEGORICAL,
        make_model=make_model,
        batch_size=batch_size,
        metric=CATEGORICAL.loss,
        target=target,
        limit=limit,
    )


def digits() -> Problem:
    """Classification of the digits by a network 64-64-64-10."""
    return classification_of_digits("digits", (64,), lambda seed: _tanh_network((64, 64, 64, 10), seed))


def _convolutional_network(seed: int) -> keras.Model:
    """Builds two convolutions 3x3 of 16 and 32 filters, the second of stride 2, and a dense layer: [B, 8, 8, 1] to
    logits [B, 10]."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


def images() -> Problem:
    """Classification of the digits by a small convolutional network."""
    return classification_of_digits("images", (8, 8, 1), _convolutional_network)


def excess_cross_entropy(pixels: Any, logits: tf.Tensor) -> tf.Tensor:
    """Returns the binary cross-entropy of pixels minus their entropy, averaged over rows and pixels, in nats; scalar.

    Args:
      pixels: [B, K], from 0 to 1.
      logits: [B, K].
    """
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(pixels, logits)  # [B, K]
    entropy = -tf.math.xlogy(pixels, pixels) - tf.math.xlogy(1 - pixels, 1 - pixels)
    return tf.reduce_mean(cross_entropy - entropy)


def autoencoder() -> Problem:
    """Autoencoder of the digits, 64-100-50-25-8-25-50-100-64, with a linear code.

    The metric is `excess_cross_entropy` over all images.
    """
    images, _ = digit_images()
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
    """Returns random inputs [N, I] and what a random tanh network computes from them, [N, K].

    Inputs are standard normal. Outputs are scaled to mean 0 and variance 1 each.

    Args:
      widths: number of inputs, hidden units of each layer, and outputs.
      rows: number of rows N.
      gain: standard deviation of a unit's weights, times the square root of their number.
    """
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(rows, widths[0]))

    units = inputs  # [N, I]
    shapes = itertools.pairwise(widths)
    *hidden, last = [gain / np.sqrt(shape[0]) * rng.normal(size=shape) for shape in shapes]
    for weights in hidden:
        units = np.tanh(units @ weights)  # [N, units of the layer]
    outputs = units @ last  # [N, K]

    standardised = (outputs - outputs.mean(axis=0)) / outputs.std(axis=0)
    return inputs.astype(np.float32), standardised.astype(np.float32)


def regression() -> Problem:
    """Regression on a random network 16-32-32-4 by one of 16-64-64-4.

    The metric is the loss, in units of the variance of the targets.
    """
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


PROBLEMS: dict[str, Callable[[], Problem]] = {make.__name__: make for make in (digits, images, autoencoder, regression)}
