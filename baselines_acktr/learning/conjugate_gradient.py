"""A natural-gradient step without the Fisher matrix (Schulman et al. 2015, appendix C).

Parameters are `tf.Variable`s; a vector [P] holds their numbers one after the other (`common.packing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from common.packing import flatten, unflatten

TOLERANCE = 1e-10  # conjugate gradient stops when |b - A x|^2 has fallen to this part of |b|^2
TRIES = 10  # the line search tries so many lengths, each half the one before


def fisher_vector_product(
    outputs: Callable[[], tf.Tensor],
    mean_kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    variables: Sequence[tf.Variable],
    vector: tf.Tensor,
) -> tf.Tensor:
    """F v with the policy's Fisher F = J^T H J (Schulman et al. 2015, appendix C.1).

    Args:
      outputs: () -> the policy's outputs [B, ...], whose Jacobian is J.
      mean_kl: (constant copy of the outputs, outputs) -> mean KL of the first to the second, nats; scalar. H is its
        second derivative.
      variables: of the policy.
      vector: v, [P].

    Returns:
      [P].
    """
    direction = unflatten(vector, variables)
    with tf.GradientTape() as tape, tf.autodiff.ForwardAccumulator(list(variables), direction) as accumulator:
        now = outputs()
    tangent = accumulator.jvp(now)  # J v, [B, ...]

    old = tf.stop_gradient(now)
    new = tf.stop_gradient(now)
    with tf.GradientTape() as outer:
        outer.watch(new)
        with tf.GradientTape() as inner:
            inner.watch(new)
            kl = mean_kl(old, new)
        slope = tf.reduce_sum(inner.gradient(kl, new) * tangent)
    curved = outer.gradient(slope, new)  # H J v, [B, ...]
    return flatten(tape.gradient(now, variables, output_gradients=curved))


def conjugate_gradient(
    product: Callable[[tf.Tensor], tf.Tensor], target: tf.Tensor, iterations: int, tolerance: float = TOLERANCE
) -> tf.Tensor:
    """x with A x = b, approximately (Hestenes & Stiefel 1952).

    Args:
      product: v -> A v for a symmetric positive definite A, [P] -> [P].
      target: b, [P].
      iterations: most that are made.
      tolerance: |b - A x|^2 / |b|^2 at which no more are made.

    Returns:
      [P].
    """
    first_norm = tf.reduce_sum(tf.square(target))

    def unfinished(x: tf.Tensor, residual: tf.Tensor, direction: tf.Tensor, norm: tf.Tensor) -> tf.Tensor:
        return norm > tolerance * first_norm

    def iterate(x: tf.Tensor, residual: tf.Tensor, direction: tf.Tensor, norm: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image = product(direction)
        length = norm / tf.reduce_sum(direction * image)
        residual -= length * image
        new_norm = tf.reduce_sum(tf.square(residual))
        return x + length * direction, residual, residual + new_norm / norm * direction, new_norm

    start = tf.zeros_like(target), target, target, first_norm
    return tf.while_loop(unfinished, iterate, start, maximum_iterations=iterations)[0]


def line_search(
    evaluate: Callable[[], tuple[tf.Tensor, tf.Tensor]],
    variables: Sequence[tf.Variable],
    step: tf.Tensor,
    initial: tf.Tensor,
    max_kl: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves the variables by the longest of `step`, `step` / 2, ... that is accepted; if none is, they stay.

    A length is accepted if the objective is finite and larger than before, and the KL at most `max_kl`.

    Args:
      evaluate: () -> objective to maximise, and mean KL(old || new) in nats, at the variables as they are; scalars.
      variables: to be moved.
      step: [P].
      initial: the objective before; scalar.
      max_kl: nats.

    Returns:
      The part of the step that was taken, and by how much the objective rose; scalars, 0 if no length was accepted.
    """
    start = [tf.identity(variable) for variable in variables]
    parts = unflatten(step, variables)

    def attempt(fraction: tf.Tensor, gain: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        for variable, origin, part in zip(variables, start, parts, strict=True):
            variable.assign(origin + fraction * part)
        objective, kl = evaluate()
        accepted = tf.math.is_finite(objective) & (objective > initial) & (kl <= max_kl)
        return tf.where(accepted, fraction, fraction / 2), objective - initial, accepted

    untried = tf.ones((), step.dtype), tf.zeros_like(initial), tf.constant(False)
    fraction, gain, accepted = tf.while_loop(
        lambda fraction, gain, accepted: ~accepted, attempt, untried, maximum_iterations=TRIES
    )
    for variable, origin in zip(variables, start, strict=True):
        variable.assign(tf.where(accepted, variable, origin))
    return tf.where(accepted, fraction, tf.zeros_like(fraction)), tf.where(accepted, gain, tf.zeros_like(gain))
