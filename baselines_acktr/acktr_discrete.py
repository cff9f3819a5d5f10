"""ACKTR for discrete actions (Wu et al. 2017): one shared network, one K-FAC optimizer, one joint Fisher."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from baselines_acktr.agent.shared_agent import SharedAgent
from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.kfac import Divergence, KlLimit, Objective, gaussian_log_likelihood
from baselines_acktr.learning.optimizers import fisher_part, make_kfac
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session import loop
from common.distributions import make_distribution
from common.named_arrays import with_prefix, without_prefix


class Model(SharedAgent):
    """Policy, value function and their K-FAC optimizer; arguments and errors as for `Agent`."""

    algorithm = "acktr"
    config_class = AcktrDiscreteConfig

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.optimizer = make_kfac(self.network, self.config, self.seed, self.comm)

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, Any]:
        """One K-FAC update.

        With `report` the result also has `kl`, the exact mean KL(old || new) of the policy on the rollout's first step,
        and `quadratic_kl`, that of policy and value together by the quadratic model, which leaves out what the bias of
        the value head has been moved by beside the step; nats.
        """
        metrics = super().update(rollout, total_timesteps, report)
        return metrics | {"quadratic_kl": self.optimizer.last_step_model_kl()} if report else metrics

    def status(self) -> dict[str, float]:
        return dict(self.optimizer.counters)

    def _improve(self, lr: float, *batch: np.ndarray) -> dict[str, Any]:
        """One K-FAC step; the first ones are shorter, because their Fisher is that of few rows.

        eta_max and the square root of delta grow as 1 - decay^t, the part of their weight that the running averages of
        the factors have after t updates.
        """
        filled = 1 - self.config.stats_decay ** (self.updates + 1)
        self.optimizer.learning_rate = lr * filled
        self.optimizer.delta = self.config.delta * filled**2
        metrics = self.optimizer.minimize(self._objective, *batch, limit=self.kl_limit())
        *_, mean_error = batch
        share = self.config.vf_bias_rate * lr / self.config.lr
        applied = tf.math.is_finite(metrics["model_kl"])  # else K-FAC has left the update out
        self.network.value_head.bias.assign_add(tf.where(applied, [share * mean_error], 0))
        return metrics

    def kl_limit(self) -> KlLimit | None:
        """How far a step may move the policy, on the rows that the Fisher is estimated from."""
        if not self.config.max_kl:
            return None
        return KlLimit(Divergence(self._fisher_outputs, self._mean_kl), self.config.max_kl)

    def _batch(self, rollout: Rollout, returns: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows [B, ...] of observations, actions, returns and advantages, shuffled: the Fisher takes the first ones.

        Behind them the mean error R - V of all ranks' rows, which the bias of the value head follows; 0 where the whole
        network is to learn it, or nothing is.
        """
        order = self.row_order(returns.size)
        rows = tuple(np.take(rows, order, axis=0) for rows in super()._batch(rollout, returns))
        alone = self.config.vf_bias_rate > 0 and self.config.vf_coef > 0
        mean_error = self.comm.mean(np.mean(returns - rollout.values)) if alone else 0
        return *rows, np.asarray(mean_error, returns.dtype)

    def _objective(self, observations, actions, returns, advantages, mean_error) -> Objective:
        """The A2C loss, and the log-likelihood of actions and values sampled from the model (section 3.1).

        Of the critic's loss the gradient has the errors' deviations from `mean_error`.
        """
        parts = self._forward_in_parts(observations)
        parameters, values = (tf.concat(tensors, axis=0) for tensors in zip(*parts, strict=True))
        loss, metrics = self._loss(parameters, values, actions, returns, advantages)
        mean = tf.reduce_mean(values)
        loss += self.config.vf_coef * mean_error * (mean - tf.stop_gradient(mean))
        return Objective(loss, self._sampled_log_likelihood(*parts[0]), metrics)

    def _fisher_outputs(self, observations: tf.Tensor, *others: Any) -> tf.Tensor:
        """The policy's parameters [F, P] on the rows that the Fisher is estimated from."""
        return self.network(fisher_part(observations, self.comm.share(self.config.fisher_rows)))[0]

    def _forward_in_parts(self, observations: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """The network's outputs on the Fisher's rows, and on the rest: one forward pass over the batch in all."""
        rows = self.comm.share(self.config.fisher_rows)
        size = observations.shape[0]  # None in a graph for batches of several sizes
        if rows == 0 or (size is not None and rows >= size):
            return [self.network(observations)]
        return [self.network(fisher_part(observations, rows)), self.network(observations[rows:])]

    def _sampled_log_likelihood(self, parameters: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """log p(a, v|s) = log pi(a|s) + log p(v|s) of independently sampled a and v, summed over rows."""
        generator = self.optimizer.generator
        pi = make_distribution(self.action_space, parameters)
        policy_part = tf.reduce_sum(pi.log_prob(pi.sample(generator)))
        sigma = self.config.vf_fisher_coef**-0.5
        return policy_part + gaussian_log_likelihood(values, generator, sigma)

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | with_prefix("kfac", self.optimizer.state())

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        self.optimizer.set_state(without_prefix("kfac", arrays))

    def close(self) -> None:
        self.optimizer.close()


def learn(network: str | None = None, **arguments: Any) -> Model:
    """Trains a model with ACKTR; arguments as for `loop.learn`, hyperparameters of AcktrDiscreteConfig."""
    return loop.learn(Model, network, **arguments)
