"""ACKTR for continuous actions (Wu et al. 2017): a policy and a critic, each with a K-FAC optimizer of its own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.critics import ValueFunction, make_value_function
from baselines_acktr.agent.disjoint_agent import DisjointAgent
from baselines_acktr.agent.heads import Critic
from baselines_acktr.config import AcktrContConfig
from baselines_acktr.kfac import Divergence, Objective
from baselines_acktr.learning.batches import fisher_part
from baselines_acktr.learning.optimizers import make_kfac
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session import loop
from common.errors import UserError
from common.named_arrays import with_prefix, without_prefix
from common.running_mean_std import RunningMeanStd
from common.schedules import scheduled

MEMORY = 50_000  # timesteps that the deviation of the advantages reaches back
MIN_LR, MAX_LR = 1e-8, 1.0  # bounds of the adapted step size, as in OpenAI Baselines


class Model(DisjointAgent):
    """Policy, value function and their optimizers; arguments and errors as for `Agent`."""

    algorithm = "acktr"
    config_class = AcktrContConfig
    for_images = DisjointAgent.for_images | {"fisher_rows": 64, "vf_fisher_rows": 1000, "delta": 0.06, "lr": 3.0}

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, *arguments: Any, **options: Any) -> None:
        if not isinstance(action_space, gym.spaces.Box):
            raise UserError(f"action space {action_space}: must be a Box; acktr_discrete has the others")
        super().__init__(observation_space, action_space, *arguments, **options)
        self.optimizer = make_kfac(self.policy, self.config, self.seed, self.comm)
        self.divergence = Divergence(self._fisher_outputs, self._mean_kl)
        self._advantage_moments = RunningMeanStd((), memory=MEMORY)
        self._trust = 1.0  # what the schedule leaves of desired_kl and delta

    def _make_value_function(self, critic: Critic) -> ValueFunction:
        return make_value_function(critic, self.config, self.seed + 1, self.comm)

    def status(self) -> dict[str, float]:
        return self.optimizer.counters | self.value_function.status()

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, Any]:
        self._trust = scheduled(self.config.klschedule, 1.0, self.timesteps, total_timesteps)
        self.optimizer.delta = self.config.delta * self._trust
        return super().update(rollout, total_timesteps, report)

    def _improve(
        self, observations: np.ndarray, actions: np.ndarray, advantages: np.ndarray, *, measure: bool
    ) -> dict[str, Any]:
        """One K-FAC step of the policy; with `desired_kl` the next one's length is adapted to this one's KL.

        With `measure` the result also has `quadratic_kl`, the step's KL by the quadratic model, nats.
        """
        lr, adapts = float(self.optimizer.learning_rate), self.config.desired_kl > 0
        metrics = super()._improve(observations, actions, advantages, measure=measure or adapts)
        if measure:
            exact = self.config.trust_region == "exact"
            metrics["quadratic_kl"] = metrics["model_kl"] if exact else self.optimizer.last_step_model_kl()
        if adapts:
            self.optimizer.learning_rate = self._adapted(lr, metrics["kl"])
        return metrics | {"lr": lr}

    def _adapted(self, lr: float, kl: float) -> float:
        """The next step size: shorter after a KL above twice the desired one, longer after one below half of it."""
        desired = self.config.desired_kl * self._trust
        if kl > 2 * desired:
            return max(lr / 1.5, MIN_LR)
        return max(lr, min(lr * 1.5, MAX_LR)) if kl < desired / 2 else lr

    def _update_policy(self, observations: tf.Tensor, actions: np.ndarray, advantages: np.ndarray) -> dict[str, Any]:
        exact = self.config.trust_region == "exact"
        divergence = self.divergence if exact else None
        return self.optimizer.minimize(self._objective, observations, actions, advantages, divergence=divergence)

    def _standardised(self, advantages: np.ndarray) -> np.ndarray:
        """The advantages [B] with mean 0, in units of their running deviation.

        In units of their own one, a batch in which nothing went wrong, whose advantages are noise, would move the
        policy as far as one that shows what to do.
        """
        mean, _ = self._advantage_moments.update(advantages, self.comm)
        return ((advantages - mean) / self._advantage_moments.std).astype(advantages.dtype)

    def _fisher_outputs(self, observations: tf.Tensor, *others: Any) -> tf.Tensor:
        """The policy's outputs [F, P] on the rows that the Fisher is estimated from."""
        return self.policy(fisher_part(observations, self.comm.share(self.config.fisher_rows)))

    def _objective(self, observations: tf.Tensor, actions: tf.Tensor, advantages: tf.Tensor) -> Objective:
        """The policy-gradient loss, and the log-likelihood of actions sampled from the model."""
        parameters = self.policy(observations)
        loss, metrics = self._loss(parameters, actions, advantages)
        part = fisher_part(observations, self.comm.share(self.config.fisher_rows))
        pi = self._pi(parameters if part is observations else self.policy(part))
        return Objective(loss, tf.reduce_sum(pi.log_prob(pi.sample(self.optimizer.generator))), metrics)

    def state(self) -> dict[str, np.ndarray]:
        own = {"lr": self.optimizer.learning_rate.numpy().copy()}
        own |= with_prefix("advantages", self._advantage_moments.state())
        return super().state() | with_prefix("kfac", self.optimizer.state()) | own

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        self.optimizer.set_state(without_prefix("kfac", arrays))
        self._advantage_moments.set_state(without_prefix("advantages", arrays))
        if self.config.desired_kl:
            self.optimizer.learning_rate = arrays["lr"]

    def close(self) -> None:
        super().close()
        self.optimizer.close()


def learn(network: str | None = None, **arguments: Any) -> Model:
    """Trains a model with ACKTR; arguments as for `loop.learn`, hyperparameters of AcktrContConfig."""
    return loop.learn(Model, network, **arguments)
