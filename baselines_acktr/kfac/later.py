"""The arguments of a `Kfac` whose model is not known yet, or has no weights yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class LaterKfac:
    """What `Kfac(learning_rate=0.5)`, without a model, returns: `KfacModel.compile` makes the optimizer of it.

    Where the model has no weights yet, it is the model's optimizer until training starts.

    Attributes:
      make: model -> its `Kfac`.
      arguments: {name: value}, as they were given.
    """

    make: Callable[..., Any]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    built = True  # so that Keras' `evaluate` does not build it
    use_ema = False

    def of(self, model: keras.Model) -> Any:
        """The optimizer of a built model."""
        return self.make(model, **self.arguments)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{name}: this Kfac has no weights yet; must be Kfac(model), or one of a model in training"
        )
