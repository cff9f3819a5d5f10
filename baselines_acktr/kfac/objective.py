"""What a model is trained on, and its derivatives on one batch: the gradient and the Kronecker factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from baselines_acktr.kfac.curvature import Curvature
from baselines_acktr.kfac.quadratic_model import Vector
from baselines_acktr.kfac.steps import Metrics
from baselines_acktr.kfac.taps import tap_layers
from baselines_acktr.kfac.uses import Uses

Loss = tuple[tf.Tensor, Metrics]


class Objective(NamedTuple):
    """What a model is trained on, computed in one forward pass.

    Attributes:
      loss: scalar to minimise.
      log_likelihood: log-likelihood of targets sampled from the model, summed over rows (see `kfac.fisher`); scalar.
        Its gradients give the Fisher's factors. Only layer calls that it depends on count, so it may be taken on fewer
        rows than the loss: call the model on those rows apart. With several, [D], the factors are means over them.
      metrics: further tensors to hand back, by their names.
      rows: how many rows the log-likelihood is the sum of; scalar. None: as many as each layer is called on, which
        layers without Kronecker factors do not say.
      row_weights: how much each of these rows counts, [B], where the log-likelihood has weights; None: all the same.
    """

    loss: tf.Tensor
    log_likelihood: tf.Tensor
    metrics: dict[str, tf.Tensor] = {}  # noqa: RUF012 (read only)
    rows: tf.Tensor | None = None
    row_weights: tf.Tensor | None = None


def loss_of(function: Callable[..., Objective | tf.Tensor], *batch: Any) -> tf.Tensor:
    """The loss on a batch by a function that returns an objective or the loss alone; scalar."""
    result = function(*batch)
    return result.loss if isinstance(result, Objective) else result


class Derivatives:
    """Differentiates what the user has written, with respect to the weights that a curvature knows.

    Each method is the body of a graph (see `kfac.graphs`). A gradient is a list with a matrix [I, O] for each layer.
    """

    def __init__(self, curvature: Curvature) -> None:
        self._curvature = curvature

    def with_factors(self, objective: Callable[..., Objective], *batch: Any) -> tuple[Metrics, Vector, list[tf.Tensor]]:
        """Metrics with the loss, gradient and packed factors, from one forward and two backward passes."""
        factorizations = self._curvature.factorizations
        uses = Uses(factorizations)
        with tf.GradientTape(persistent=True) as tape, tap_layers(factorizations) as taps, uses.watching():
            loss, log_likelihood, metrics, rows, row_weights = objective(*batch)
        uses.check(taps, log_likelihood)

        gradient = self._gradient(tape, loss)
        factors = self._curvature.factors_of_draws(taps, tape, log_likelihood, rows, row_weights)
        return {**metrics, "loss": loss}, gradient, self._curvature.pack(factors)

    def of_objective(self, objective: Callable[..., Objective], *batch: Any) -> tuple[Metrics, Vector]:
        """Metrics with the loss, and gradient, of an objective whose factors are not wanted."""
        with tf.GradientTape() as tape:
            loss, _, metrics, *_ = objective(*batch)
        return {**metrics, "loss": loss}, self._gradient(tape, loss)

    def of_loss(self, function: Callable[..., Loss], *batch: Any) -> tuple[Metrics, Vector]:
        """Metrics with the loss, and gradient, of a function that returns a loss and metrics."""
        with tf.GradientTape() as tape:
            loss, metrics = function(*batch)
        return {**metrics, "loss": loss}, self._gradient(tape, loss)

    def observe(self, found: tuple[Metrics, Vector, list[tf.Tensor]]) -> tuple[Metrics, Vector]:
        """Takes the factors that `with_factors` found into the curvature; returns the rest."""
        metrics, gradient, factors = found
        self._curvature.observe(self._curvature.unpack(factors))
        return metrics, gradient

    def _gradient(self, tape: tf.GradientTape, loss: tf.Tensor) -> Vector:
        blocks = self._curvature.blocks
        weights = [block.weights for block in blocks]
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [block.join(parts) for block, parts in zip(blocks, gradients, strict=True)]
