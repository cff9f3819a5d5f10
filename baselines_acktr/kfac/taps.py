"""Records what K-FAC needs of every layer call: its inputs and its pre-activations.

`tap_layers` works on any Keras model (sequential, functional, subclassed, nested) without changing it: inside the
context each layer records a `Tap` whenever it is called, so a layer that is shared or called several times gives
several taps. Tapping happens while a `tf.function` is traced; the compiled graph has no trace of it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import keras

from baselines_acktr.kfac.arguments import refuse_replicas
from baselines_acktr.kfac.layers import TYPES, Factorization, FreeVector, Tap, diagonal, factorizations_of
from baselines_acktr.kfac.layers.base import UnsupportedLayerError
from baselines_acktr.kfac.layers.diagonal import DiagonalFactorization

__all__ = ["FreeVector", "Tap", "UnsupportedLayerError", "factorizations", "supported_layers", "tap_layers"]

_LOG = logging.getLogger(__name__)


def factorizations(model: keras.Model, *, strict: bool = False, diagonals: Sequence[str] = ()) -> list[Factorization]:
    """How the Fisher of a model's trainable weights is factored, in the model's order of layers.

    Args:
      model: a built Keras model.
      strict: refuse layers of unknown types, mixed precision and constraints.
      diagonals: names of layers whose block is the diagonal of their Fisher, although their type is known.

    Raises:
      UnsupportedLayerError: naming the first layer (and its type) that cannot be trained.
      ValueError: if the model has no trainable weights, or none yet, no layer of such a name, or several replicas.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model={model!r}: must be a Keras model")
    refuse_replicas(model)
    _require_weights(model)

    layers = model._flatten_layers(include_self=True, recursive=True)
    names = {layer.name for layer in layers}
    missing = [name for name in diagonals if name not in names]
    if missing:
        raise ValueError(f"diagonal={missing[0]!r}: {model.name!r} has no such layer; must be one of {sorted(names)}")

    found: list[Factorization] = []
    taken: set[int] = set()  # ids of the variables that have a factorization
    in_loops = _in_loops(layers)
    for layer in layers:
        known = factorizations_of(layer)
        if layer.name in diagonals or id(layer) in in_loops:
            known = diagonal(known[0].layer.cell if _has_cell(known) else layer)
        for one in known:
            if taken.isdisjoint(id(variable) for variable in one.variables):
                taken |= {id(variable) for variable in one.variables}
                found.append(one)

    others = [variable for variable in model.trainable_variables if id(variable) not in taken]
    if others:
        found.append(DiagonalFactorization(model, others))

    _check(found, strict)
    return found


def _require_weights(model: keras.Model) -> None:
    """Raises ValueError for a model without trainable weights, saying what gives it some."""
    if model.built and model.trainable_variables:
        return
    if model.weights:
        raise ValueError(
            f"model {model.name!r} has no trainable weights, as its layers are frozen: set layer.trainable = True of "
            "those that Kfac shall train"
        )
    raise ValueError(f"model {model.name!r} has no trainable weights yet: call it once on a batch before Kfac")


def tell_diagonals(found: Sequence[Factorization]) -> None:
    """Says in one log line which layers have a diagonal block because their type is not known; nothing if none has."""
    unknown = [f"{one.layer.name} ({type(one.layer).__name__})" for one in found if not one.is_known_type]
    if unknown:
        _LOG.info("K-FAC takes the diagonal of the Fisher alone of these layers: %s", ", ".join(unknown))


def _has_cell(known: list[Factorization]) -> bool:
    return bool(known) and isinstance(known[0].layer, keras.layers.RNN) and known[0].is_recorded


def _in_loops(layers: list[keras.layers.Layer]) -> set[int]:
    """The ids of layers that run inside a loop of Keras', where calls cannot be recorded: those within cells."""
    recurrent = [layer for layer in layers if isinstance(layer, keras.layers.RNN) and not factorizations_of(layer)]
    return {id(inner) for layer in recurrent for inner in layer.cell._flatten_layers()}


def _check(found: list[Factorization], strict: bool) -> None:
    for one in found:
        layer = one.layer
        if strict and not one.is_known_type:
            raise UnsupportedLayerError(
                f"K-FAC has no factors for layer {layer.name!r} of type {type(layer).__name__}; supported are "
                f"{', '.join(base.__name__ for base in TYPES)}. Freeze it (layer.trainable = False) or replace it."
            )

        if strict and layer.compute_dtype != layer.variable_dtype:
            raise UnsupportedLayerError(
                f"layer {layer.name!r} computes in {layer.compute_dtype} with weights in {layer.variable_dtype}: K-FAC "
                "has no mixed precision"
            )

        constrained = [variable.path for variable in one.variables if variable.constraint]
        if strict and constrained:
            raise UnsupportedLayerError(f"{constrained[0]} has a constraint, which K-FAC's steps do not keep to")


def supported_layers(model: keras.Model, *, strict: bool = True) -> list[keras.layers.Layer]:
    """The layers of a model with trainable weights, in its order, each once; raises as `factorizations` does."""
    return layers_of(factorizations(model, strict=strict))


def layers_of(found: Sequence[Factorization]) -> list[keras.layers.Layer]:
    """The layers of some factorizations, each once."""
    return list({id(one.layer): one.layer for one in found}.values())


@contextlib.contextmanager
def tap_layers(found: Sequence[Factorization]) -> Iterator[list[Tap]]:
    """Within the context, every call of the layers of some factorizations appends to the list that is yielded."""
    taps: list[Tap] = []
    with contextlib.ExitStack() as stack:
        for one in found:
            stack.enter_context(one.recording(taps))
        yield taps
