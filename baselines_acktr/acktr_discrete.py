"""ACKTR for discrete actions (Wu et al. 2017): one shared network, one K-FAC optimizer, one joint Fisher."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from baselines_acktr.agent.shared_agent import SharedAgent
from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.kfac import Divergence, Objective, gaussian_kl, gaussian_log_likelihood
from baselines_acktr.learning.batches import fisher_part
from baselines_acktr.learning.optimizers import make_kfac
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session import loop
from common.distributions import make_distribution
from common.named_arrays import with_prefix, without_prefix

ERROR_DECAY = 0.97  # of the running mean of the critic's squared error


class Model(SharedAgent):
    """Policy, value function and their K-FAC optimizer; arguments and errors as for `Agent`."""

    algorithm = "acktr"
    config_class = AcktrDiscreteConfig

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.optimizer = make_kfac(self.network, self.config, self.seed, self.comm)
        self.divergence = Divergence(self._fisher_outputs, self._joint_kl)
        self.sigma = tf.Variable(1.0, trainable=False, dtype=self.network.compute_dtype)
        self._squared_error = np.zeros(2)  # decayed sum of the critic's mean squared errors, and of their weights

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, Any]:
        """One K-FAC update.

        With `report` the result also has `kl`, the exact mean KL(old || new) of the policy on the rollout's first step,
        and `quadratic_kl`, that of the policy by the quadratic model of the step; nats.
        """
        metrics = super().update(rollout, total_timesteps, report)
        return metrics | {"quadratic_kl": metrics["model_policy_kl"]} if report else metrics

    def status(self) -> dict[str, float]:
        return dict(self.optimizer.counters)

    def _improve(self, lr: float, *batch: np.ndarray) -> dict[str, Any]:
        self.optimizer.learning_rate = lr
        return self.optimizer.minimize(self._objective, *batch, divergence=self.divergence)

    def _batch(self, rollout: Rollout, returns: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows [B, ...] of observations, actions, returns and advantages, shuffled: the Fisher takes the first ones."""
        self._follow_errors(returns - rollout.values)
        order = self.row_order(returns.size)
        return tuple(np.take(rows, order, axis=0) for rows in super()._batch(rollout, returns))

    def _objective(self, observations, actions, returns, advantages) -> Objective:
        """The sum of both losses, and the log-likelihood of actions and values sampled from the model (section 3.1)."""
        parts = self._forward_in_parts(observations)
        parameters, values = (tf.concat(tensors, axis=0) for tensors in zip(*parts, strict=True))
        losses, metrics = self._losses(parameters, values, actions, returns, advantages / self.sigma)
        loss = losses["policy"] + self.config.vf_coef * losses["value"] / tf.square(self.sigma)
        return Objective(loss, self._sampled_log_likelihood(*parts[0]), metrics)

    def _fisher_outputs(self, observations: tf.Tensor, *others: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The policy's parameters [F, P] and values [F] on the rows that the Fisher is estimated from."""
        return self.network(fisher_part(observations, self.comm.share(self.config.fisher_rows)))

    def _joint_kl(self, old: tuple[tf.Tensor, tf.Tensor], new: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """KL of the joint distribution p(a, v|s) = pi(a|s) p(v|s), mean over rows, by its two parts; nats."""
        value_kl = gaussian_kl(old[1][:, None], new[1][:, None], self._value_deviation())
        return {"policy": self._mean_kl(old[0], new[0]), "value": value_kl}

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
        return policy_part + gaussian_log_likelihood(values, generator, self._value_deviation())

    def _value_deviation(self) -> tf.Tensor:
        """sigma of p(v|s) = N(V(s), sigma^2), by `vf_fisher_coef`."""
        return self.sigma * self.config.vf_fisher_coef**-0.5

    def _follow_errors(self, errors: np.ndarray) -> None:
        """Sets sigma^2 to the running mean of the critic's squared error, of all ranks, but not below 1 (appendix D).

        Returns of hundreds would else leave the policy no say in what both share; those of Atari games keep sigma = 1.
        """
        squared = self.comm.mean(np.mean(np.square(errors, dtype=np.float64)))
        if np.isfinite(squared):
            self._squared_error = ERROR_DECAY * self._squared_error + (1 - ERROR_DECAY) * np.array([squared, 1.0])
        self._set_sigma()

    def _set_sigma(self) -> None:
        total, weight = self._squared_error
        mean = total / weight if weight else 0.0
        self.sigma.assign(np.asarray(max(1.0, mean) ** 0.5, self.sigma.dtype.as_numpy_dtype))

    def state(self) -> dict[str, np.ndarray]:
        own = {"squared_error": self._squared_error.copy()}
        return super().state() | with_prefix("kfac", self.optimizer.state()) | own

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        self.optimizer.set_state(without_prefix("kfac", arrays))
        self._squared_error = arrays.get("squared_error", np.zeros(2)).copy()  # older files have none
        self._set_sigma()

    def close(self) -> None:
        self.optimizer.close()


def learn(network: str | None = None, **arguments: Any) -> Model:
    """Trains a model with ACKTR; arguments as for `loop.learn`, hyperparameters of AcktrDiscreteConfig."""
    return loop.learn(Model, network, **arguments)
