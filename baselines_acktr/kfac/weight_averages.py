"""What Keras' callbacks know a model's optimizer by, and its running averages of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class WeightAverages(keras.optimizers.Optimizer):
    """Keeps running averages of weights that another optimizer trains, as every optimizer of Keras does for itself.

    average <- ema_momentum average + (1 - ema_momentum) weight, from the first update on, whose weights it starts with.

    Args:
      owner: the optimizer that trains them.
      variables: the weights.
      use_ema: whether to keep averages at all.
      ema_momentum: at least 0 and below 1.
      ema_overwrite_frequency: updates between two times that the weights are set to their averages; None: never.
    """

    def __init__(
        self,
        owner: Any,
        variables: Sequence[keras.Variable],
        *,
        use_ema: bool,
        ema_momentum: float,
        ema_overwrite_frequency: int | None,
    ) -> None:
        super().__init__(
            0.0, use_ema=use_ema, ema_momentum=ema_momentum, ema_overwrite_frequency=ema_overwrite_frequency
        )
        self._owner = owner
        self.build(list(variables))

    @property
    def learning_rate(self) -> Any:
        """That of the owner, for callbacks that log it."""
        return self._owner.learning_rate

    def update(self) -> None:
        """Takes the weights into their averages, after an update; part of a graph."""
        if not self.use_ema:
            return
        self._update_model_variables_moving_average(self._trainable_variables)
        self.iterations.assign_add(1)
        interval = self.ema_overwrite_frequency
        if interval:
            tf.cond(self.iterations.value % interval == 0, self.overwrite, lambda: None)

    def overwrite(self) -> None:
        """Sets the weights to their averages; nothing where none are kept."""
        self.finalize_variable_values(self._trainable_variables)

    def state(self) -> dict[str, tf.Variable]:
        """The averages and the number of updates, by their names in a checkpoint; empty where none are kept."""
        if not self.use_ema:
            return {}
        averages = {f"average{i}": average.value for i, average in enumerate(self._model_variables_moving_average)}
        return averages | {"averaged_updates": self.iterations.value}
