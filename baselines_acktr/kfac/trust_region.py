"""How long a step may be (Wu et al. 2017, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def step_length(direction_norm: tf.Tensor, max_length: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """eta = min(eta_max, sqrt(2 delta / D^T F D))  (Wu et al. 2017, section 3.2).

    Args:
      direction_norm: D^T F D, either with K-FAC's damped model, the sum over layers of <grad_l, D_l>, or with the
        exact Fisher (`fisher_matrix`); scalar.
      max_length: eta_max.
      delta: radius of the trust region, in nats of the quadratic model's KL.
    """
    return tf.minimum(max_length, tf.sqrt(2 * delta / direction_norm))


def fisher_matrix(
    outputs: Callable[[], tf.Tensor],
    mean_kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    variables: list[list[tf.Variable]],
    directions: list[list[tf.Tensor]],
) -> tf.Tensor:
    """D_i^T F D_j with the exact Fisher F of a batch, for P parts of the weights: (J D_i)^T H (J D_j); [P, P].

    H is the second derivative of the mean KL at the outputs and J their Jacobian. At its minimum the KL has no
    gradient, so this is its whole second derivative along D (Martens 2014, section 9).

    Args:
      outputs: () -> the model's outputs [B, ...].
      mean_kl: (constant copy of the outputs, outputs) -> mean KL of the first to the second, nats; scalar.
      variables: the weights of each part.
      directions: D_i, a tensor for each of its variables.
    """
    tangents = []
    for part, direction in zip(variables, directions, strict=True):
        with tf.autodiff.ForwardAccumulator(part, direction) as accumulator:
            new = outputs()
        tangents.append(accumulator.jvp(new, unconnected_gradients=tf.UnconnectedGradients.ZERO))
    old = tf.stop_gradient(new)
    products = [_second_derivative(mean_kl, old, tangent) for tangent in tangents]
    rows, columns = (tf.reshape(tf.stack(parts), [len(parts), -1]) for parts in (tangents, products))
    return tf.matmul(rows, columns, transpose_b=True)


def _second_derivative(
    mean_kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], outputs: tf.Tensor, tangent: tf.Tensor
) -> tf.Tensor:
    """H times a tangent of the outputs, in their shape."""
    with tf.autodiff.ForwardAccumulator(outputs, tangent) as accumulator:
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            kl = mean_kl(tf.stop_gradient(outputs), outputs)
        gradient = tape.gradient(kl, outputs)
    return accumulator.jvp(gradient, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def best_lengths(slopes: tf.Tensor, curvatures: tf.Tensor, balance: float) -> tf.Tensor:
    """How far each part's direction is followed, [P]: alpha_i = <grad_i, D_i> / D_i^T (F + lambda I) D_i.

    That is the minimum of the exact quadratic model along D_i (Martens & Grosse 2015, section 6.4). Layers of a network
    act together, which their Kronecker factors leave out, so the first part, the network's, has an alpha well below 1;
    a free vector, such as the log_std of a policy, has about 1.

    Args:
      slopes: <grad_i, D_i>.
      curvatures: D_i^T (F + lambda I) D_i.
      balance: of the others: alpha_0^(1 - balance) alpha_i^balance, from K-FAC's own proportions (0) to the exact (1).
    """
    lengths = tf.math.divide_no_nan(slopes, curvatures)
    return lengths[0] ** (1 - balance) * lengths**balance
