"""ACKTR for discrete actions (Wu et al. 2017).

One network gives the policy pi(a|s) and the value V(s). `Model.update` learns from a rollout:

1. the k-step returns and the advantages, and how uncertain the critic is (sigma);
2. a batch of their rows in random order, so that the first ones are a sample of it;
3. one update of K-FAC, `Kfac.minimize`: the gradient of both losses; the Fisher of p(a, v|s) = pi(a|s) p(v|s)
   (section 3.1); and a natural-gradient step as long as the trust region allows (section 3.2).

What K-FAC minimises is `Model.objective`. It finds the direction of a step in the metric of `Model.joint_kl` on the
batch's first rows, and measures the step's length by `Model.weighted_kl` on its last rows, which say how far the step
moves policy and values where the direction was not fitted.

The critic is weighed three times: in the loss by `vf_coef / sigma^2`, in the Fisher by `vf_fisher_coef / sigma^2`, and
in the trust region by `vf_kl_coef` times the latter.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.networks import Builder
from baselines_acktr.agent.policies import SharedValueFunction
from baselines_acktr.agent.recurrent_policies import RecurrentPolicy
from baselines_acktr.agent.shared_network import make_shared
from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.kfac import Divergence, Objective, gaussian_kl, gaussian_log_likelihood
from baselines_acktr.learning.batches import (
    Batch,
    fisher_part,
    fisher_part_and_rest,
    held_out_part,
    make_batch,
    rows_within,
)
from baselines_acktr.learning.critic_deviation import CriticDeviation
from baselines_acktr.learning.losses import actor_loss, value_loss
from baselines_acktr.learning.optimizers import make_kfac
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session.learn import learn as train
from common.keras_state import Weights
from common.mpi import ALONE, Communicator
from common.random_state import rank_seed
from common.vec_env.given import GivenEnv


class Model(Agent):
    """Policy, value function and their K-FAC optimizer; arguments and errors as for `Agent`.

    Attributes:
      network: maps observations [B, ...] to parameters [B, P] of the policy and values [B].
      deviation: sigma of the critic's p(v|s).
      optimizer: K-FAC, of all its weights.
    """

    algorithm = "acktr"
    config_class = AcktrDiscreteConfig
    for_images: ClassVar[dict[str, Any]] = {"fisher_share": 0.33}
    config: AcktrDiscreteConfig

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str | Builder,
        config: AcktrDiscreteConfig,
        seed: int = 0,
        env_id: str | None = None,
        comm: Communicator = ALONE,
    ) -> None:
        super().__init__(observation_space, action_space, network, config, seed, env_id, comm)
        keras.utils.set_random_seed(seed)
        acting_seed = rank_seed(seed + 1, comm.rank)
        self.network, self.policy = make_shared(observation_space, action_space, self.network_name, config, acting_seed)
        self.value_function = SharedValueFunction(self.network)
        if isinstance(self.policy, RecurrentPolicy):
            self.remembering = self.policy
        self.deviation = CriticDeviation(self.network.compute_dtype)

        self.optimizer = make_kfac(self.network, config, seed, comm)
        trust_region = Divergence(self.held_out_outputs, self.weighted_kl)
        self.divergence = Divergence(self.fisher_outputs, self.joint_kl, measured_by=trust_region)
        self.parts = {
            "parameters": Weights(self.network),
            "sampler": self.policy.sampler,
            "kfac": self.optimizer,
            "squared_error": self.deviation,
        }

    # -- one update ---------------------------------------------------------------------------------------------------

    def update(self, rollout: Rollout, total_timesteps: int) -> dict[str, Any]:
        """One update of K-FAC on the whole rollout, with the largest step `lr` that the schedule has come to.

        Returns:
          What `Kfac.minimize` returns; `lr`; and `quadratic_kl`, the KL of the policy's step by the quadratic model,
          nats. Scalars.
        """
        lr = self.config.lr_at(self.timesteps, total_timesteps)
        returns = self.returns(rollout)  # [T, N]
        self.deviation.follow(returns - rollout.values, self.comm)

        batch = self.make_batch(rollout, returns)
        self.optimizer.learning_rate = lr
        metrics = self.optimizer.minimize(self.objective, *batch, divergence=self.divergence)
        return metrics | {"lr": lr, "quadratic_kl": metrics["model_policy_kl"]}

    def returns(self, rollout: Rollout) -> np.ndarray:
        """The k-step returns, which the critic learns, [T, N]."""
        return rollout.returns(self.config.gamma, lam=1.0)

    def make_batch(self, rollout: Rollout, returns: np.ndarray) -> Batch:
        """The rollout's rows in random order, with returns [T, N] and generalised advantages."""
        advantages = rollout.advantages(self.config.gamma, self.config.lam)  # [T, N]
        return make_batch(rollout, returns, advantages, self.row_order(rollout.shuffled))

    def objective(
        self, observations: tf.Tensor, actions: tf.Tensor, returns: tf.Tensor, advantages: tf.Tensor
    ) -> Objective:
        """The loss of policy and critic on a `Batch`, and log p(a, v|s) of what the model draws on the first F rows.

        Advantages and errors of the critic are in units of sigma.

        Args:
          observations: [B, ...], or `Sequences` of B steps.
          actions: as the learner stores them, [B, ...].
          returns: what the critic learns, [B].
          advantages: what the policy learns from, [B].
        """
        # One forward pass in all, over the Fisher's rows and over the rest.
        parts = [self.network(part) for part in fisher_part_and_rest(observations, self._fisher_rows(observations))]
        parameters = tf.concat([part[0] for part in parts], axis=0)  # [B, P]
        values = tf.concat([part[1] for part in parts], axis=0)  # [B]

        pi = self.policy.distribution(parameters)
        sigma = self.deviation.sigma
        policy_loss, metrics = actor_loss(pi, actions, advantages / sigma, self.config.ent_coef)
        critic_loss = value_loss(values, returns)
        loss = policy_loss + self.config.vf_coef * critic_loss / tf.square(sigma)

        log_likelihood = self._sampled_log_likelihood(*parts[0])
        rows = tf.shape(parts[0][1])[0]  # F, where a recurrent network is called on fewer, longer ones
        return Objective(loss, log_likelihood, metrics | {"value_loss": critic_loss}, rows)

    # -- the Fisher of p(a, v|s) = pi(a|s) p(v|s), with p(v|s) = N(V(s), sigma^2) -------------------------------------

    def _sampled_log_likelihood(self, parameters: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """log pi(a|s) + log p(v|s) of independently drawn a and v, summed over rows; scalar.

        Args:
          parameters: of the policy, [F, P].
          values: V(s), [F].
        """
        generator = self.optimizer.generator
        pi = self.policy.distribution(parameters)
        policy_part = tf.reduce_sum(pi.log_prob(pi.sample(generator)))
        return policy_part + gaussian_log_likelihood(values, generator, self._fisher_sigma())

    def joint_kl(self, old: tuple[tf.Tensor, tf.Tensor], new: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Mean KL(old || new) of p(a, v|s), by its two parts; scalars, nats.

        Args:
          old, new: parameters of the policy [F, P] and values [F].
        """
        value_kl = gaussian_kl(old[1][:, None], new[1][:, None], self._fisher_sigma())
        return {"policy": self.policy.mean_kl(old[0], new[0]), "value": value_kl}

    def weighted_kl(self, old: tuple[tf.Tensor, tf.Tensor], new: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """`joint_kl` with the critic's part times `vf_kl_coef`; `delta` bounds the sum of both parts."""
        parts = self.joint_kl(old, new)
        return parts | {"value": self.config.vf_kl_coef * parts["value"]}

    def fisher_outputs(self, observations: tf.Tensor, *others: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The policy's parameters [F, P] and values [F] on the F rows that the Fisher is estimated from."""
        return self.network(fisher_part(observations, self._fisher_rows(observations)))

    def held_out_outputs(self, observations: tf.Tensor, *others: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The policy's parameters [2 F, P] and values [2 F] on the batch's last rows.

        Where the batch has at least 3 F rows, the direction was fitted to none of them; where F is all rows, to all.
        """
        rows = self._fisher_rows(observations)
        return self.network(held_out_part(observations, None if rows is None else 2 * rows))

    def _fisher_rows(self, observations: tf.Tensor) -> int | tf.Tensor | None:
        """F, of this rank, for a batch with observations [B, ...]; None for all rows."""
        return rows_within(observations, self.comm.share_of_rows(self.config.fisher_rows), self.config.fisher_share)

    def _fisher_sigma(self) -> tf.Tensor:
        """Deviation of p(v|s), as `vf_fisher_coef` weighs the critic's Fisher."""
        return self.deviation.sigma * self.config.vf_fisher_coef**-0.5

    def status(self) -> dict[str, float]:
        return dict(self.optimizer.counters)


def learn(network: str | Builder | None = None, env: GivenEnv | None = None, **arguments: Any) -> Model:
    """Trains a model with ACKTR; arguments as for `session.learn.learn`, hyperparameters of AcktrDiscreteConfig."""
    return train(Model, network, env=env, **arguments)
