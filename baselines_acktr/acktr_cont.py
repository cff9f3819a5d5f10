"""ACKTR for continuous actions (Wu et al. 2017): a policy and a critic, each with a K-FAC optimizer of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr import training
from baselines_acktr.agents import Agent, parameters, set_parameters, with_prefix, without_prefix
from baselines_acktr.config import AcktrContConfig
from baselines_acktr.gaussian_actor import GaussianActor
from baselines_acktr.kfac import Objective
from baselines_acktr.losses import l2_penalty, policy_gradient_loss
from baselines_acktr.networks import default_network
from baselines_acktr.optimizers import make_kfac
from baselines_acktr.policies import Critic, GaussianPolicy
from baselines_acktr.returns import explained_variance, generalized_advantages
from baselines_acktr.rollouts import Rollout, Runner
from baselines_acktr.value_functions import make_value_function
from common.distributions import DiagonalGaussian

MIN_LR, MAX_LR = 1e-8, 1.0  # bounds of the adapted step size, as in OpenAI Baselines
PIXELS = {"timesteps_per_batch": 8000, "fisher_rows": 256, "vf_iters": 16, "vf_rows": 500}


class Model(Agent):
    """Policy, value function and their optimizers; arguments and errors as for `Agent`."""

    algorithm = "acktr"
    config_class = AcktrContConfig

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str,
        config: AcktrContConfig,
        seed: int = 0,
        env_id: str | None = None,
    ) -> None:
        super().__init__(observation_space, action_space, network, config, seed, env_id)
        keras.utils.set_random_seed(seed)
        self.policy = GaussianPolicy(observation_space, action_space, network, config)
        critic_config = dataclasses.replace(config, activation=config.vf_activation)
        critic = Critic(observation_space, network, critic_config)
        self.actor = GaussianActor(self.policy, observation_space, action_space, seed)
        self.optimizer = make_kfac(self.policy, config, seed)
        self.value_function = make_value_function(critic, config, seed + 1)

    @staticmethod
    def default_network(observation_space: gym.Space) -> str:
        return "pixels" if default_network(observation_space) == "cnn" else "mlp"

    @staticmethod
    def preset(observation_space: gym.Space) -> dict[str, Any]:
        return PIXELS if default_network(observation_space) == "cnn" else {}

    # -- acting -------------------------------------------------------------------------------------------------------

    def step(
        self, observations: np.ndarray, deterministic: bool = False
    ) -> tuple[np.ndarray, np.ndarray, None, np.ndarray]:
        actions, neglogps = self.actor.act(observations, deterministic)
        return self.actor.to_env(actions), self.value(observations), None, neglogps

    def act(self, observations: np.ndarray) -> tuple[np.ndarray, None]:
        return self.actor.sample(observations), None

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        return self.actor.to_env(actions)

    def value(self, observations: np.ndarray) -> np.ndarray:
        return self.value_function.predict(self.actor.filtered(observations))

    # -- learning -----------------------------------------------------------------------------------------------------

    def make_runner(self, env: gym.vector.VectorEnv) -> Runner:
        return Runner(env, self, self.config.nsteps(env.num_envs), whole_episodes=env.num_envs == 1)

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, Any]:
        """Fits the critic, then takes one step of the policy and adapts the next one's length to its KL."""
        config = self.config
        observations = self.actor.filtered(rollout.observations.reshape(-1, *self.observation_space.shape))
        advantages, returns = self._advantages(rollout, config.lam), self._advantages(rollout, config.vf_lam)
        returns += rollout.values
        metrics = self.value_function.fit(observations, returns.ravel())
        metrics |= self._improve(observations, rollout.actions, advantages)
        metrics["explained_variance"] = explained_variance(rollout.values, returns)
        self.actor.refresh(rollout.observations)
        return metrics

    def counters(self) -> dict[str, int]:
        return self.optimizer.counters

    def _advantages(self, rollout: Rollout, lam: float) -> np.ndarray:
        values = rollout.values, rollout.next_values
        return generalized_advantages(rollout.rewards, *values, rollout.ended, self.config.gamma, lam)

    def _improve(self, observations: np.ndarray, actions: np.ndarray, advantages: np.ndarray) -> dict[str, Any]:
        """One K-FAC step of the policy; `kl` in the result is the exact mean KL(old || new), nats."""
        standardised = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        rows = tf.constant(observations)
        before = self._parameters(rows)
        batch = rows, actions.reshape(standardised.size, -1), standardised.ravel()
        lr = float(self.optimizer.learning_rate)
        metrics = self.optimizer.minimize(self._objective, *batch)
        metrics |= {"lr": lr, "kl": float(self._mean_kl(before, self._parameters(rows)))}
        self.optimizer.learning_rate.assign(self._adapted(lr, metrics["kl"]))
        return metrics

    def _adapted(self, lr: float, kl: float) -> float:
        """The next step size: shorter after a KL above twice the desired one, longer after one below half of it."""
        if self.config.desired_kl == 0:
            return lr
        if kl > 2 * self.config.desired_kl:
            return max(lr / 1.5, MIN_LR)
        return min(lr * 1.5, MAX_LR) if kl < self.config.desired_kl / 2 else lr

    def _objective(self, observations: tf.Tensor, actions: tf.Tensor, advantages: tf.Tensor) -> Objective:
        """The policy-gradient loss, and the log-likelihood of actions sampled from the model."""
        pi = DiagonalGaussian(self.policy(observations))
        policy_loss, entropy = policy_gradient_loss(pi.log_prob(actions), advantages), tf.reduce_mean(pi.entropy())
        loss = policy_loss - self.config.ent_coef * entropy + l2_penalty(self.policy, self.config.weight_decay)
        rows = self.config.fisher_rows
        sampling = DiagonalGaussian(self.policy(observations[:rows])) if rows else pi
        log_likelihood = tf.reduce_sum(sampling.log_prob(sampling.sample(self.optimizer.generator)))
        return Objective(loss, log_likelihood, {"policy_loss": policy_loss, "policy_entropy": entropy})

    @tf.function(reduce_retracing=True)
    def _parameters(self, observations: tf.Tensor) -> tf.Tensor:
        return self.policy(observations)

    @tf.function(reduce_retracing=True)
    def _mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(DiagonalGaussian(old).kl(DiagonalGaussian(new)))

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        arrays = with_prefix("policy", parameters(self.policy)) | with_prefix("kfac", self.optimizer.state())
        arrays |= with_prefix("actor", self.actor.state()) | with_prefix("vf", self.value_function.state())
        return arrays | {"lr": self.optimizer.learning_rate.numpy().copy()}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        set_parameters(self.policy, without_prefix("policy", arrays))
        self.optimizer.set_state(without_prefix("kfac", arrays))
        self.value_function.set_state(without_prefix("vf", arrays))
        self.actor.set_state(without_prefix("actor", arrays))
        self.optimizer.learning_rate.assign(arrays["lr"])

    def close(self) -> None:
        self.optimizer.close()
        self.value_function.close()


def learn(network: str | None = None, **arguments: Any) -> Model:
    """Trains a model with ACKTR; arguments and errors as for `training.learn`, hyperparameters of AcktrContConfig."""
    return training.learn(Model, network, **arguments)
