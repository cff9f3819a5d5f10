"""Agents with a network each for policy and value function."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.actors import Actor, CategoricalActor, filtered_space
from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.critics import Euclidean, ValueFunction
from baselines_acktr.agent.gaussian_actor import GaussianActor
from baselines_acktr.agent.heads import CategoricalNetwork, Critic, GaussianNetwork
from baselines_acktr.agent.networks import Builder, default_network, find_network, mlp
from baselines_acktr.config import DisjointConfig
from baselines_acktr.learning.losses import l2_penalty, policy_gradient_loss
from baselines_acktr.learning.returns import explained_variance, generalized_advantages
from baselines_acktr.learning.rollouts import EPISODES, Rollout, Runner
from common.distributions import ActionDistribution, make_distribution
from common.keras_state import parameters, set_parameters
from common.mpi import ALONE, Communicator
from common.named_arrays import with_prefix, without_prefix
from common.random_state import rank_seed
from common.running_mean_std import moments


class DisjointAgent(Agent):
    """Acts, fits its critic and estimates advantages; how the policy improves is the learner's `_update_policy`.

    Attributes:
      policy: maps observations [B, ...], filtered, to distribution parameters [B, P].
      image_network: name of the network for images.

    Arguments and errors as for `Agent`.
    """

    OWN = frozenset({"actor/rng", "actor/sampler"})
    image_network: ClassVar[str] = "pixels"
    for_images: ClassVar[dict[str, Any]] = {"timesteps_per_batch": 8000, "vf_iters": 16, "vf_rows": 500}

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str | Builder,
        config: DisjointConfig,
        seed: int = 0,
        env_id: str | None = None,
        comm: Communicator = ALONE,
    ) -> None:
        super().__init__(observation_space, action_space, network, config, seed, env_id, comm)
        keras.utils.set_random_seed(seed)
        self.policy, self.actor = _make_policy(observation_space, action_space, self.network_name, config, seed, comm)
        vf_config = dataclasses.replace(config, activation=config.vf_activation)
        critic = Critic(filtered_space(observation_space), self.network_name, vf_config)
        self.value_function = self._make_value_function(critic)

    @classmethod
    def default_network(cls, observation_space: gym.Space) -> str:
        name = default_network(observation_space)
        return cls.image_network if name == "cnn" else name

    def _make_value_function(self, critic: Critic) -> ValueFunction:
        return Euclidean(critic, self.config, self.seed + 1, self.comm)

    # -- acting -------------------------------------------------------------------------------------------------------

    def step(
        self, observations: np.ndarray, deterministic: bool = False
    ) -> tuple[np.ndarray, np.ndarray, None, np.ndarray]:
        actions, neglogps = self.actor.act(observations, deterministic)
        return self.actor.to_env(actions), self.value(observations), None, neglogps

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, None]:
        return self.actor.sample(observations), None

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        return self.actor.to_env(actions)

    def value(self, observations: np.ndarray) -> np.ndarray:
        return self.value_function.predict(self.actor.filtered(observations))

    # -- learning -----------------------------------------------------------------------------------------------------

    def make_runner(self, env: gym.vector.VectorEnv) -> Runner:
        num_env = env.num_envs * self.comm.size
        nsteps = self.config.nsteps(num_env)
        return Runner(env, self, nsteps, whole_episodes=num_env == 1, episodes=self.comm.share(EPISODES))

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, Any]:
        """Starts to fit the critic, and improves the policy, both on the rows in random order.

        With `report` the result also has `kl`, the exact mean KL(old || new) of the policy, nats, and
        `explained_variance`, that of the returns by the values before.
        """
        advantages = self._advantages(rollout, self.config.lam)
        returns = rollout.values + self._advantages(rollout, self.config.vf_lam)
        order = self.row_order(returns.size)
        columns = rollout.observations, rollout.actions, advantages, returns
        rows = [np.take(column.reshape(order.size, *column.shape[2:]), order, axis=0) for column in columns]
        observations = self.actor.filtered(rows[0])
        self.value_function.fit(observations, rows[3])
        metrics = self._improve(observations, *rows[1:3], measure=report)
        if report:
            metrics["explained_variance"] = explained_variance(rollout.values, returns, self.comm)
        self.actor.refresh(rollout.observations, self.comm)
        return metrics

    def _advantages(self, rollout: Rollout, lam: float) -> np.ndarray:
        values = rollout.values, rollout.next_values
        return generalized_advantages(rollout.rewards, *values, rollout.ended, self.config.gamma, lam)

    def _improve(
        self, observations: np.ndarray, actions: np.ndarray, advantages: np.ndarray, *, measure: bool
    ) -> dict[str, Any]:
        """Updates the policy on the rows of a batch and, with `measure`, sees how far it moved."""
        rows = tf.constant(observations)
        before = self._parameters(rows) if measure else None
        metrics = self._update_policy(rows, actions, self._standardised(advantages))
        if before is not None:
            metrics["kl"] = float(self.comm.mean(self._kl_since(before, rows).numpy()))
        return metrics

    def _standardised(self, advantages: np.ndarray) -> np.ndarray:
        """The batch's advantages [B] with mean 0 and deviation 1."""
        mean, variance = moments(advantages, self.comm)
        return ((advantages - mean) / (np.sqrt(variance) + 1e-8)).astype(advantages.dtype)

    @abc.abstractmethod
    def _update_policy(self, observations: tf.Tensor, actions: np.ndarray, advantages: np.ndarray) -> dict[str, Any]:
        """Improves the policy; returns scalars for the log.

        Args:
          observations: filtered, [B, ...].
          actions: as the learner keeps them, [B, ...].
          advantages: standardised, [B].
        """

    def _loss(
        self, parameters: tf.Tensor, actions: tf.Tensor, advantages: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The policy-gradient loss of the policy's outputs with its penalties, and its parts for the log; scalars."""
        pi = self._pi(parameters)
        policy_loss, entropy = policy_gradient_loss(pi.log_prob(actions), advantages), tf.reduce_mean(pi.entropy())
        loss = policy_loss - self.config.ent_coef * entropy + l2_penalty(self.policy, self.config.weight_decay)
        return loss, {"policy_loss": policy_loss, "policy_entropy": entropy}

    def _pi(self, parameters: tf.Tensor) -> ActionDistribution:
        return make_distribution(self.action_space, parameters)

    @tf.function(reduce_retracing=True)
    def _parameters(self, observations: tf.Tensor) -> tf.Tensor:
        return self.policy(observations)

    @tf.function(reduce_retracing=True)
    def _kl_since(self, old: tf.Tensor, observations: tf.Tensor) -> tf.Tensor:
        """Mean KL of the policy whose outputs were `old` to the present one, nats; scalar."""
        return self._mean_kl(old, self.policy(observations))

    def _mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        """Mean KL(old || new) of the policy's outputs [B, P], nats; scalar."""
        return tf.reduce_mean(self._pi(old).kl(self._pi(new)))

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        arrays = with_prefix("policy", parameters(self.policy))
        return arrays | with_prefix("actor", self.actor.state()) | with_prefix("vf", self.value_function.state())

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        set_parameters(self.policy, without_prefix("policy", arrays))
        self.value_function.set_state(without_prefix("vf", arrays))
        self.actor.set_state(without_prefix("actor", arrays))

    def close(self) -> None:
        self.value_function.close()


def _make_policy(
    observation_space: gym.Space,
    action_space: gym.Space,
    network: str,
    config: DisjointConfig,
    seed: int,
    comm: Communicator,
) -> tuple[keras.Model, Actor]:
    """A new policy for the action space, and what acts with it."""
    own_seed, seen = rank_seed(seed, comm.rank), filtered_space(observation_space)
    if isinstance(action_space, gym.spaces.Box):
        gaussian = GaussianNetwork(seen, action_space, network, config)
        in_numpy = find_network(network) is mlp and seen.dtype != np.uint8  # bytes are scaled in the network
        return gaussian, GaussianActor(gaussian, observation_space, action_space, own_seed, in_numpy)
    categorical = CategoricalNetwork(seen, action_space, network, config)
    return categorical, CategoricalActor(categorical, observation_space, action_space, own_seed)
