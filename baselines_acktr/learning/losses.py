"""Losses of the actor-critic, as pure functions on tensors [B]."""

from __future__ import annotations

import keras
import tensorflow as tf

from common.distributions import ActionDistribution


def policy_gradient_loss(log_prob: tf.Tensor, advantage: tf.Tensor) -> tf.Tensor:
    """-mean(A log pi(a|s)); no gradient goes into the advantage.

    Args:
      log_prob: log pi(a|s), [B].
      advantage: [B].
    """
    log_prob.shape.assert_is_compatible_with(advantage.shape)
    return -tf.reduce_mean(tf.stop_gradient(advantage) * log_prob)


def actor_loss(
    pi: ActionDistribution, actions: tf.Tensor, advantages: tf.Tensor, ent_coef: float
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The policy-gradient loss with its entropy bonus, and both of them for the log; scalars.

    Args:
      pi: pi(.|s), of B rows.
      actions: a, [B, ...].
      advantages: A, [B].
      ent_coef: weight of the entropy.
    """
    policy_loss = policy_gradient_loss(pi.log_prob(actions), advantages)
    entropy = tf.reduce_mean(pi.entropy())
    return policy_loss - ent_coef * entropy, {"policy_loss": policy_loss, "policy_entropy": entropy}


def value_loss(value: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """mean(0.5 (target - value)^2); no gradient goes into the target.

    Args:
      value: V(s), [B].
      target: returns, [B].
    """
    value.shape.assert_is_compatible_with(target.shape)
    return 0.5 * tf.reduce_mean(tf.square(tf.stop_gradient(target) - value))


def l2_penalty(model: keras.Model, weight: float) -> tf.Tensor:
    """0.5 * weight * |W|^2 of all kernels of a model, biases and free vectors left out; scalar."""
    kernels = [variable.value for variable in model.trainable_variables if variable.name == "kernel"]
    return 0.5 * weight * tf.add_n([tf.reduce_sum(tf.square(kernel)) for kernel in kernels])
