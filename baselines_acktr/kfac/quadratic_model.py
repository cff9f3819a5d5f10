"""The exact quadratic model of a step: products with a batch's own Fisher, and conjugate gradient on it.

K-FAC's blocks leave out that layers act together and that the sites of a convolution are alike, so they misjudge how
far a step moves the model's outputs, by hundreds on frames of a game. Here K-FAC is only the preconditioner. The metric
is the batch's own Fisher F = J^T H J, with J the Jacobian of the outputs and H the second derivative of the mean KL at
the outputs (Martens 2014, section 9; Martens & Grosse 2015, sections 6.4 and 7). F is never formed: a product with it
is one pass forward and one backward through the layers.

A vector is a list with a matrix [I, O] for each layer, as in `kfac.curvature`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from baselines_acktr.kfac.blocks import KroneckerBlock
from baselines_acktr.kfac.factors import join

Vector = list[tf.Tensor]
KlParts = dict[str, tf.Tensor]
TINY = 1e-6  # sine squared of the angle between two directions, from which on they are taken for one


class Divergence(NamedTuple):
    """How far apart two sets of a model's outputs are.

    Attributes:
      outputs: `outputs(*batch)` -> the model's outputs [B, ...], a tensor or a structure of them; of all rows of the
        batch, or of fewer.
      mean_kl: `mean_kl(old, new)` -> mean KL(old || new) of such outputs, nats; a scalar, or {name: scalar} for the
        parts that it is the sum of.
    """

    outputs: Callable[..., Any]
    mean_kl: Callable[[Any, Any], tf.Tensor | KlParts]


def inner_product(ours: Sequence[tf.Tensor], theirs: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of the products of all numbers of two vectors; scalar."""
    return tf.add_n([tf.reduce_sum(a * b) for a, b in zip(ours, theirs, strict=True)])


def _plus(ours: Vector, factor: tf.Tensor, theirs: Vector) -> Vector:
    return [a + factor * b for a, b in zip(ours, theirs, strict=True)]


class BatchFisher:
    """Products with the Fisher F = J^T H J of a batch; all of them share one forward pass.

    Make it inside a `tf.function`, or for few products.

    Args:
      divergence: whose outputs J is the Jacobian of, and whose KL H is the second derivative of.
      blocks: the layers; with respect to their weights.
      batch: arguments of `divergence.outputs`.
    """

    def __init__(self, divergence: Divergence, blocks: Sequence[KroneckerBlock], batch: Sequence[Any]) -> None:
        self._blocks, self._mean_kl = blocks, divergence.mean_kl
        self._weights = [weight for block in blocks for weight in block.weights]
        with tf.GradientTape(persistent=True) as self._backward:
            self._structure = divergence.outputs(*batch)
        self._outputs = tf.nest.flatten(self._structure)

        # u -> J^T u is linear, so its own derivative is J: a pass forward that needs no second forward pass.
        self._zeros = [tf.zeros_like(output) for output in self._outputs]
        with tf.GradientTape(persistent=True) as self._forward:
            self._forward.watch(self._zeros)
            self._pulled = self._pull(self._zeros)

    def product(self, vector: Vector) -> Vector:
        """F v."""
        tensors = self._pull(self._curved(self._push(vector)))
        matrices, start = [], 0
        for block in self._blocks:
            end = start + len(block.weights)
            matrices.append(join(tensors[start:end]))
            start = end
        return matrices

    def quadratic_forms(self, vector: Vector) -> tuple[tf.Tensor, KlParts]:
        """v^T F v, and {name: its part} for the parts of the KL, if that has any; scalars."""
        tangents = self._push(vector)
        kl = self._mean_kl(self._structure, self._structure)
        if not isinstance(kl, dict):
            return inner_product(tangents, self._curved(tangents)), {}
        parts = {name: inner_product(tangents, self._curved(tangents, name)) for name in kl}
        return tf.add_n(list(parts.values())), parts

    def _push(self, vector: Vector) -> list[tf.Tensor]:
        """J v: how the outputs move; a tensor for each of them."""
        directions = [part for block, matrix in zip(self._blocks, vector, strict=True) for part in block.split(matrix)]
        return _gradient(self._forward, self._pulled, self._zeros, directions)

    def _pull(self, cotangents: list[tf.Tensor]) -> list[tf.Tensor]:
        """J^T u; a tensor for each weight."""
        return _gradient(self._backward, self._outputs, self._weights, cotangents)

    def _curved(self, tangents: list[tf.Tensor], part: str | None = None) -> list[tf.Tensor]:
        """H t of a tangent t of the outputs, for one part of the KL or for all of it; in their shapes."""
        old = tf.nest.map_structure(tf.stop_gradient, self._structure)
        outputs = [tf.identity(tf.stop_gradient(output)) for output in self._outputs]
        with tf.GradientTape() as second:
            second.watch(outputs)
            with tf.GradientTape() as first:
                first.watch(outputs)
                kl = self._mean_kl(old, tf.nest.pack_sequence_as(self._structure, outputs))
                if isinstance(kl, dict):
                    kl = kl[part] if part else tf.add_n(list(kl.values()))
            slopes = _gradient(first, kl, outputs)
        return _gradient(second, slopes, outputs, tangents)


