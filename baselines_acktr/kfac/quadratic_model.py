"""The exact quadratic model of a step: products with a batch's own Fisher, and conjugate gradient on it.

K-FAC's blocks leave out that layers act together and that the sites of a convolution are alike, so they misjudge how
far a step moves the model's outputs, by hundreds on frames of a game. Here K-FAC is only the preconditioner. The metric
is the batch's own Fisher F = J^T H J, with J the Jacobian of the outputs and H the second derivative of the mean KL at
the outputs (Martens 2014, section 9; Martens & Grosse 2015, sections 6.4 and 7). F is never formed: a product with it
is one pass forward and one backward through the layers.

A vector v is a list with a matrix [I, O] for each layer, as in `kfac.curvature`. Its tangents J v say how the outputs
move along it: a list with a tensor for each output. As J is linear, the tangents of a sum are the sum of the tangents,
so the pass forward is made once for each direction, and u^T F v = (J u)^T H (J v) needs no pass backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

Vector = list[tf.Tensor]
Tangents = list[tf.Tensor]
KlParts = dict[str, tf.Tensor]
TINY = 1e-6  # two directions count as one where the squared sine of their angle is below this


def inner_product(ours: Sequence[tf.Tensor], theirs: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of the products of all numbers of two vectors; scalar."""
    return tf.add_n([tf.reduce_sum(a * b) for a, b in zip(ours, theirs, strict=True)])


def _plus(ours: Vector, factor: tf.Tensor, theirs: Vector) -> Vector:
    return [a + factor * b for a, b in zip(ours, theirs, strict=True)]


class Fisher(Protocol):
    """F = J^T H J, by its factors."""

    def push(self, vector: Vector) -> Tangents:
        """The tangents J v: how the outputs move along a vector v."""
        ...

    def pull(self, tangents: Tangents) -> Vector:
        """The product J^T H t of tangents t, with J and H as at the top of this file; F v for t = J v.

        F is a mean over the batch's rows, without damping.
        """
        ...

    def inner(self, ours: Tangents, theirs: Tangents) -> tf.Tensor:
        """t^T H t', which is u^T F v for t = J u and t' = J v; scalar."""
        ...

    def parts(self, tangents: Tangents) -> KlParts:
        """{name: its part of t^T H t} for the parts of the KL; empty if it has none."""
        ...


class Solution(NamedTuple):
    """A direction d, and its tangents J d."""

    d: Vector
    tangents: Tangents


class Step(NamedTuple):
    """A step x of full length, before the trust region shortens it, and what the quadratic model says of it.

    Attributes:
      x: a vector, which is subtracted from the weights.
      tangents: J x, how the outputs move along it.
      slope: g^T x; scalar.
      fisher_norm: x^T F x; scalar.
      squares: x^T x; scalar.
      decay_norm: x^T C x, with the second derivative C of weight decay, where there is any; scalar.
    """

    x: Vector
    tangents: Tangents
    slope: tf.Tensor
    fisher_norm: tf.Tensor
    squares: tf.Tensor
    decay_norm: tf.Tensor | float = 0.0

    def decrease(self, length: tf.Tensor, damping: tf.Tensor) -> tf.Tensor:
        """By how much the damped model foretells that the loss falls along length x:
        length g^T x - 1/2 length^2 x^T (F + C + lambda I) x."""
        curvature = self.fisher_norm + self.decay_norm + damping * self.squares
        return length * self.slope - 0.5 * length**2 * curvature


