"""TRPO (Schulman et al. 2015): the natural gradient by conjugate gradient, in a trust region that is kept."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.disjoint_agent import DisjointAgent
from baselines_acktr.config import TrpoContConfig, TrpoDiscreteConfig
from baselines_acktr.learning.conjugate_gradient import (
    conjugate_gradient,
    fisher_vector_product,
    line_search,
)
from baselines_acktr.session import loop
from common.packing import flatten


class Trpo(DisjointAgent):
    """Policy, and a critic trained by Adam; arguments and errors as for `Agent`."""

    algorithm = "trpo"

    def status(self) -> dict[str, float]:
        return self.value_function.status()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        alone = self.comm.size == 1
        self._step_in_trust_region = tf.function(self._step, reduce_retracing=True) if alone else self._step

    def _update_policy(self, observations: tf.Tensor, actions: np.ndarray, advantages: np.ndarray) -> dict[str, Any]:
        fisher_rows = math.ceil(self.config.fisher_fraction * len(advantages))  # the first ones: their order is random
        return self._step_in_trust_region(observations, actions, advantages, observations[:fisher_rows])

    def _step(self, observations, actions, advantages, fisher_observations) -> dict[str, tf.Tensor]:
        """Maximises the surrogate E[pi(a|s) / pi_old(a|s) A] subject to mean KL(old || new) <= max_kl (equation 14).

        The step is s sqrt(2 max_kl / s^T F s) with s = F^-1 g and the damped Fisher F, then shortened until it is good.
        Alone it is one graph. With other ranks it is run step by step, and all means over rows are over those of all.
        """
        config = self.config
        variables = [variable.value for variable in self.policy.trainable_variables]
        old = self.policy(observations)
        old_log_prob = self._pi(old).log_prob(actions)
        batch = observations, actions, advantages, old, old_log_prob

        def evaluate() -> tuple[tf.Tensor, tf.Tensor]:
            surrogate, kl, _ = tf.unstack(self._mean(self._evaluate(*batch)))
            return surrogate, kl

        parts = self._mean(self._gradient(*batch))
        surrogate, entropy, gradient = parts[0], parts[2], parts[3:]
        direction = conjugate_gradient(lambda v: self._damped_fisher(fisher_observations, v), gradient, config.cg_iters)
        norm = tf.reduce_sum(direction * self._damped_fisher(observations, direction))
        length = tf.sqrt(2 * config.max_kl / norm)
        fraction, gain = line_search(evaluate, variables, length * direction, surrogate, config.max_kl)
        return {"surrogate_gain": gain, "step_fraction": fraction, "policy_entropy": entropy}

    def _mean(self, tensor: tf.Tensor) -> tf.Tensor:
        """The mean over the ranks."""
        return tensor if self.comm.size == 1 else tf.constant(self.comm.mean(tensor.numpy()))

    @tf.function(reduce_retracing=True)
    def _evaluate(self, observations, actions, advantages, old, old_log_prob) -> tf.Tensor:
        """The surrogate with its entropy bonus, mean KL(old || new) and the entropy, [3]."""
        parameters = self.policy(observations)
        pi = self._pi(parameters)
        ratio, entropy = tf.exp(pi.log_prob(actions) - old_log_prob), tf.reduce_mean(pi.entropy())
        surrogate = tf.reduce_mean(ratio * advantages) + self.config.ent_coef * entropy
        return tf.stack([surrogate, self._mean_kl(old, parameters), entropy])

    @tf.function(reduce_retracing=True)
    def _gradient(self, *batch) -> tf.Tensor:
        """What `_evaluate` returns, and behind it the gradient of the surrogate, [3 + P]."""
        variables = [variable.value for variable in self.policy.trainable_variables]
        with tf.GradientTape() as tape:
            values = self._evaluate(*batch)
            surrogate = values[0]
        return flatten([values, *tape.gradient(surrogate, variables)])

    def _damped_fisher(self, observations: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
        """(F + damping I) v, with the policy's Fisher F on observations [B, ...] and a vector v [P]."""
        return self._mean(self._fisher(observations, vector)) + self.config.damping * vector

    @tf.function(reduce_retracing=True)
    def _fisher(self, observations: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
        """F v of this rank's rows."""
        variables = [variable.value for variable in self.policy.trainable_variables]
        return fisher_vector_product(lambda: self.policy(observations), self._mean_kl, variables, vector)


class ContinuousModel(Trpo):
    """TRPO for a Gaussian policy."""

    config_class = TrpoContConfig


class DiscreteModel(Trpo):
    """TRPO for a softmax policy."""

    config_class = TrpoDiscreteConfig
    image_network = "cnn"
    for_images = {"hidden_sizes": (128,)}  # noqa: RUF012 (ClassVar in the base)
    for_vectors = {  # noqa: RUF012
        "timesteps_per_batch": 1024,
        "max_kl": 0.01,
        "damping": 0.1,
        "gamma": 0.99,
        "lam": 0.97,
        "vf_stepsize": 1e-3,
    }


def learn(network: str | None = None, *, env: gym.vector.VectorEnv, **arguments: Any) -> Trpo:
    """Trains a model with TRPO.

    Arguments and errors as for `loop.learn`; hyperparameters of TrpoContConfig where actions are a Box, else of
    TrpoDiscreteConfig.
    """
    continuous = isinstance(env.single_action_space, gym.spaces.Box)
    return loop.learn(ContinuousModel if continuous else DiscreteModel, network, env=env, **arguments)
