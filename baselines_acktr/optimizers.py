"""Building the optimizers that a config describes."""

from __future__ import annotations

from typing import Any

import keras

from baselines_acktr.config import AcktrContConfig, AcktrDiscreteConfig, RmspropConfig
from baselines_acktr.kfac import INVERTERS, CholeskyForm, EigenForm, Kfac, UnsupportedLayerError
from baselines_acktr.rmsprop import Rmsprop
from common.errors import UserError


def make_kfac(model: keras.Model, config: AcktrDiscreteConfig | AcktrContConfig, seed: int, **changes: Any) -> Kfac:
    """K-FAC for a model.

    Args:
      model: a built network.
      config: of the learner.
      seed: of the optimizer's draws.
      **changes: arguments of `Kfac` that differ from the config's.

    Raises:
      UserError: if the network has a layer that K-FAC cannot handle, naming it.
    """
    arguments: dict[str, Any] = {
        "learning_rate": config.lr,
        "delta": config.delta,
        "damping": config.damping,
        "momentum": config.momentum,
        "decay": config.stats_decay,
        "inverse_interval": config.inverse_interval,
        "max_sites": config.fisher_sites,
        "form": EigenForm(config.eigen_rank) if config.inverse_form == "eigen" else CholeskyForm(),
        "inverter": INVERTERS[config.inverses](),
        "seed": seed,
    }
    try:
        return Kfac(model, **arguments | changes)
    except UnsupportedLayerError as error:
        raise UserError(f"--network: {error}") from error


def make_rmsprop(model: keras.Model, config: RmspropConfig) -> Rmsprop:
    """RMSProp for a built network."""
    optimizer = Rmsprop(config.lr, config.alpha, epsilon=config.epsilon, global_clipnorm=config.max_grad_norm)
    optimizer.build(model.trainable_variables)
    return optimizer
