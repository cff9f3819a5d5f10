"""What Keras asks of a model's optimizer, beside its steps: configuration, variables, how many updates there were."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.saving.keras_saveable import KerasSaveable

from baselines_acktr.kfac.curvature import Curvature
from baselines_acktr.kfac.forms import EigenForm, Form
from baselines_acktr.kfac.inverses import INVERTERS, Inverter
from baselines_acktr.kfac.settings import AverageSettings, StepSettings
from baselines_acktr.kfac.weight_averages import WeightAverages
from baselines_acktr.kfac.weight_decay import WeightDecay

ASSIGNED = "learning_rate", "delta", "damping", "momentum", "decay"  # numbers that may have been assigned to


class SavedState(KerasSaveable):
    """What a model's files keep of its `Kfac`: factors, inverses, momentum, damping, counters, random generator."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def _obj_type(self) -> str:
        return "Optimizer"

    def save_own_variables(self, store: Any) -> None:
        """Writes them into a store of Keras."""
        for name, array in self._optimizer.state().items():
            store[name.replace("/", ":")] = array

    def load_own_variables(self, store: Any) -> None:
        """Reads them; nothing where the file has none. Raises a ValueError where they do not fit."""
        arrays = {name.replace(":", "/"): np.asarray(store[name]) for name in store.keys()}  # noqa: SIM118
        if not arrays:
            return
        try:
            self._optimizer.set_state(arrays)
        except (KeyError, ValueError) as error:
            raise ValueError(f"the file's Kfac is that of another model or has other arguments: {error}") from error


class KerasOptimizer:
    """A mixin for `Kfac`: what Keras asks of an optimizer beside its steps."""

    built = True  # what Keras' callbacks ask of a model's optimizer
    inner_optimizer: WeightAverages  # what they look at instead of it, as with Keras' own LossScaleOptimizer
    curvature: Curvature
    _weight_decay: WeightDecay
    _step_settings: StepSettings
    _seed: int
    _step: int

    @functools.cached_property
    def saved_state(self) -> SavedState:
        """What Keras' files keep."""
        return SavedState(self)

    @property
    def iterations(self) -> int:
        """How many updates there were (Keras' name)."""
        return self._step

    @property
    def variables(self) -> list[tf.Variable]:
        """All that updates change but the model's weights."""
        return list(self._variables().values())

    def _variables(self) -> dict[str, tf.Variable]:
        raise NotImplementedError

    @property
    def trained_variables(self) -> list[keras.Variable]:
        """The weights that it trains, block by block."""
        return [variable for one in self.curvature.factorizations for variable in one.variables]

    @property
    def use_ema(self) -> bool:
        """Whether it keeps running averages of the weights."""
        return self.inner_optimizer.use_ema

    def apply_gradients(self, *arguments: Any, **options: Any) -> None:
        """Refused: gradients alone are not what K-FAC needs."""
        raise TypeError(
            "Kfac.apply_gradients: gradients do not say what the model's outputs stand for; must be "
            "Kfac.minimize(objective, *batch), or fit of a KfacModel"
        )

    apply = apply_gradients

    def finalize_variable_values(self, var_list: Any = None) -> None:
        """Sets the weights to their running averages, where it keeps them; Keras' `fit` ends with it.

        Args:
          var_list: not looked at: it knows the weights that it trains.
        """
        self.inner_optimizer.overwrite()

    def exclude_from_weight_decay(
        self, var_list: Sequence[keras.Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Lets `weight_decay` leave some weights alone, such as biases: `var_names=["bias", "gamma", "beta"]`.

        Args:
          var_list: weights.
          var_names: parts of weights' names, as regular expressions.

        Raises:
          ValueError: after the first update.
        """
        if self._step > 0:
            raise ValueError("exclude_from_weight_decay: must be called before the first update")
        listed = {id(variable) for variable in var_list or []}
        pattern = re.compile("|".join(var_names)) if var_names else None
        self._weight_decay.leave_out(lambda v: id(v) in listed or bool(pattern and pattern.search(v.name)))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as they are now, in values that JSON has; not the model, nor the ranks."""
        averages = self.inner_optimizer
        config = {**vars(self._step_settings), **vars(self.curvature.settings), "seed": self._seed}
        config |= {name: getattr(averages, name) for name in AverageSettings.names()}
        for name in ASSIGNED:
            config[name] = float(getattr(self, name))
        schedule = type(self).learning_rate.schedule(self)  # type: ignore[attr-defined]
        if schedule is not None:
            config["learning_rate"] = keras.optimizers.schedules.serialize(schedule)
        config["form"] = _form_config(config["form"])
        config["inverter"] = _inverter_name(config["inverter"])
        config["diagonal"] = list(config["diagonal"])
        config["not_decayed"] = self._weight_decay.left_out
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], model: keras.Model) -> Any:
        """An optimizer of a model with the arguments that `get_config` returned."""
        arguments = dict(config)
        if isinstance(arguments["learning_rate"], Mapping):
            arguments["learning_rate"] = keras.optimizers.schedules.deserialize(arguments["learning_rate"])
        if isinstance(arguments["form"], Mapping):
            arguments["form"] = EigenForm(**arguments["form"])
        not_decayed = arguments.pop("not_decayed", [])
        optimizer = cls(model, **arguments)  # type: ignore[call-arg]
        trained = optimizer.trained_variables
        optimizer.exclude_from_weight_decay([trained[i] for i in not_decayed])
        return optimizer


def _form_config(form: Form) -> Any:
    return {"rank": form.rank} if isinstance(form, EigenForm) else "cholesky"


def _inverter_name(inverter: Inverter) -> str:
    return next(name for name, kind in INVERTERS.items() if isinstance(inverter, kind))
