"""The terms of a compiled Keras loss, and what each of them says of the model's outputs.

Keras adds up one loss for each output, with weights, masks, reductions and classes that are ignored. What reaches the
Fisher is what reaches the loss: the effective weight of each site is the derivative of the loss by the site's value.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from baselines_acktr.kfac.likelihoods import SiteLikelihood, site_likelihood

MOST_OUTPUTS = 256  # for more outputs of a row only the diagonal of a loss's own second derivative is taken


class Term(NamedTuple):
    """One call of a loss of Keras while a compiled loss is computed.

    Attributes:
      loss: the loss.
      targets, outputs: as it got them.
      sample_weight: as it got it, or None.
      weight: what it is multiplied by.
    """

    loss: keras.Loss
    targets: Any
    outputs: tf.Tensor
    sample_weight: tf.Tensor | None
    weight: float


@contextlib.contextmanager
def _observed(calls: list[Any]) -> Iterator[None]:
    """Within the context every call of a loss is appended to the list."""
    original = keras.Loss.__call__

    def observed(self: keras.Loss, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        calls.append((self, y_true, y_pred, sample_weight))
        return original(self, y_true, y_pred, sample_weight)

    keras.Loss.__call__ = observed
    try:
        yield
    finally:
        keras.Loss.__call__ = original


def loss_with_terms(model: keras.Model, compute: Callable[[], tf.Tensor]) -> tuple[tf.Tensor, list[Term]]:
    """The loss of a compiled model, and its terms.

    Args:
      model: the model.
      compute: calls its `compute_loss`.

    Raises:
      ValueError: where a term cannot be told from the others.
    """
    calls: list[Any] = []
    with _observed(calls):
        loss = compute()

    compiled = getattr(model._compile_loss, "_flat_losses", None) or []
    calls = [call for call in calls if any(call[0] is one.loss for one in compiled)]
    if len(calls) != len(compiled) or not compiled:
        raise ValueError(
            f"loss={model.loss!r}: K-FAC does not see how it is made of the losses of the outputs; must come with "
            "log_likelihood"
        )

    weights = [1.0 if one.loss_weights is None else float(one.loss_weights) for one in compiled]
    terms = [
        Term(one, targets, outputs, sample_weight, weight)
        for (one, targets, outputs, sample_weight), weight in zip(calls, weights, strict=True)
    ]
    return loss, terms


@contextlib.contextmanager
def without_counting(model: keras.Model) -> Iterator[None]:
    """Within the context a compiled loss leaves the metrics of its terms alone."""
    compiled = model._compile_loss
    counted = compiled._metrics
    silent = [None] * max(len(counted), 1)
    object.__setattr__(compiled, "_metrics", silent)
    try:
        yield
    finally:
        object.__setattr__(compiled, "_metrics", counted)


class KnownCurvature(NamedTuple):
    """A term whose likelihood is known.

    Attributes:
      likelihood: of each site.
      weights: the derivative of the whole loss by each site's value, [B, ...].
      is_weighted: whether rows may count differently.
    """

    likelihood: SiteLikelihood
    weights: tf.Tensor
    is_weighted: bool

    def log_likelihood(self, outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        """The log-likelihood of targets that are drawn at each site, summed over the sites; scalar.

        It is scaled so that the MEAN over rows of the outer products of its gradients is the curvature of the loss.
        """
        rows = tf.cast(tf.shape(self.weights)[0], self.weights.dtype)
        drawn = self._by_value(self.likelihood.draw(tf.cast(outputs, self.weights.dtype), generator))
        parts = tf.cast(tf.shape(drawn)[1], drawn.dtype)
        return tf.reduce_sum(tf.sqrt(tf.reshape(self.weights, [-1, 1]) * rows / parts) * drawn)

    def mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        """The KL whose second derivative is the loss's curvature; scalar."""
        dtype = self.weights.dtype
        kl = self._by_value(self.likelihood.kl(tf.cast(old, dtype), tf.cast(new, dtype)))
        return tf.reduce_sum(tf.reshape(self.weights, [-1, 1]) * tf.reduce_mean(kl, axis=1, keepdims=True))

    def root_at(self, outputs: tf.Tensor) -> tf.Tensor:
        """R [B, K, K] with H = R R^T, the second derivative of the whole loss at the K outputs of each row."""
        old, shape = tf.stop_gradient(outputs), outputs.shape[1:]
        return _root(lambda new: self.mean_kl(old, tf.reshape(new, [-1, *shape])), flat(old))

    def row_weights(self) -> tf.Tensor:
        """How much each row counts, [B]."""
        return tf.reduce_sum(tf.reshape(self.weights, [tf.shape(self.weights)[0], -1]), axis=1)

    def _by_value(self, sites: tf.Tensor) -> tf.Tensor:
        """Numbers of sites as [V, P]: of V values of the loss, each the mean over P sites."""
        return tf.reshape(sites, [tf.size(self.weights), -1])