def _gradient(tape: tf.GradientTape, target: Any, sources: Any, output_gradients: Any = None) -> Any:
    """What `GradientTape.gradient` gives, with zeros where a source has no influence."""
    return tape.gradient(target, sources, output_gradients, tf.UnconnectedGradients.ZERO)


class Solution(NamedTuple):
    """A direction d, and F d."""

    d: Vector
    fisher_d: Vector


class Step(NamedTuple):
    """A step x of full length, and what the quadratic model says of it; scalars.

    Attributes:
      x: what is subtracted from the weights.
      slope: g^T x.
      fisher_norm: x^T F x.
      squares: x^T x.
    """

    x: Vector
    slope: tf.Tensor
    fisher_norm: tf.Tensor
    squares: tf.Tensor

    def decrease(self, length: tf.Tensor, damping: tf.Tensor) -> tf.Tensor:
        """By how much the damped model foretells that the loss falls along length x:
        length g^T x - 1/2 length^2 x^T (F + lambda I) x."""
        return length * self.slope - 0.5 * length**2 * (self.fisher_norm + damping * self.squares)


def conjugate_gradient(
    product: Callable[[Vector], Vector],
    precondition: Callable[[Vector], Vector],
    gradient: Vector,
    *,
    iterations: int,
    damping: float | tf.Tensor,
    blend: float = 0.0,
) -> Solution:
    """d with (blend P^-1 + (1 - blend) (F + lambda I)) d = g, approximately (Hestenes & Stiefel 1952).

    P is the preconditioner, K-FAC's damped inverse. Products with P^-1 cost nothing: every search direction is made of
    vectors P r, so its image is made of the r.

    Args:
      product: v -> F v, for a positive semidefinite F.
      precondition: r -> P r, for a positive definite P.
      gradient: g.
      iterations: how many, each with one product; at least 1. The first alone gives a multiple of P g.
      damping: lambda, above 0.
      blend: at least 0 and below 1.
    """
    residual, preconditioned = gradient, precondition(gradient)
    direction, inverse_image = preconditioned, residual  # p and P^-1 p
    norm = inner_product(residual, preconditioned)
    d = fisher_d = [tf.zeros_like(matrix) for matrix in gradient]

    for i in range(iterations):
        fisher_image = product(direction)
        damped = _plus(fisher_image, damping, direction)
        image = [blend * k + (1 - blend) * f for k, f in zip(inverse_image, damped, strict=True)]

        length = tf.math.divide_no_nan(norm, inner_product(direction, image))
        d, fisher_d = _plus(d, length, direction), _plus(fisher_d, length, fisher_image)
        if i == iterations - 1:
            break

        residual = _plus(residual, -length, image)
        preconditioned = precondition(residual)
        last_norm, norm = norm, inner_product(residual, preconditioned)
        ratio = tf.math.divide_no_nan(norm, last_norm)
        direction, inverse_image = _plus(preconditioned, ratio, direction), _plus(residual, ratio, inverse_image)
    return Solution(d, fisher_d)


def step_along(found: Solution, gradient: Vector) -> Step:
    """The step x = d, as conjugate gradient has found it for a gradient g."""
    d, fisher_d = found
    return Step(d, inner_product(gradient, d), inner_product(d, fisher_d), inner_product(d, d))


def step_with_last(
    found: Solution, gradient: Vector, last: Vector, last_norm: tf.Tensor, damping: float | tf.Tensor
) -> Step:
    """The minimum of the quadratic model in the plane of a direction d and the last step l.

    Its coordinates are the step size and the momentum (Martens & Grosse 2015, section 7): x = alpha d + mu l with

        [d^T M d  d^T M l] [alpha]   [g^T d]
        [d^T M l  l^T M l] [mu   ] = [g^T l],   M = F + lambda I.

    Where l is 0, or along d, it has no part.

    Args:
      found: d and F d.
      gradient: g.
      last: l.
      last_norm: l^T F l.
      damping: lambda.
    """
    d, fisher_d = found
    slopes = tf.stack([inner_product(gradient, d), inner_product(gradient, last)])
    mixed = inner_product(last, fisher_d)
    fisher = tf.stack([tf.stack([inner_product(d, fisher_d), mixed]), tf.stack([mixed, last_norm])])
    mixed = inner_product(d, last)
    squares = tf.stack([tf.stack([inner_product(d, d), mixed]), tf.stack([mixed, inner_product(last, last)])])

    alpha, mu = _solve_two(fisher + damping * squares, slopes)
    part = tf.stack([alpha, mu])
    x = [alpha * a + mu * b for a, b in zip(d, last, strict=True)]
    return Step(x, tf.reduce_sum(part * slopes), _quadratic(part, fisher), _quadratic(part, squares))


def _solve_two(matrix: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The solution of a positive semidefinite system [2, 2]; by the first unknown alone where it is singular."""
    (a, b), (_, c) = tf.unstack(matrix[0]), tf.unstack(matrix[1])
    first, second = tf.unstack(target)
    determinant = a * c - b * b
    independent = determinant > TINY * a * c
    alpha = tf.where(independent, tf.math.divide_no_nan(c * first - b * second, determinant), 0)
    mu = tf.where(independent, tf.math.divide_no_nan(a * second - b * first, determinant), 0)
    return tf.where(independent, alpha, tf.math.divide_no_nan(first, a)), mu


def _quadratic(vector: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(vector * tf.linalg.matvec(matrix, vector))
