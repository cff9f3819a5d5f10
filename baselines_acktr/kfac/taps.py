"""Records what K-FAC needs of every layer call: its inputs and its pre-activations.

`tap_layers` works on any Keras model (sequential, functional, subclassed, nested) without changing it: inside the
context each supported layer records a `Tap` whenever it is called, so a layer that is shared or called several times
gives several taps. Tapping happens while a `tf.function` is traced; the compiled graph has no trace of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf


class Tap(NamedTuple):
    """One call of one layer.

    Attributes:
      layer: the Keras layer.
      inputs: what it was called on, [B, ...].
      outputs: its pre-activations (before the layer's own activation function), [B, ..., O].
    """

    layer: keras.layers.Layer
    inputs: tf.Tensor
    outputs: tf.Tensor


class UnsupportedLayerError(TypeError):
    """A layer has trainable weights and K-FAC has no factors for its type."""


class FreeVector(keras.layers.Layer):
    """A trainable vector that does not depend on the input, such as the `log_std` of a Gaussian policy.

    Called on any batch [B, ...] it returns the vector repeated to [B, units], so that each row has a gradient of its
    own and the vector's Fisher block is E[g g^T].
    """

    def __init__(self, units: int, initializer: str | keras.Initializer = "zeros", **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.vector = self.add_weight(shape=(units,), initializer=initializer, name="vector")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.broadcast_to(self.vector.value, [tf.shape(inputs)[0], self.units])


def is_supported(layer: keras.layers.Layer) -> bool:
    """Whether K-FAC has Kronecker factors for this layer."""
    if isinstance(layer, keras.layers.Conv2D):
        return type(layer) is keras.layers.Conv2D and layer.groups == 1
    return isinstance(layer, keras.layers.Dense | FreeVector)


def supported_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Lists the layers of `model` that have trainable weights, in the model's order, each once.

    Raises:
      UnsupportedLayerError: naming the first layer (and its type) that K-FAC cannot handle.
      ValueError: if the model has no weights yet.
    """
    if not model.built or not model.trainable_variables:
        raise ValueError(f"model {model.name!r} has no trainable weights yet: call it once on a batch before Kfac")
    layers = []
    for layer in model._flatten_layers(include_self=True, recursive=True):
        if not (layer.trainable and layer._trainable_variables):  # its own weights, not those of its sublayers
            continue
        if not is_supported(layer):
            raise UnsupportedLayerError(
                f"K-FAC has no factors for layer {layer.name!r} of type {type(layer).__name__}; supported are Dense, "
                "Conv2D with groups=1 and FreeVector. Freeze it (layer.trainable = False) or replace it."
            )
        if layer.compute_dtype != layer.variable_dtype:
            raise UnsupportedLayerError(
                f"layer {layer.name!r} computes in {layer.compute_dtype} with weights in {layer.variable_dtype}: K-FAC "
                "has no mixed precision"
            )
        if layer not in layers:
            layers.append(layer)
    return layers


def _record(layer: keras.layers.Layer, taps: list[Tap]) -> None:
    original = layer.call

    def tapped_call(inputs: tf.Tensor, *args, **kwargs) -> tf.Tensor:
        activation = getattr(layer, "activation", None)
        if activation is not None:
            layer.activation = None
        try:
            outputs = original(inputs, *args, **kwargs)
        finally:
            if activation is not None:
                layer.activation = activation
        taps.append(Tap(layer, inputs, outputs))
        return outputs if activation is None else activation(outputs)

    layer.call = tapped_call


@contextlib.contextmanager
def tap_layers(layers: list[keras.layers.Layer]) -> Iterator[list[Tap]]:
    """Within the context, every call of one of `layers` appends a `Tap` to the list that is yielded."""
    taps: list[Tap] = []
    for layer in layers:
        _record(layer, taps)
    try:
        yield taps
    finally:
        for layer in layers:
            del layer.call
