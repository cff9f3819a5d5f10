"""A2C (Mnih et al. 2016; Wu et al. 2017, section 5): advantage actor-critic, trained by RMSProp."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.disjoint_agent import DisjointAgent
from baselines_acktr.agent.policies import ActorAndCritic, ActorCritic
from baselines_acktr.agent.shared_agent import SharedAgent
from baselines_acktr.config import A2cContConfig, A2cDiscreteConfig
from baselines_acktr.learning.optimizers import make_rmsprop
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session import loop
from common.named_arrays import with_prefix, without_prefix


class DiscreteModel(SharedAgent):
    """Policy and value function, and their optimizer; arguments and errors as for `Agent`."""

    algorithm = "a2c"
    config_class = A2cDiscreteConfig
    for_vectors: ClassVar[dict[str, Any]] = {"value_network": "copy", "nsteps": 16, "lr": 0.0015, "first_rate": 0.1}

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.optimizer = make_rmsprop(self.network, self.config, self._objective, self.comm)

    def _make_network(self) -> keras.Model:
        made_alike = self.config.value_network == "copy"
        network = ActorAndCritic if made_alike else ActorCritic
        return network(self.observation_space, self.action_space, self.network_name, self.config)

    def status(self) -> dict[str, float]:
        return {"skipped_updates": self.optimizer.skipped_updates}

    def _improve(self, lr: float, *batch: np.ndarray) -> dict[str, Any]:
        self.optimizer.set_learning_rate(lr)
        return self.optimizer.minimize(*batch)

    def _objective(self, observations, actions, returns, advantages) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        logits, values = self.network(observations)
        losses, metrics = self._losses(logits, values, actions, returns, advantages)
        return losses["policy"] + self.config.vf_coef * losses["value"], metrics

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | with_prefix("rmsprop", self.optimizer.state())

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        self.optimizer.set_state(without_prefix("rmsprop", arrays))


class ContinuousModel(DisjointAgent):
    """Policy with its optimizer, and a critic trained by Adam; arguments and errors as for `Agent`."""

    algorithm = "a2c"
    config_class = A2cContConfig
    for_images: ClassVar[dict[str, Any]] = {}
    for_vectors: ClassVar[dict[str, Any]] = {"first_rate": 0.1}

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.optimizer = make_rmsprop(self.policy, self.config, self._objective, self.comm)

    def status(self) -> dict[str, float]:
        return {"skipped_updates": self.optimizer.skipped_updates} | self.value_function.status()

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, Any]:
        lr = self.config.lr_at(self.timesteps, total_timesteps)
        self.optimizer.set_learning_rate(lr)
        return super().update(rollout, total_timesteps, report) | {"lr": lr}

    def _update_policy(self, observations: tf.Tensor, actions: np.ndarray, advantages: np.ndarray) -> dict[str, Any]:
        metrics = self.optimizer.minimize(observations, actions, advantages)
        return {name: value for name, value in metrics.items() if name != "loss"}

    def _objective(self, observations, actions, advantages) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        return self._loss(self.policy(observations), actions, advantages)

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | with_prefix("rmsprop", self.optimizer.state())

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        self.optimizer.set_state(without_prefix("rmsprop", arrays))


def learn(network: str | None = None, *, env: gym.vector.VectorEnv, **arguments: Any) -> Agent:
    """Trains a model with A2C.

    Arguments and errors as for `loop.learn`; hyperparameters of A2cContConfig where actions are a Box, else of
    A2cDiscreteConfig.
    """
    continuous = isinstance(env.single_action_space, gym.spaces.Box)
    return loop.learn(ContinuousModel if continuous else DiscreteModel, network, env=env, **arguments)