def conjugate_gradient(
    fisher: Fisher,
    precondition: Callable[[Vector], Vector],
    gradient: Vector,
    *,
    iterations: int,
    damping: float | tf.Tensor,
    blend: float = 0.0,
) -> Solution:
    """d with (blend P^-1 + (1 - blend) (F + lambda I)) d = g, approximately (Hestenes & Stiefel 1952).

    P is the preconditioner, K-FAC's damped inverse. Products with P^-1 cost nothing: every search direction is made of
    vectors P r, so its image is made of the r. Each iteration costs a pass forward, and all but the last one backward.

    Args:
      fisher: F.
      precondition: r -> P r, for a positive definite P.
      gradient: g.
      iterations: how many; at least 1. The first alone gives a multiple of P g.
      damping: lambda, above 0.
      blend: at least 0 and below 1.
    """
    residual = gradient
    preconditioned = precondition(gradient)
    norm = inner_product(residual, preconditioned)

    direction = preconditioned  # p
    inverse_image = residual  # P^-1 p
    tangents = fisher.push(direction)  # J p
    d = [tf.zeros_like(matrix) for matrix in gradient]
    d_tangents = [tf.zeros_like(tensor) for tensor in tangents]

    for i in range(iterations):
        by_kfac = inner_product(direction, inverse_image)
        by_fisher = fisher.inner(tangents, tangents) + damping * inner_product(direction, direction)
        length = tf.math.divide_no_nan(norm, blend * by_kfac + (1 - blend) * by_fisher)
        d = _plus(d, length, direction)
        d_tangents = _plus(d_tangents, length, tangents)
        if i == iterations - 1:
            break

        damped = _plus(fisher.pull(tangents), damping, direction)
        image = [blend * k + (1 - blend) * f for k, f in zip(inverse_image, damped, strict=True)]
        residual = _plus(residual, -length, image)
        preconditioned = precondition(residual)
        last_norm = norm
        norm = inner_product(residual, preconditioned)

        ratio = tf.math.divide_no_nan(norm, last_norm)
        direction = _plus(preconditioned, ratio, direction)
        inverse_image = _plus(residual, ratio, inverse_image)
        tangents = fisher.push(direction)
    return Solution(d, d_tangents)


def step_along(fisher: Fisher, found: Solution, gradient: Vector) -> Step:
    """The step x = d, as conjugate gradient has found it for a gradient g."""
    d, tangents = found
    return Step(d, tangents, inner_product(gradient, d), fisher.inner(tangents, tangents), inner_product(d, d))


def step_with_last(fisher: Fisher, found: Solution, gradient: Vector, last: Vector, damping: float | tf.Tensor) -> Step:
    """The minimum of the quadratic model in the plane of a direction d and the last step l.

    Its coordinates are the step size and the momentum (Martens & Grosse 2015, section 7): x = alpha d + mu l with

        [d^T M d  d^T M l] [alpha]   [g^T d]
        [d^T M l  l^T M l] [mu   ] = [g^T l],   M = F + lambda I.

    Where l is 0, or along d, it has no part.

    Args:
      fisher: F.
      found: d and J d.
      gradient: g.
      last: l.
      damping: lambda.
    """
    d, tangents = found
    last_tangents = fisher.push(last)
    slopes = tf.stack([inner_product(gradient, d), inner_product(gradient, last)])
    by_fisher = _gram(fisher.inner, tangents, last_tangents)
    squares = _gram(inner_product, d, last)

    alpha, mu = _solve_two(by_fisher + damping * squares, slopes)
    part = tf.stack([alpha, mu])  # [2]
    x, x_tangents = (
        [alpha * a + mu * b for a, b in zip(ours, lasts, strict=True)]
        for ours, lasts in ((d, last), (tangents, last_tangents))
    )
    return Step(x, x_tangents, tf.reduce_sum(part * slopes), _quadratic(part, by_fisher), _quadratic(part, squares))


def _gram(inner: Callable[[Vector, Vector], tf.Tensor], first: Vector, second: Vector) -> tf.Tensor:
    """The inner products of two vectors with themselves and each other, [2, 2]."""
    mixed = inner(first, second)
    return tf.stack([tf.stack([inner(first, first), mixed]), tf.stack([mixed, inner(second, second)])])


def _solve_two(matrix: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The solution of a positive semidefinite system [2, 2]; by the first unknown alone where it is singular."""
    a, b = tf.unstack(matrix[0])
    _, c = tf.unstack(matrix[1])
    first, second = tf.unstack(target)
    determinant = a * c - b * b
    independent = determinant > TINY * a * c
    alpha = tf.where(independent, tf.math.divide_no_nan(c * first - b * second, determinant), 0)
    mu = tf.where(independent, tf.math.divide_no_nan(a * second - b * first, determinant), 0)
    return tf.where(independent, alpha, tf.math.divide_no_nan(first, a)), mu


def _quadratic(vector: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(vector * tf.linalg.matvec(matrix, vector))
