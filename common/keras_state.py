"""The weights of Keras models and the variables of Keras optimizers as arrays, for checkpoints."""

from __future__ import annotations

import keras

from common.named_arrays import Arrays


def parameters(owner: keras.Model | keras.Optimizer) -> Arrays:
    """Copies of the weights of a model, frozen ones too, or of the variables of an optimizer, by their position."""
    return {str(i): variable.numpy().copy() for i, variable in enumerate(_variables(owner))}


def set_parameters(owner: keras.Model | keras.Optimizer, arrays: Arrays) -> None:
    """Restores what `parameters` returned; raises KeyError or ValueError if one is missing or a shape differs."""
    for i, variable in enumerate(_variables(owner)):
        variable.assign(arrays[str(i)])


def _variables(owner: keras.Model | keras.Optimizer) -> list[keras.Variable]:
    return owner.weights if isinstance(owner, keras.Model) else owner.variables


class Weights:
    """The weights of a model as a part of a checkpoint."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def state(self) -> Arrays:
        """What `parameters` returns."""
        return parameters(self._model)

    def set_state(self, arrays: Arrays) -> None:
        """As `set_parameters`."""
        set_parameters(self._model, arrays)
