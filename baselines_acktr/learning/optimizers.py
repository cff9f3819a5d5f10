"""Building the optimizers that a config describes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.config import AcktrContConfig, AcktrDiscreteConfig, RmspropConfig
from baselines_acktr.kfac import INVERTERS, CholeskyForm, EigenForm, Kfac, UnsupportedLayerError
from baselines_acktr.kfac.distributed import averaged
from baselines_acktr.kfac.skips import Skips, first_not_finite
from baselines_acktr.learning.rmsprop import Rmsprop
from common.errors import UserError
from common.keras_state import parameters, set_parameters
from common.mpi import Communicator

_LOG = logging.getLogger(__name__)


class GuardedOptimizer:
    """A Keras optimizer that leaves out a step whose gradient is not finite.

    Args:
      optimizer: of Keras.
      variables: what it trains.
      objective: batch -> loss and {name: further scalar to hand back}, built from TensorFlow operations.
      comm: ranks that each have their part of every batch.
    """

    def __init__(
        self,
        optimizer: keras.Optimizer,
        variables: list[keras.Variable],
        objective: Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]],
        comm: Communicator,
    ) -> None:
        self.inner = optimizer
        self._variables = variables
        self._objective = objective
        optimizer.build(variables)

        self._step = averaged(self._differentiate, self._apply, comm)
        self._skips = Skips()
        self._warned_of = 0  # skipped updates

    def minimize(self, *batch: Any) -> dict[str, tf.Tensor]:
        """One step on one batch; returns the objective's metrics and `loss`, means over the ranks."""
        return self._step(*batch)

    def set_learning_rate(self, rate: float) -> None:
        """Sets the rate of the steps to come."""
        self.inner.learning_rate = np.asarray(rate, np.float32)

    def _differentiate(self, *batch: Any) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss, metrics = self._objective(*batch)
        return {**metrics, "loss": loss}, tape.gradient(loss, self._variables)

    def _apply(self, parts: tuple[dict[str, tf.Tensor], list[tf.Tensor]]) -> dict[str, tf.Tensor]:
        metrics, gradients = parts
        bad = first_not_finite(gradients)
        tf.cond(bad < 0, lambda: self.inner.apply(gradients), lambda: self._skips.add(bad))
        return metrics

    @property
    def skipped_updates(self) -> int:
        """How many steps were left out; a warning names the weights where it has risen."""
        skipped = int(self._skips.count)
        if skipped != self._warned_of:
            self._warned_of = skipped
            name = self._variables[int(self._skips.culprit)].path
            _LOG.warning("%d updates were left out: the gradient of %s was not finite", skipped, name)
        return skipped

    def state(self) -> dict[str, np.ndarray]:
        """Everything that steps change, by name, copied."""
        return parameters(self.inner) | {"skipped": self._skips.count.numpy().copy()}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs."""
        set_parameters(self.inner, arrays)
        self._skips.count.assign(arrays["skipped"])
        self._warned_of = int(arrays["skipped"])


def make_kfac(
    model: keras.Model,
    config: AcktrDiscreteConfig | AcktrContConfig,
    seed: int,
    comm: Communicator,
    **changes: Any,
) -> Kfac:
    """K-FAC for a model.

    Args:
      model: a built network.
      config: of the learner.
      seed: of the optimizer's draws.
      comm: ranks that each have their part of every batch.
      **changes: arguments of `Kfac` that differ from the config's.

    Raises:
      UserError: if the network has a layer that K-FAC cannot handle, naming it.
    """
    if config.inverse_form == "eigen":
        form: EigenForm | CholeskyForm = EigenForm(config.eigen_rank)
    else:
        form = CholeskyForm()

    arguments: dict[str, Any] = {
        "learning_rate": config.lr,
        "delta": config.delta,
        "damping": config.damping,
        "momentum": config.momentum,
        "decay": config.stats_decay,
        "iterations": config.cg_iters,
        "blend": config.cg_blend,
        "damping_interval": None,
        "factor_interval": config.factor_interval,
        "inverse_interval": config.inverse_interval,
        "max_sites": config.fisher_sites,
        "form": form,
        "inverter": INVERTERS[config.inverses](),
        "seed": seed,
        "group": comm,
        "strict": True,
    }
    try:
        return Kfac(model, **arguments | changes)
    except UnsupportedLayerError as error:
        raise UserError(f"--network: {error}") from error


def make_rmsprop(
    model: keras.Model, config: RmspropConfig, objective: Callable[..., Any], comm: Communicator
) -> GuardedOptimizer:
    """RMSProp for a built network; `objective` and `comm` as for `GuardedOptimizer`."""
    options = {"epsilon": config.epsilon, "global_clipnorm": config.max_grad_norm}
    rmsprop = Rmsprop(config.lr, config.alpha, config.first_rate, **options)
    return GuardedOptimizer(rmsprop, model.trainable_variables, objective, comm)
