"""How the weights move: direction, length and momentum, by K-FAC's own model or by the batch's exact one.

A vector is a list with a matrix [I, O] for each layer, as in `kfac.curvature`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from baselines_acktr.kfac.quadratic_model import (
    Fisher,
    KlParts,
    Step,
    Vector,
    conjugate_gradient,
    inner_product,
    step_along,
    step_with_last,
)
from baselines_acktr.kfac.settings import StepSettings
from baselines_acktr.kfac.trust_region import step_length
from baselines_acktr.kfac.weight_decay import DecayedFisher, WeightDecay

Metrics = dict[str, tf.Tensor]


class Move(NamedTuple):
    """What the weights are changed by, W <- W - factor velocity, and what the model says of it.

    Attributes:
      velocity: a matrix [I, O] for each layer.
      factor: scalar.
      norm: D^T F D of the direction D; the move is left out where it is not a finite number or below 0; scalar.
      length: eta, how far along D; scalar.
      metrics: scalars for the log.
    """

    velocity: Vector
    factor: tf.Tensor
    norm: tf.Tensor
    length: tf.Tensor
    metrics: Metrics


class Measured(NamedTuple):
    """What the trust region sees of a step x of full length.

    Attributes:
      square: x^T F x by the Fisher that measures steps, twice the KL of x, nats; scalar.
      parts: {name: its part of that}; scalars.
    """

    square: tf.Tensor
    parts: KlParts


def heavy_ball(
    gradient: Vector,
    direction: Vector,
    velocity: Vector,
    *,
    learning_rate: tf.Tensor,
    delta: tf.Tensor,
    momentum: tf.Tensor,
) -> Move:
    """The step of the paper: K-FAC's direction, as long as K-FAC's own model allows (Wu et al. 2017, section 3.2).

    m <- momentum m + (eta / eta_max) D;  W <- W - eta_max (1 - momentum) m

    Args:
      gradient: g.
      direction: D = F^-1 g with K-FAC's damped inverse.
      velocity: m, as the last move left it.
      learning_rate: eta_max.
      delta: radius of the trust region, nats.
      momentum: at least 0 and below 1; 0 takes D alone.
    """
    norm = inner_product(gradient, direction)
    length = step_length(norm, learning_rate, delta)
    scale = tf.math.divide_no_nan(length, learning_rate)  # of a rate of 0: no step
    moved = [momentum * m + scale * d for m, d in zip(velocity, direction, strict=True)]

    metrics = {"step_length": length, "trust_region_scale": scale, "model_kl": 0.5 * length**2 * norm}
    return Move(moved, learning_rate * (1 - momentum), norm, length, metrics)


def full_step(
    fisher: Fisher,
    measure: Fisher,
    precondition: Callable[[Vector], Vector],
    gradient: Vector,
    last: Vector | None,
    *,
    damping: tf.Tensor,
    settings: StepSettings,
    decay: WeightDecay | None,
) -> tuple[Step, Measured]:
    """About the minimum of the exact quadratic model, and what the trust region sees of that step.

    Args:
      fisher: the Fisher that the direction is found by.
      measure: the Fisher that the step is measured by; the same object where it is the same.
      precondition: K-FAC's damped inverse.
      gradient: g.
      last: the last move, which is one more direction; None leaves it out.
      damping: lambda.
      settings: iterations of conjugate gradient, and the part of K-FAC's own curvature.
      decay: weight decay, whose gradient is part of g already; None: there is none.
    """
    model = fisher if decay is None else DecayedFisher(fisher, decay)
    found = conjugate_gradient(
        model,
        precondition,
        gradient,
        iterations=settings.iterations,
        damping=damping,
        blend=settings.blend,
    )
    step = step_along(model, found, gradient) if last is None else step_with_last(model, found, gradient, last, damping)

    if isinstance(model, DecayedFisher):
        step = model.without_decay(step)
    if measure is fisher:
        return step, Measured(step.fisher_norm, fisher.parts(step.tangents))
    tangents = measure.push(step.x)
    return step, Measured(measure.inner(tangents, tangents), measure.parts(tangents))


def model_step(
    step: Step, measured: Measured, *, learning_rate: tf.Tensor, delta: tf.Tensor, damping: tf.Tensor
) -> Move:
    """A step of the exact quadratic model, as far as the trust region lets it go.

    Args:
      step: of full length, by the Fisher that its direction was found by.
      measured: what the trust region sees of it.
      learning_rate: eta_max; 1 is the whole step.
      delta: radius of the trust region, nats.
      damping: lambda.
    """
    length = step_length(measured.square, learning_rate, delta)
    half_square = 0.5 * length**2
    metrics = {
        "step_length": length,
        "trust_region_scale": tf.math.divide_no_nan(length, learning_rate),
        "model_kl": half_square * measured.square,
        "model_decrease": step.decrease(length, damping),
        **{f"model_{name}_kl": half_square * part for name, part in measured.parts.items()},
    }
    return Move([length * matrix for matrix in step.x], tf.ones_like(length), measured.square, length, metrics)
