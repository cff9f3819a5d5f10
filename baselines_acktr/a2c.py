"""A2C: the advantage actor-critic, trained by RMSProp (Mnih et al. 2016; Wu et al. 2017, section 5).

With discrete actions one network gives policy and value, and one step of RMSProp follows the sum of both losses. With
continuous ones they have a network each, as in `acktr_cont`: the policy takes one step on a batch, the critic several.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.critics import Euclidean
from baselines_acktr.agent.networks import Builder
from baselines_acktr.agent.own_networks import make_critic, make_gaussian_policy
from baselines_acktr.agent.policies import SharedValueFunction
from baselines_acktr.agent.recurrent_policies import RecurrentPair, RecurrentPolicy
from baselines_acktr.agent.shared_network import make_shared
from baselines_acktr.config import RECURRENT, A2cContConfig, A2cDiscreteConfig
from baselines_acktr.learning.advantages import standardised
from baselines_acktr.learning.batches import make_batch
from baselines_acktr.learning.losses import actor_loss, l2_penalty, value_loss
from baselines_acktr.learning.optimizers import make_rmsprop
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.learning.sequences import LONGEST_SEQUENCE
from baselines_acktr.session.learn import learn as train
from baselines_acktr.session.learners import CONTINUOUS, DISCRETE
from common.keras_state import Weights
from common.mpi import ALONE, Communicator
from common.random_state import rank_seed
from common.vec_env.given import GivenEnv


class DiscreteModel(Agent):
    """Policy and value function, and their optimizer; arguments and errors as for `Agent`.

    Attributes:
      network: maps observations [B, ...] to parameters [B, P] of the policy and values [B].
      optimizer: of all its weights.
    """

    algorithm = "a2c"
    config_class = A2cDiscreteConfig
    for_vectors: ClassVar[dict[str, Any]] = {
        "value_network": "copy",
        "nsteps": 16,
        "lr": 0.0015,
        "first_rate": 0.1,
    }
    for_memory: ClassVar[dict[str, Any]] = {"value_network": "shared"}
    config: A2cDiscreteConfig

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str | Builder,
        config: A2cDiscreteConfig,
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
        self.optimizer = make_rmsprop(self.network, config, self.objective, comm)
        self.parts = {
            "parameters": Weights(self.network),
            "sampler": self.policy.sampler,
            "rmsprop": self.optimizer,
        }

    def returns(self, rollout: Rollout) -> np.ndarray:
        return rollout.returns(self.config.gamma, lam=1.0)

    def update(self, rollout: Rollout, total_timesteps: int) -> dict[str, Any]:
        """One step of RMSProp on the whole rollout, at the rate that the schedule has come to."""
        lr = self.config.lr_at(self.timesteps, total_timesteps)
        returns = self.returns(rollout)  # [T, N]
        advantages = rollout.advantages(self.config.gamma, self.config.lam)  # [T, N]

        batch = make_batch(rollout, returns, advantages)
        self.optimizer.set_learning_rate(lr)
        return self.optimizer.minimize(*batch) | {"lr": lr}

    def objective(
        self, observations: tf.Tensor, actions: tf.Tensor, returns: tf.Tensor, advantages: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The losses of policy and critic on a `Batch`, weighted, and each of them for the log; scalars."""
        parameters, values = self.network(observations)  # [B, P], [B]
        pi = self.policy.distribution(parameters)
        policy_loss, metrics = actor_loss(pi, actions, advantages, self.config.ent_coef)
        critic_loss = value_loss(values, returns)
        return policy_loss + self.config.vf_coef * critic_loss, metrics | {"value_loss": critic_loss}

    def status(self) -> dict[str, float]:
        return {"skipped_updates": self.optimizer.skipped_updates}


class ContinuousModel(Agent):
    """A policy with its optimizer, and a critic trained by Adam; arguments and errors as for `Agent`."""

    algorithm = "a2c"
    config_class = A2cContConfig
    for_vectors: ClassVar[dict[str, Any]] = {"first_rate": 0.1}
    image_network = "pixels"
    whole_episodes = True
    longest_sequence = LONGEST_SEQUENCE
    config: A2cContConfig
    value_function: Euclidean

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.spaces.Box,
        network: str | Builder,
        config: A2cContConfig,
        seed: int = 0,
        env_id: str | None = None,
        comm: Communicator = ALONE,
    ) -> None:
        super().__init__(observation_space, action_space, network, config, seed, env_id, comm)
        keras.utils.set_random_seed(seed)
        own_seed = rank_seed(seed, comm.rank)
        self.policy = make_gaussian_policy(observation_space, action_space, self.network_name, config, own_seed)
        critic = make_critic(observation_space, self.network_name, config, self.policy)
        self.value_function = Euclidean(critic, config, seed + 1, comm)
        if self.network_name in RECURRENT:
            self.remembering = RecurrentPair(self.policy, self.value_function)
        self.optimizer = make_rmsprop(self.policy.network, config, self.objective, comm)
        self.parts = {
            "policy": Weights(self.policy.network),
            "vf": self.value_function,
            "actor": self.policy,
            "rmsprop": self.optimizer,
        }

    def returns(self, rollout: Rollout) -> np.ndarray:
        return rollout.returns(self.config.gamma, self.config.vf_lam)

    def update(self, rollout: Rollout, total_timesteps: int) -> dict[str, Any]:
        """Starts to fit the critic, and takes one step of RMSProp with the policy, both on the whole rollout."""
        lr = self.config.lr_at(self.timesteps, total_timesteps)
        returns = self.returns(rollout)  # [T, N]
        advantages = rollout.advantages(self.config.gamma, self.config.lam)  # [T, N]

        batch = make_batch(rollout, returns, advantages, self.row_order(rollout.shuffled))
        observations = self.policy.filtered(batch.observations)
        self.value_function.fit(observations, batch.returns)

        self.optimizer.set_learning_rate(lr)
        metrics = self.optimizer.minimize(observations, batch.actions, standardised(batch.advantages, self.comm))
        self.policy.refresh(rollout.observations, self.comm)
        del metrics["loss"]
        return metrics | {"lr": lr}

    def objective(
        self, observations: tf.Tensor, actions: tf.Tensor, advantages: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The policy's loss with its penalty on the weights, and its parts for the log; scalars."""
        pi = self.policy.distribution(self.policy.network(observations))
        loss, metrics = actor_loss(pi, actions, advantages, self.config.ent_coef)
        return loss + l2_penalty(self.policy.network, self.config.weight_decay), metrics

    def status(self) -> dict[str, float]:
        return {"skipped_updates": self.optimizer.skipped_updates} | self.value_function.status()


def learn(network: str | Builder | None = None, env: GivenEnv | None = None, **arguments: Any) -> Agent:
    """Trains a model with A2C.

    Arguments and errors are those of `session.learn.learn`, hyperparameters those of
    A2cContConfig where actions are a Box, else of A2cDiscreteConfig.
    """
    models: dict[str, type[Agent]] = {DISCRETE: DiscreteModel, CONTINUOUS: ContinuousModel}
    return train(models, network, env=env, **arguments)
