"""TRPO (Schulman et al. 2015): the natural gradient by conjugate gradient, in a trust region that is kept.

Policy and critic have a network each. `Trpo.update` starts to fit the critic by Adam and improves the policy by
`Trpo.improve`, which reads as the paper's appendix C. Alone it is one graph. With other ranks it is run step by step,
and all means over rows are over those of all ranks.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.critics import Euclidean
from baselines_acktr.agent.networks import Builder
from baselines_acktr.agent.own_networks import make_critic, make_policy
from baselines_acktr.config import TrpoConfig, TrpoContConfig, TrpoDiscreteConfig
from baselines_acktr.learning.advantages import standardised
from baselines_acktr.learning.batches import make_batch
from baselines_acktr.learning.conjugate_gradient import conjugate_gradient, fisher_vector_product, line_search
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session.learn import learn as train
from baselines_acktr.session.learners import CONTINUOUS, DISCRETE
from common.graph import graph
from common.keras_state import Weights
from common.mpi import ALONE, Communicator
from common.packing import flatten
from common.random_state import rank_seed
from common.vec_env.given import GivenEnv


class Trpo(Agent):
    """A policy, and a critic trained by Adam; arguments and errors as for `Agent`."""

    algorithm = "trpo"
    whole_episodes = True
    config: TrpoConfig
    value_function: Euclidean

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str | Builder,
        config: TrpoConfig,
        seed: int = 0,
        env_id: str | None = None,
        comm: Communicator = ALONE,
    ) -> None:
        super().__init__(observation_space, action_space, network, config, seed, env_id, comm)
        keras.utils.set_random_seed(seed)
        own_seed = rank_seed(seed, comm.rank)
        self.policy = make_policy(observation_space, action_space, self.network_name, config, own_seed)
        critic = make_critic(observation_space, self.network_name, config, self.policy)
        self.value_function = Euclidean(critic, config, seed + 1, comm)
        self.improve = graph(self._improve) if comm.size == 1 else self._improve
        self.parts = {
            "policy": Weights(self.policy.network),
            "vf": self.value_function,
            "actor": self.policy,
        }

    # -- one update ---------------------------------------------------------------------------------------------------

    def returns(self, rollout: Rollout) -> np.ndarray:
        return rollout.returns(self.config.gamma, self.config.vf_lam)

    def update(self, rollout: Rollout, total_timesteps: int) -> dict[str, Any]:
        """Starts to fit the critic, and improves the policy, both on the whole rollout in random order."""
        returns = self.returns(rollout)  # [T, N]
        advantages = rollout.advantages(self.config.gamma, self.config.lam)  # [T, N]

        batch = make_batch(rollout, returns, advantages, self.row_order(returns.size))
        observations = self.policy.filtered(batch.observations)
        self.value_function.fit(observations, batch.returns)

        fisher_rows = math.ceil(self.config.fisher_fraction * returns.size)  # the first ones: their order is random
        metrics = self.improve(
            tf.constant(observations),
            batch.actions,
            standardised(batch.advantages, self.comm),
            tf.constant(observations[:fisher_rows]),
        )
        self.policy.refresh(rollout.observations, self.comm)
        return metrics

    def _improve(
        self, observations: tf.Tensor, actions: tf.Tensor, advantages: tf.Tensor, fisher_observations: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Maximises the surrogate E[pi(a|s) / pi_old(a|s) A] subject to mean KL(old || new) <= max_kl (equation 14).

        The step is s sqrt(2 max_kl / s^T F s) with s = F^-1 g and the damped Fisher F, then shortened until it is good.

        Args:
          observations: filtered, [B, ...].
          actions: as the learner stores them, [B, ...].
          advantages: standardised, [B].
          fisher_observations: those that conjugate gradient's products with F are made of, [F, ...].

        Returns:
          The `surrogate_gain`, the `step_fraction` that was taken, 0 if none was good, and the `policy_entropy` before.
        """
        config = self.config
        old = self.policy.network(observations)  # [B, P]
        old_log_prob = self.policy.distribution(old).log_prob(actions)  # [B]
        batch = (observations, actions, advantages, old, old_log_prob)

        parts = self._mean(self._gradient(*batch))  # [3 + P]
        surrogate = parts[0]
        entropy = parts[2]
        gradient = parts[3:]

        direction = conjugate_gradient(
            lambda vector: self.damped_fisher(fisher_observations, vector), gradient, config.cg_iters
        )
        norm = tf.reduce_sum(direction * self.damped_fisher(observations, direction))  # s^T F s
        length = tf.sqrt(2 * config.max_kl / norm)

        def evaluate() -> tuple[tf.Tensor, tf.Tensor]:
            surrogate, kl, _ = tf.unstack(self._mean(self._evaluate(*batch)))
            return surrogate, kl

        fraction, gain = line_search(evaluate, self._variables(), length * direction, surrogate, config.max_kl)
        return {"surrogate_gain": gain, "step_fraction": fraction, "policy_entropy": entropy}

    # -- its parts ----------------------------------------------------------------------------------------------------

    def _variables(self) -> list[tf.Variable]:
        return [variable.value for variable in self.policy.network.trainable_variables]

    def _mean(self, tensor: tf.Tensor) -> tf.Tensor:
        """The mean over the ranks."""
        return tensor if self.comm.size == 1 else tf.constant(self.comm.mean(tensor.numpy()))

    @graph
    def _evaluate(self, observations, actions, advantages, old, old_log_prob) -> tf.Tensor:
        """The surrogate with its entropy bonus, mean KL(old || new) and the entropy, [3]."""
        parameters = self.policy.network(observations)  # [B, P]
        pi = self.policy.distribution(parameters)
        ratio = tf.exp(pi.log_prob(actions) - old_log_prob)  # [B]
        entropy = tf.reduce_mean(pi.entropy())
        surrogate = tf.reduce_mean(ratio * advantages) + self.config.ent_coef * entropy
        return tf.stack([surrogate, self.policy.mean_kl(old, parameters), entropy])

    @graph
    def _gradient(self, *batch) -> tf.Tensor:
        """What `_evaluate` returns, and behind it the gradient of the surrogate, [3 + P]."""
        with tf.GradientTape() as tape:
            values = self._evaluate(*batch)
            surrogate = values[0]
        return flatten([values, *tape.gradient(surrogate, self._variables())])

    def damped_fisher(self, observations: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
        """(F + damping I) v, with the policy's Fisher F on observations [B, ...] and a vector v [P]."""
        return self._mean(self._fisher(observations, vector)) + self.config.damping * vector

    @graph
    def _fisher(self, observations: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
        """F v of this rank's rows."""
        policy = self.policy
        return fisher_vector_product(lambda: policy.network(observations), policy.mean_kl, self._variables(), vector)

    def status(self) -> dict[str, float]:
        return self.value_function.status()


class ContinuousModel(Trpo):
    """TRPO for a Gaussian policy: hyperparameters alone."""

    config_class = TrpoContConfig
    image_network = "pixels"
    for_images: ClassVar[dict[str, Any]] = {"timesteps_per_batch": 8000, "vf_iters": 16, "vf_rows": 500}


class DiscreteModel(Trpo):
    """TRPO for a softmax policy: hyperparameters alone."""

    config_class = TrpoDiscreteConfig
    for_images: ClassVar[dict[str, Any]] = {"hidden_sizes": (128,)}
    for_vectors: ClassVar[dict[str, Any]] = {
        "timesteps_per_batch": 1024,
        "max_kl": 0.01,
        "damping": 0.1,
        "gamma": 0.99,
        "lam": 0.97,
        "vf_stepsize": 1e-3,
    }


def learn(network: str | Builder | None = None, env: GivenEnv | None = None, **arguments: Any) -> Trpo:
    """Trains a model with TRPO.

    Arguments and errors are those of `session.learn.learn`, hyperparameters those of
    TrpoContConfig where actions are a Box, else of TrpoDiscreteConfig.
    """
    models: dict[str, type[Trpo]] = {DISCRETE: DiscreteModel, CONTINUOUS: ContinuousModel}
    return train(models, network, env=env, **arguments)
