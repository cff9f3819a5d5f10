"""Agents for discrete actions whose policy and value function are learned by one loss, in one network."""

from __future__ import annotations

import abc
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.heads import ActorCritic
from baselines_acktr.agent.networks import Builder, default_network
from baselines_acktr.config import SharedConfig
from baselines_acktr.learning.losses import policy_gradient_loss, value_loss
from baselines_acktr.learning.returns import explained_variance, generalized_advantages, lambda_returns
from baselines_acktr.learning.rollouts import EPISODES, Rollout, Runner
from common.distributions import env_actions, make_distribution
from common.errors import UserError
from common.keras_state import parameters, set_parameters
from common.mpi import ALONE, Communicator
from common.named_arrays import with_prefix, without_prefix
from common.random_state import rank_seed


class SharedAgent(Agent):
    """Acts, and learns from k-step returns by the A2C loss (Mnih et al. 2016); how is the learner's `_improve`.

    Attributes:
      network: maps observations [B, ...] to distribution parameters [B, P] and values [B].

    Arguments and errors as for `Agent`.
    """

    OWN = frozenset({"sampler"})
    default_network = staticmethod(default_network)

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str | Builder,
        config: SharedConfig,
        seed: int = 0,
        env_id: str | None = None,
        comm: Communicator = ALONE,
    ) -> None:
        super().__init__(observation_space, action_space, network, config, seed, env_id, comm)
        if isinstance(action_space, gym.spaces.Box):
            raise UserError(f"action space {action_space}: must be Discrete or MultiDiscrete")
        keras.utils.set_random_seed(seed)
        self.network = self._make_network()
        self.sampler = tf.random.Generator.from_seed(rank_seed(seed + 1, comm.rank))

    def _make_network(self) -> keras.Model:
        return ActorCritic(self.observation_space, self.action_space, self.network_name, self.config)

    # -- acting -------------------------------------------------------------------------------------------------------

    def step(
        self, observations: np.ndarray, deterministic: bool = False
    ) -> tuple[np.ndarray, np.ndarray, None, np.ndarray]:
        actions, values, neglogps = self._act(observations, deterministic)
        return self.to_env(actions.numpy()), values.numpy(), None, neglogps.numpy()

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        actions, values, _ = self._act(observations, False)
        return actions.numpy(), values.numpy()

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        return env_actions(self.action_space, actions)

    def value(self, observations: np.ndarray) -> np.ndarray:
        return self._value(observations).numpy()

    @tf.function(reduce_retracing=True)
    def _act(self, observations: tf.Tensor, deterministic: bool):
        logits, values = self.network(observations)
        pi = make_distribution(self.action_space, logits)
        actions = pi.mode() if deterministic else pi.sample(self.sampler)
        return actions, values, -pi.log_prob(actions)

    @tf.function(reduce_retracing=True)
    def _value(self, observations: tf.Tensor) -> tf.Tensor:
        return self.network(observations)[1]

    # -- learning -----------------------------------------------------------------------------------------------------

    def make_runner(self, env: gym.vector.VectorEnv) -> Runner:
        return Runner(env, self, self.config.nsteps, episodes=self.comm.share(EPISODES))

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, Any]:
        """One update on the whole rollout, at the rate that the schedule has come to.

        With `report` the result also has `kl`, the exact mean KL(old || new) of the policy on the rollout's first step,
        nats.
        """
        lr = self.config.lr_at(self.timesteps, total_timesteps)
        before = self._parameters(rollout.observations[0]) if report else None
        returns = lambda_returns(rollout.rewards, rollout.values, rollout.next_values, rollout.ended, self.config.gamma)
        metrics = self._improve(lr, *self._batch(rollout, returns)) | {"lr": lr}
        if report:
            kl = self._mean_kl(before, self._parameters(rollout.observations[0]))
            metrics["kl"] = self.comm.mean(kl.numpy())
            metrics["explained_variance"] = explained_variance(rollout.values, returns, self.comm)
        return metrics

    @abc.abstractmethod
    def _improve(self, lr: float, *batch: np.ndarray) -> dict[str, Any]:
        """One update on a batch of `_batch`; returns scalars for the log."""

    def _batch(self, rollout: Rollout, returns: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows [B, ...] of observations, actions, returns and advantages."""
        values = rollout.values, rollout.next_values
        advantages = generalized_advantages(rollout.rewards, *values, rollout.ended, self.config.gamma, self.config.lam)
        arrays = rollout.observations, rollout.actions, returns, advantages
        return tuple(array.reshape(returns.size, *array.shape[2:]) for array in arrays)

    def _losses(
        self, parameters: tf.Tensor, values: tf.Tensor, actions: tf.Tensor, returns: tf.Tensor, advantages: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """The loss of the `policy`, with its entropy bonus, that of the `value`, and numbers for the log; scalars."""
        pi = make_distribution(self.action_space, parameters)
        policy_loss = policy_gradient_loss(pi.log_prob(actions), advantages)
        critic_loss = value_loss(values, returns)
        entropy = tf.reduce_mean(pi.entropy())
        losses = {"policy": policy_loss - self.config.ent_coef * entropy, "value": critic_loss}
        return losses, {"policy_loss": policy_loss, "value_loss": critic_loss, "policy_entropy": entropy}

    @tf.function(reduce_retracing=True)
    def _parameters(self, observations: tf.Tensor) -> tf.Tensor:
        return self.network(observations)[0]

    @tf.function(reduce_retracing=True)
    def _mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        old_pi, new_pi = (make_distribution(self.action_space, parameters) for parameters in (old, new))
        return tf.reduce_mean(old_pi.kl(new_pi))

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        return with_prefix("parameters", parameters(self.network)) | {"sampler": self.sampler.state.numpy().copy()}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        set_parameters(self.network, without_prefix("parameters", arrays))
        self.sampler.state.assign(arrays["sampler"])
