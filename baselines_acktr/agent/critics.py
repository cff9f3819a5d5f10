"""Critics: a network for values with what trains it, K-FAC (the Gauss-Newton metric) or Adam (the Euclidean one).

All of them learn standardised targets (see `standardised_targets`).
"""

from __future__ import annotations

import abc
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, final

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.standardised_targets import StandardisedTargets
from baselines_acktr.config import AcktrContConfig, DisjointConfig
from baselines_acktr.kfac import Objective, gaussian_log_likelihood
from baselines_acktr.learning.batches import entries, entries_of_rows, fisher_part, random_minibatches, taken
from baselines_acktr.learning.losses import l2_penalty, value_loss
from baselines_acktr.learning.optimizers import GuardedOptimizer, make_kfac
from common.graph import graph
from common.keras_state import parameters, set_parameters
from common.mpi import Communicator
from common.named_arrays import with_prefix, without_prefix
from common.random_state import get_random_state, set_random_state

MEMORY = 10  # the moments of the returns are those of about the last 10 batches
MIN_VARIANCE = 1e-4  # lower limit of sigma^2, the running variance of the Bellman error of standardised targets
Rows = tuple[Any, tf.Tensor]  # observations [B, ...], or `Sequences` of B steps, and targets [B]


class ValueFunction(abc.ABC):
    """Predicts returns, and learns them on a thread of its own.

    `fit` only starts the updates for a batch; the environments are stepped meanwhile, because the next values are not
    needed before the next rollout is complete. Everything else waits for the updates, so results do not depend on the
    timing. There are two exceptions, in which `fit` itself waits: a batch of a new shape, because TensorFlow can crash
    while two threads trace graphs, and several ranks, because MPI belongs to the main thread.

    Args:
      critic: network from observations [B, ...], or `Sequences` of B steps, to standardised values [B].
      config: hyperparameters.
      seed: of every random draw.
      comm: ranks that each have their part of every batch.
    """

    def __init__(self, critic: keras.Model, config: DisjointConfig, seed: int, comm: Communicator) -> None:
        self.critic = critic
        self.config = config
        self.comm = comm
        self.targets = StandardisedTargets(critic.value_head, MEMORY * config.timesteps_per_batch)
        self._rng = np.random.default_rng(seed)
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future | None = None
        self._traced: set[tuple[int, ...]] = set()  # shapes of the observations of batches
        self._metrics: dict[str, Any] = {}

    def predict(self, observations: Any) -> np.ndarray:
        """Values [B], of the critic's type, of observations [B, ...], or of `Sequences` of B steps."""
        self.wait()
        return self.targets.restore(self._predict(observations).numpy())

    def fit(self, observations: Any, returns: np.ndarray) -> None:
        """Starts to take `vf_iters` steps towards the returns [B] of observations [B, ...], or of `Sequences`."""
        self.wait()
        shape = tf.nest.flatten(observations)[0].shape
        if self.comm.size > 1 or shape not in self._traced:
            self._metrics = self._fit(observations, returns)
            self._traced.add(shape)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="critic")
        self._pending = self._thread.submit(self._fit, observations, returns)

    def wait(self) -> None:
        """Returns when the steps that `fit` started are taken; raises what they raised."""
        if self._pending is not None:
            pending = self._pending
            self._pending = None
            self._metrics = pending.result()

    def _fit(self, observations: Any, returns: np.ndarray) -> dict[str, Any]:
        """Takes the steps for a batch; returns scalars for the log."""
        self.targets.follow(returns, self.comm)
        constants = tf.nest.map_structure(tf.constant, observations)
        batch = (constants, tf.constant(self.targets.standardise(returns)))
        self._prepare(*batch)

        rows = self.comm.share_of_rows(self.config.vf_rows)
        size = None if rows is None else entries_of_rows(observations, rows)
        indices = random_minibatches(entries(observations), size, self.config.vf_iters, self._rng)
        minibatches = None if indices is None else tf.constant(indices)  # [vf_iters, vf_rows], of sequences fewer

        metrics = self._first_step(batch, _taken(batch, minibatches, 0))
        if self.config.vf_iters > 1:
            metrics = (self._steps if self.comm.size > 1 else self._graph_of_steps)(*batch, minibatches)
        return metrics

    def _steps(self, observations: Any, targets: tf.Tensor, minibatches: tf.Tensor | None) -> dict[str, Any]:
        """All updates but the first; returns the last one's scalars for the log."""
        batch = observations, targets
        first = self._step(*_taken(batch, minibatches, 1))
        _, metrics = tf.while_loop(
            lambda i, _: i < self.config.vf_iters,
            lambda i, _: (i + 1, self._step(*_taken(batch, minibatches, i))),
            (tf.constant(2), first),
        )
        return metrics

    @graph
    def _graph_of_steps(self, *arguments: Any) -> dict[str, Any]:
        """`_steps` as one graph; between ranks there is none, as every update's gradients meet on the host."""
        return self._steps(*arguments)

    @graph
    def _predict(self, observations: tf.Tensor) -> tf.Tensor:
        return self.critic(observations)

    def _prepare(self, observations: tf.Tensor, targets: tf.Tensor) -> None:  # noqa: B027 (most need none)
        """Looks at the whole batch before the first update on it."""

    def _first_step(self, batch: Rows, minibatch: Rows) -> dict[str, Any]:
        """The first update for a batch, which is not part of a graph."""
        return self._step(*minibatch)

    @abc.abstractmethod
    def _step(self, observations: tf.Tensor, targets: tf.Tensor) -> dict[str, Any]:
        """One update; returns scalars for the log."""

    def status(self) -> dict[str, float]:
        """Numbers for the log: the last step's, and what was left out so far."""
        self.wait()
        return {name: float(value) for name, value in self._metrics.items()} | self._skipped()

    @abc.abstractmethod
    def _skipped(self) -> dict[str, int]:
        """How often something was left out because it was not finite."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything that training changes, by name, copied."""
        self.wait()
        arrays = with_prefix("parameters", parameters(self.critic)) | with_prefix("moments", self.targets.state())
        return arrays | {"rng": get_random_state(self._rng)}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs."""
        self.wait()
        set_parameters(self.critic, without_prefix("parameters", arrays))
        self.targets.set_state(without_prefix("moments", arrays))
        set_random_state(self._rng, arrays["rng"])

    def close(self) -> None:
        """Ends background threads, when what `fit` started is done; `fit` starts them again."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None