class OwnCurvature(NamedTuple):
    """The curvature of a term whose loss has no known likelihood: the second derivative H of the
    whole loss by each row's outputs.

    H is made positive semidefinite: negative eigenvalues count as 0.

    Attributes:
      root: R [B, K, K] with H = R R^T. For more than `MOST_OUTPUTS` outputs only the diagonals are kept, [B, K].
      sample_weight: of the rows, or None.
    """

    root: tf.Tensor
    sample_weight: tf.Tensor | None

    @property
    def is_weighted(self) -> bool:
        """Whether rows may count differently."""
        return self.sample_weight is not None

    def log_likelihood(self, outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        """A stand-in whose gradients at the outputs have B times the second derivative as their covariance."""
        numbers = tf.cast(flat(outputs), self.root.dtype)
        rows = tf.cast(tf.shape(numbers)[0], numbers.dtype)
        noise = tf.sqrt(rows) * generator.normal(tf.shape(numbers), dtype=numbers.dtype)
        scores = self._times_root(noise)
        return tf.reduce_sum(tf.stop_gradient(scores) * numbers)

    def mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        """1/2 d^T H d for the change d of the outputs; scalar."""
        change = tf.cast(flat(new) - flat(old), self.root.dtype)
        if len(self.root.shape) == 2:
            return 0.5 * tf.reduce_sum(tf.square(self.root * change))
        return 0.5 * tf.reduce_sum(tf.square(tf.linalg.matvec(self.root, change, transpose_a=True)))

    def row_weights(self) -> tf.Tensor:
        """How much each row counts, [B]."""
        rows = tf.shape(self.root)[0]
        if self.sample_weight is None:
            return tf.ones([rows], self.root.dtype)
        return tf.reduce_mean(tf.reshape(tf.cast(self.sample_weight, self.root.dtype), [rows, -1]), axis=1)

    def root_at(self, outputs: tf.Tensor) -> tf.Tensor:
        """R [B, K, K] with H = R R^T, the second derivative of the whole loss at the K outputs of each row."""
        return self.root if len(self.root.shape) == 3 else tf.linalg.diag(self.root)

    def _times_root(self, vector: tf.Tensor) -> tf.Tensor:
        return self.root * vector if len(self.root.shape) == 2 else tf.linalg.matvec(self.root, vector)


Curvature = KnownCurvature | OwnCurvature


def flat(outputs: tf.Tensor) -> tf.Tensor:
    """[B, ...] -> [B, K]."""
    return tf.reshape(outputs, [tf.shape(outputs)[0], outputs.shape[1:].num_elements()])


def curvature_of(term: Term) -> Curvature:
    """The curvature of a term by the model's outputs. It is a constant: no gradient goes through it."""
    likelihood = site_likelihood(term.loss)
    if likelihood is not None:
        _, weights, has_mask = _sites(term)
        return KnownCurvature(likelihood, weights, has_mask or term.sample_weight is not None)
    return OwnCurvature(_root_of_second_derivative(term), term.sample_weight)


def site_values(term: Term) -> tuple[tf.Tensor, tf.Tensor]:
    """The value of a term at each site, and the derivative of the whole loss by it, as a constant; [B, ...] each."""
    values, weights, _ = _sites(term)
    return values, weights


def _sites(term: Term) -> tuple[tf.Tensor, tf.Tensor, bool]:
    """`site_values`, and whether sites are masked."""
    original = term.loss.call
    seen: list[tuple[tf.Tensor, tf.Tensor]] = []

    def watched(y_true: Any, y_pred: Any) -> tf.Tensor:
        values = original(y_true, y_pred)
        mask = getattr(values, "_keras_mask", None)
        watch = tf.identity(tf.stop_gradient(values))
        tape.watch(watch)
        if mask is not None:
            watch._keras_mask = mask
        seen.append((values, watch))
        return watch

    has_mask = getattr(term.outputs, "_keras_mask", None) is not None
    term.loss.call = watched
    try:
        with tf.GradientTape() as tape:
            loss = term.loss(term.targets, term.outputs, term.sample_weight)
    finally:
        del term.loss.call
    values, watch = seen[0]
    weights = tape.gradient(loss, watch, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    has_mask = has_mask or getattr(watch, "_keras_mask", None) is not None
    return values, tf.maximum(tf.stop_gradient(weights) * term.weight, 0), has_mask


def _root_of_second_derivative(term: Term) -> tf.Tensor:
    """R with H = R R^T for the second derivative H of a term by each row's outputs: [B, K, K], or diagonal [B, K]."""
    shape = tf.shape(term.outputs)
    mask = getattr(term.outputs, "_keras_mask", None)

    def loss(outputs: tf.Tensor) -> tf.Tensor:
        shaped = tf.reshape(outputs, shape)
        shaped.set_shape(term.outputs.shape)
        if mask is not None:
            shaped._keras_mask = mask
        return term.loss(term.targets, shaped, term.sample_weight) * term.weight

    return _root(loss, flat(tf.stop_gradient(term.outputs)))


def _root(function: Callable[[tf.Tensor], tf.Tensor], point: tf.Tensor) -> tf.Tensor:
    """R with H = R R^T for the second derivative H of a function, a sum over rows, at a point [B, K].

    Negative eigenvalues of H count as 0. Returns [B, K, K], or the diagonal [B, K] where K is above MOST_OUTPUTS.
    """
    with tf.GradientTape(persistent=True) as second:
        second.watch(point)
        with tf.GradientTape() as first:
            first.watch(point)
            value = function(point)
        slopes = first.gradient(value, point, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    if point.shape[1] > MOST_OUTPUTS:
        return tf.sqrt(tf.maximum(_diagonal_of(second, slopes, point), 0))
    hessian = second.batch_jacobian(slopes, point)  # [B, K, K]
    values, vectors = tf.linalg.eigh(0.5 * (hessian + tf.linalg.matrix_transpose(hessian)))
    return vectors * tf.sqrt(tf.maximum(values, 0))[:, None, :]


def _diagonal_of(second: tf.GradientTape, slopes: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """The row sums of H: its diagonal where each output has a value of its own."""
    ones = tf.ones_like(slopes)
    return second.gradient(slopes, outputs, ones, unconnected_gradients=tf.UnconnectedGradients.ZERO)


@dataclasses.dataclass
class Judged:
    """A model's outputs, with what the loss says of them: for TensorFlow a structure of the outputs alone."""

    outputs: list[tf.Tensor]
    curvatures: tuple[Curvature, ...]

    def __tf_flatten__(self) -> tuple[tuple, tuple]:
        return (self.curvatures, len(self.outputs)), tuple(self.outputs)

    @classmethod
    def __tf_unflatten__(cls, metadata: tuple, components: tuple) -> Judged:
        return cls(list(components), metadata[0])


def judged(terms: list[Term]) -> Judged:
    """The outputs that the terms of a loss look at, and what these say of them."""
    return Judged([term.outputs for term in terms], tuple(curvature_of(term) for term in terms))


def log_likelihood(found: Judged, generator: Any) -> tf.Tensor:
    """The log-likelihood of drawn targets, summed over rows and outputs; scalar."""
    pairs = zip(found.curvatures, found.outputs, strict=True)
    return tf.add_n([curvature.log_likelihood(outputs, generator) for curvature, outputs in pairs])


def mean_kl(old: Judged, new: Judged) -> tf.Tensor:
    """The sum over outputs of the mean KL between what two sets of them stand for; scalar."""
    triples = zip(old.curvatures, old.outputs, new.outputs, strict=True)
    return tf.add_n([curvature.mean_kl(before, after) for curvature, before, after in triples])


def row_weights(found: Judged) -> tf.Tensor | None:
    """How much each row counts, [B]; None where all count alike."""
    if not any(curvature.is_weighted for curvature in found.curvatures):
        return None
    return tf.add_n([curvature.row_weights() for curvature in found.curvatures])
