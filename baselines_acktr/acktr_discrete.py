"""ACKTR for discrete actions (Wu et al. 2017): one shared network, one K-FAC optimizer, one joint Fisher."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr import training
from baselines_acktr.agents import Agent, parameters, set_parameters, with_prefix, without_prefix
from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.kfac import Objective, gaussian_log_likelihood
from baselines_acktr.losses import policy_gradient_loss, value_loss
from baselines_acktr.networks import default_network
from baselines_acktr.optimizers import make_kfac
from baselines_acktr.policies import ActorCritic
from baselines_acktr.returns import explained_variance, n_step_returns
from baselines_acktr.rollouts import Rollout, Runner
from common.distributions import make_distribution
from common.schedules import scheduled


class Model(Agent):
    """Policy, value function and their K-FAC optimizer; arguments and errors as for `Agent`."""

    algorithm = "acktr"
    config_class = AcktrDiscreteConfig
    default_network = staticmethod(default_network)

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str,
        config: AcktrDiscreteConfig,
        seed: int = 0,
        env_id: str | None = None,
    ) -> None:
        super().__init__(observation_space, action_space, network, config, seed, env_id)
        keras.utils.set_random_seed(seed)
        self.network = ActorCritic(observation_space, action_space, network, config)
        self.optimizer = make_kfac(self.network, config, seed)
        self.sampler = tf.random.Generator.from_seed(seed + 1)

    # -- acting -------------------------------------------------------------------------------------------------------

    def step(
        self, observations: np.ndarray, deterministic: bool = False
    ) -> tuple[np.ndarray, np.ndarray, None, np.ndarray]:
        actions, values, neglogps = self._act(observations, deterministic)
        return actions.numpy(), values.numpy(), None, neglogps.numpy()

    def act(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        actions, values, _, _ = self.step(observations)
        return actions, values

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
        return Runner(env, self, self.config.nsteps)

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, Any]:
        """One K-FAC update.

        With `report` the result also has `kl`, the exact mean KL(old || new) of the policy on the rollout's first step,
        and `quadratic_kl`, that of policy and value together by the quadratic model; nats.
        """
        config = self.config
        lr = scheduled(config.lrschedule, config.lr, self.timesteps, config.schedule_timesteps or total_timesteps)
        self.optimizer.learning_rate.assign(lr)
        before = self._parameters(rollout.observations[0]) if report else None
        returns = n_step_returns(
            rollout.rewards, rollout.values, rollout.next_values, rollout.ended, self.config.gamma
        )
        metrics = self.optimizer.minimize(self._objective, *self._batch(rollout, returns)) | {"lr": lr}
        if report:
            metrics["kl"] = self._mean_kl(before, self._parameters(rollout.observations[0]))
            metrics["quadratic_kl"] = self.optimizer.last_step_model_kl()
            metrics["explained_variance"] = explained_variance(rollout.values, returns)
        return metrics

    def counters(self) -> dict[str, int]:
        return self.optimizer.counters

    def _batch(self, rollout: Rollout, returns: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows [B, ...] of observations, actions, returns and advantages, shuffled: the Fisher takes the first ones."""
        order = np.random.default_rng([self.seed, self.updates]).permutation(returns.size)
        arrays = rollout.observations, rollout.actions, returns, returns - rollout.values
        return tuple(np.take(array.reshape(returns.size, *array.shape[2:]), order, axis=0) for array in arrays)

    def _objective(self, observations, actions, returns, advantages) -> Objective:
        """The A2C loss, and the log-likelihood of actions and values sampled from the model (section 3.1)."""
        parts = self._forward_in_parts(observations)
        parameters, values = (tf.concat(tensors, axis=0) for tensors in zip(*parts, strict=True))
        pi = make_distribution(self.action_space, parameters)
        policy_loss = policy_gradient_loss(pi.log_prob(actions), advantages)
        critic_loss = value_loss(values, returns)
        entropy = tf.reduce_mean(pi.entropy())
        loss = policy_loss - self.config.ent_coef * entropy + self.config.vf_coef * critic_loss
        metrics = {"policy_loss": policy_loss, "value_loss": critic_loss, "policy_entropy": entropy}
        return Objective(loss, self._sampled_log_likelihood(*parts[0]), metrics)

    def _forward_in_parts(self, observations: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """The network's outputs on the Fisher's rows, and on the rest: one forward pass over the batch in all."""
        rows = self.config.fisher_rows
        if not 0 < rows < observations.shape[0]:
            return [self.network(observations)]
        return [self.network(observations[:rows]), self.network(observations[rows:])]

    def _sampled_log_likelihood(self, parameters: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """log p(a, v|s) = log pi(a|s) + log p(v|s) of independently sampled a and v, summed over rows."""
        generator = self.optimizer.generator
        pi = make_distribution(self.action_space, parameters)
        policy_part = tf.reduce_sum(pi.log_prob(pi.sample(generator)))
        sigma = self.config.vf_fisher_coef**-0.5
        return policy_part + gaussian_log_likelihood(values, generator, sigma)

    @tf.function(reduce_retracing=True)
    def _parameters(self, observations: tf.Tensor) -> tf.Tensor:
        return self.network(observations)[0]

    @tf.function(reduce_retracing=True)
    def _mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        old_pi, new_pi = (make_distribution(self.action_space, parameters) for parameters in (old, new))
        return tf.reduce_mean(old_pi.kl(new_pi))

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        arrays = with_prefix("parameters", parameters(self.network))
        return arrays | with_prefix("kfac", self.optimizer.state()) | {"sampler": self.sampler.state.numpy().copy()}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        set_parameters(self.network, without_prefix("parameters", arrays))
        self.optimizer.set_state(without_prefix("kfac", arrays))
        self.sampler.state.assign(arrays["sampler"])

    def close(self) -> None:
        self.optimizer.close()


def learn(network: str | None = None, **arguments: Any) -> Model:
    """Trains a model with ACKTR; arguments and errors as for `training.learn`, hyperparameters of AcktrDiscreteConfig."""
    return training.learn(Model, network, **arguments)