def _taken(batch: Rows, minibatches: tf.Tensor | None, i: tf.Tensor | int) -> Rows:
    """The rows of a batch that are in minibatch i."""
    return batch if minibatches is None else taken(*batch, minibatches[i])


def _logged(metrics: dict[str, tf.Tensor]) -> dict[str, Any]:
    """What is logged of a K-FAC step."""
    return {"value_loss": metrics["value_loss"], "vf_trust_region_scale": metrics["trust_region_scale"]}


@final
class GaussNewton(ValueFunction):
    """A value function that K-FAC trains, as the mean of a Gaussian N(V(s), sigma^2) (Wu et al. 2017, section 3.1).

    Args:
      adaptive: whether sigma^2 is the running variance of the Bellman error (appendix D); otherwise it is 1. The
        variance is at least MIN_VARIANCE, because the Fisher would grow without limit while all returns are alike.
    """

    config: AcktrContConfig

    def __init__(
        self, critic: keras.Model, config: AcktrContConfig, seed: int, comm: Communicator, adaptive: bool = False
    ) -> None:
        super().__init__(critic, config, seed, comm)
        self.sigma = tf.Variable(1.0, trainable=False, dtype=critic.compute_dtype)
        self._adaptive = adaptive

        self.optimizer = make_kfac(
            critic,
            config,
            seed,
            comm,
            learning_rate=config.vf_lr,
            delta=config.vf_delta,
            damping=config.vf_damping,
            decay=config.vf_stats_decay,
            inverse_interval=1,
        )

    def _prepare(self, observations: tf.Tensor, targets: tf.Tensor) -> None:
        if self._adaptive:
            error = self.comm.mean(tf.reduce_mean(tf.square(targets - self._predict(observations))).numpy())
            decay = self.config.vf_stats_decay
            variance = max(decay * self.sigma.numpy() ** 2 + (1 - decay) * error, MIN_VARIANCE)
            self.sigma.assign(np.sqrt(variance).astype(self.critic.compute_dtype))

    def _first_step(self, batch: Rows, minibatch: Rows) -> dict[str, Any]:
        """Estimates and inverts the Fisher, which the later updates for the same batch use again."""
        part = fisher_part(batch[0], self.comm.share_of_rows(self.config.vf_fisher_rows))
        metrics = self.optimizer.minimize(self._objective, *minibatch, part)
        self.optimizer.await_inverses()
        return _logged(metrics)

    def _step(self, observations: tf.Tensor, targets: tf.Tensor) -> dict[str, Any]:
        return _logged(self.optimizer.advance(self._loss, observations, targets))

    def _skipped(self) -> dict[str, int]:
        counters = self.optimizer.counters
        return {f"vf_{name}": count for name, count in counters.items() if name.startswith("skipped")}

    def _loss(self, observations: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        loss = value_loss(self.critic(observations), targets)
        penalty = l2_penalty(self.critic, self.config.weight_decay)
        return loss / tf.square(self.sigma) + penalty, {"value_loss": loss}

    def _objective(self, observations: tf.Tensor, targets: tf.Tensor, fisher_part: tf.Tensor) -> Objective:
        loss, metrics = self._loss(observations, targets)
        sampled = self.critic(fisher_part)
        log_likelihood = gaussian_log_likelihood(sampled, self.optimizer.generator, self.sigma)
        return Objective(loss, log_likelihood, metrics, tf.shape(sampled)[0])

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | with_prefix("kfac", self.optimizer.state()) | {"sigma": self.sigma.numpy().copy()}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        self.optimizer.set_state(without_prefix("kfac", arrays))
        self.sigma.assign(arrays["sigma"])

    def close(self) -> None:
        super().close()
        self.optimizer.close()


@final
class Euclidean(ValueFunction):
    """A value function that Adam trains: the first-order critic of Wu et al. 2017, section 5.3."""

    def __init__(self, critic: keras.Model, config: DisjointConfig, seed: int, comm: Communicator) -> None:
        super().__init__(critic, config, seed, comm)
        adam = keras.optimizers.Adam(config.vf_stepsize)
        self.optimizer = GuardedOptimizer(adam, critic.trainable_variables, self._objective, comm)

    def _skipped(self) -> dict[str, int]:
        return {"vf_skipped_updates": self.optimizer.skipped_updates}

    def _step(self, observations: tf.Tensor, targets: tf.Tensor) -> dict[str, Any]:
        return {"value_loss": self.optimizer.minimize(observations, targets)["value_loss"]}

    def _objective(self, observations: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        loss = value_loss(self.critic(observations), targets)
        return loss + l2_penalty(self.critic, self.config.weight_decay), {"value_loss": loss}

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | with_prefix("adam", self.optimizer.state())

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        self.optimizer.set_state(without_prefix("adam", arrays))
        self.optimizer.set_learning_rate(self.config.vf_stepsize)


def make_value_function(critic: keras.Model, config: AcktrContConfig, seed: int, comm: Communicator) -> ValueFunction:
    """The value function that `config.critic` names."""
    if config.critic == "euclidean":
        return Euclidean(critic, config, seed, comm)
    return GaussNewton(critic, config, seed, comm, adaptive=config.critic == "adaptive")
