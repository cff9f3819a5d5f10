"""ACKTR for continuous actions (Wu et al. 2017): a policy and a critic, each with a network and a K-FAC optimizer.

`Model.update` learns from a rollout:

1. the critic's targets and the advantages;
2. a batch of their rows in random order, with filtered observations;
3. the critic takes steps on it, on a thread that goes on while the environments are stepped (`ValueFunction.fit`);
4. the policy takes one K-FAC step, `Kfac.minimize`, as long as its trust region allows (section 3.2);
5. the filter of the observations learns from the rollout.

What K-FAC minimises is `Model.objective`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.critics import ValueFunction, make_value_function
from baselines_acktr.agent.networks import Builder
from baselines_acktr.agent.own_networks import make_critic, make_gaussian_policy
from baselines_acktr.agent.recurrent_policies import RecurrentPair
from baselines_acktr.config import RECURRENT, AcktrContConfig
from baselines_acktr.kfac import Divergence, Objective
from baselines_acktr.learning.adapted_rate import AdaptedRate
from baselines_acktr.learning.advantages import RunningScale
from baselines_acktr.learning.batches import Batch, fisher_part, make_batch
from baselines_acktr.learning.losses import actor_loss, l2_penalty
from baselines_acktr.learning.optimizers import make_kfac
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.learning.sequences import LONGEST_SEQUENCE
from baselines_acktr.session.learn import learn as train
from common.errors import UserError
from common.keras_state import Weights
from common.mpi import ALONE, Communicator
from common.random_state import rank_seed
from common.schedules import scheduled
from common.vec_env.given import GivenEnv


class Model(Agent):
    """A policy, a critic and their optimizers; arguments and errors as for `Agent`.

    Attributes:
      advantage_scale: the deviation that the advantages are in units of.
      optimizer: K-FAC, of the policy.
      rate: its largest step.
    """

    algorithm = "acktr"
    config_class = AcktrContConfig
    image_network = "pixels"
    whole_episodes = True
    longest_sequence = LONGEST_SEQUENCE
    for_images: ClassVar[dict[str, Any]] = {
        "timesteps_per_batch": 8000,
        "vf_iters": 16,
        "vf_rows": 500,
        "fisher_rows": 64,
        "vf_fisher_rows": 1000,
        "delta": 0.06,
        "lr": 3.0,
    }
    config: AcktrContConfig
    value_function: ValueFunction

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.spaces.Box,
        network: str | Builder,
        config: AcktrContConfig,
        seed: int = 0,
        env_id: str | None = None,
        comm: Communicator = ALONE,
    ) -> None:
        if not isinstance(action_space, gym.spaces.Box):
            raise UserError(f"action space {action_space}: must be a Box; acktr_discrete has the others")
        super().__init__(observation_space, action_space, network, config, seed, env_id, comm)
        keras.utils.set_random_seed(seed)
        own_seed = rank_seed(seed, comm.rank)
        self.policy = make_gaussian_policy(observation_space, action_space, self.network_name, config, own_seed)
        critic = make_critic(observation_space, self.network_name, config, self.policy)
        self.value_function = make_value_function(critic, config, seed + 1, comm)
        if self.network_name in RECURRENT:
            self.remembering = RecurrentPair(self.policy, self.value_function)
        self.advantage_scale = RunningScale()

        self.optimizer = make_kfac(self.policy.network, config, seed, comm)
        self.rate = AdaptedRate(self.optimizer, is_adapted=config.desired_kl is not None)
        self.divergence = Divergence(self.fisher_outputs, self.policy.mean_kl)
        self.parts = {
            "policy": Weights(self.policy.network),
            "vf": self.value_function,
            "actor": self.policy,
            "kfac": self.optimizer,
            "advantages": self.advantage_scale,
            "lr": self.rate,
        }

    # -- one update ---------------------------------------------------------------------------------------------------

    def update(self, rollout: Rollout, total_timesteps: int) -> dict[str, Any]:
        """Starts to fit the critic, and takes one K-FAC step with the policy, both on the whole rollout."""
        trust = scheduled(self.config.klschedule, 1.0, self.timesteps, total_timesteps)
        self.optimizer.delta = self.config.delta * trust

        batch = self.make_batch(rollout)
        self.value_function.fit(batch.observations, batch.returns)
        desired_kl = None if self.config.desired_kl is None else self.config.desired_kl * trust
        metrics = self.improve(batch, desired_kl)
        self.policy.refresh(rollout.observations, self.comm)
        return metrics

    def returns(self, rollout: Rollout) -> np.ndarray:
        return rollout.returns(self.config.gamma, self.config.vf_lam)

    def make_batch(self, rollout: Rollout) -> Batch:
        """The rollout's rows in random order, with filtered observations, lambda-returns and advantages."""
        returns = self.returns(rollout)  # [T, N]
        advantages = rollout.advantages(self.config.gamma, self.config.lam)  # [T, N]
        batch = make_batch(rollout, returns, advantages, self.row_order(rollout.shuffled))
        return batch._replace(observations=self.policy.filtered(batch.observations))

    def improve(self, batch: Batch, desired_kl: float | None = None) -> dict[str, Any]:
        """Takes one K-FAC step with the policy.

        Args:
          batch: with filtered observations.
          desired_kl: the KL of a step that the size of the next step is adapted to, nats; None leaves the size as it
            is.

        Returns:
          What `Kfac.minimize` returns; `lr`, the step size; `quadratic_kl`, the step's KL by the quadratic model, nats.
          Where the step size is adapted also `kl`, the exact mean KL(old || new) on the batch, nats.
        """
        lr = self.rate.value
        observations = tf.nest.map_structure(tf.constant, batch.observations)  # [B, ...]
        advantages = self.advantage_scale.standardise(batch.advantages, self.comm)
        before = self.policy.parameters(observations) if self.rate.is_adapted else None  # [B, P]

        exact = self.config.trust_region == "exact"
        divergence = self.divergence if exact else None
        metrics = self.optimizer.minimize(
            self.objective, observations, batch.actions, advantages, divergence=divergence
        )
        metrics["quadratic_kl"] = metrics["model_kl"] if exact else self.optimizer.last_step_model_kl()

        if before is not None and desired_kl is not None:
            kl = self.policy.kl_since(before, observations)
            metrics["kl"] = float(self.comm.mean(kl.numpy()))
            self.rate.adapt(metrics["kl"], desired_kl)
        return metrics | {"lr": lr}

    def objective(self, observations: tf.Tensor, actions: tf.Tensor, advantages: tf.Tensor) -> Objective:
        """The policy's loss, and log pi(a|s) of actions that it draws itself on the Fisher's rows.

        Args:
          observations: filtered, [B, ...], or `Sequences` of B steps.
          actions: as the learner stores them, [B, D].
          advantages: standardised, [B].
        """
        parameters = self.policy.network(observations)  # [B, P]
        pi = self.policy.distribution(parameters)
        loss, metrics = actor_loss(pi, actions, advantages, self.config.ent_coef)
        loss += l2_penalty(self.policy.network, self.config.weight_decay)

        part = self._fisher_part(observations)  # [F, ...]
        if part is not observations:
            parameters = self.policy.network(part)  # [F, P]
            pi = self.policy.distribution(parameters)
        log_likelihood = tf.reduce_sum(pi.log_prob(pi.sample(self.optimizer.generator)))
        return Objective(loss, log_likelihood, metrics, tf.shape(parameters)[0])

    def fisher_outputs(self, observations: tf.Tensor, *others: Any) -> tf.Tensor:
        """The policy's outputs [F, P] on the F rows that the Fisher is estimated from."""
        return self.policy.network(self._fisher_part(observations))

    def _fisher_part(self, observations: tf.Tensor) -> tf.Tensor:
        return fisher_part(observations, self.comm.share_of_rows(self.config.fisher_rows))

    def status(self) -> dict[str, float]:
        return self.optimizer.counters | self.value_function.status()


def learn(network: str | Builder | None = None, env: GivenEnv | None = None, **arguments: Any) -> Model:
    """Trains a model with ACKTR; arguments as for `session.learn.learn`, hyperparameters of AcktrContConfig."""
    return train(Model, network, env=env, **arguments)
