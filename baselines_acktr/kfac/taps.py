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
      inputs: what its weights act on, [B, ...]: what it was called on, which a normalization has already normalized.
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


CONVOLUTIONS = keras.layers.Conv1D, keras.layers.Conv2D
NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)
SUPPORTED = (
    "Dense, Conv1D and Conv2D with groups=1, Batch-, Group-, Layer- and RMSNormalization over one axis, and FreeVector"
)


def is_supported(layer: keras.layers.Layer) -> bool:
    """Whether K-FAC has Kronecker factors for this layer."""
    if type(layer) in CONVOLUTIONS:
        return layer.groups == 1
    if type(layer) in NORMALIZATIONS:
        return all(len(variable.shape) == 1 for variable in layer.trainable_variables)
    return isinstance(layer, keras.layers.Dense | FreeVector)


def gamma_and_beta(layer: keras.layers.Layer) -> tuple[keras.Variable | None, keras.Variable | None]:
    """A normalization's scale and shift, each [C] or None where it has none."""
    is_rms = isinstance(layer, keras.layers.RMSNormalization)
    return layer.scale if is_rms else getattr(layer, "gamma", None), getattr(layer, "beta", None)


def channel_axis(layer: keras.layers.Layer) -> int:
    """The axis of a normalization's inputs that its scale and shift belong to."""
    return layer.axis if isinstance(layer.axis, int) else layer.axis[0]


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
                f"K-FAC has no factors for layer {layer.name!r} of type {type(layer).__name__}; supported are "
                f"{SUPPORTED}. Freeze it (layer.trainable = False) or replace it."
            )
        if layer.compute_dtype != layer.variable_dtype:
            raise UnsupportedLayerError(
                f"layer {layer.name!r} computes in {layer.compute_dtype} with weights in {layer.variable_dtype}: K-FAC "
                "has no mixed precision"
            )
        constrained = [variable.path for variable in layer._trainable_variables if variable.constraint]
        if constrained:
            raise UnsupportedLayerError(f"{constrained[0]} has a constraint, which K-FAC's steps do not keep to")
        if layer not in layers:
            layers.append(layer)
    return layers


@contextlib.contextmanager
def _without(layer: keras.layers.Layer, *names: str) -> Iterator[None]:
    """Within the context these attributes of the layer are None, unknown to Keras' tracking of its variables."""
    values = {name: getattr(layer, name) for name in names if hasattr(layer, name)}
    for name in values:
        object.__setattr__(layer, name, None)
    try:
        yield
    finally:
        for name, value in values.items():
            object.__setattr__(layer, name, value)


def _scale_and_shift(layer: keras.layers.Layer, normalized: tf.Tensor) -> tf.Tensor:
    shape = [1] * len(normalized.shape)
    shape[channel_axis(layer)] = -1
    gamma, beta = gamma_and_beta(layer)
    scaled = normalized if gamma is None else normalized * tf.reshape(gamma.value, shape)
    return scaled if beta is None else scaled + tf.reshape(beta.value, shape)


def _record(layer: keras.layers.Layer, taps: list[Tap]) -> None:
    original = layer.call

    def tapped_call(inputs: tf.Tensor, *args, **kwargs) -> tf.Tensor:
        if type(layer) in NORMALIZATIONS:
            with _without(layer, "gamma", "beta", "scale", "center"):
                inputs = original(inputs, *args, **kwargs)
            outputs = _scale_and_shift(layer, inputs)
        else:
            with _without(layer, "activation"):
                outputs = original(inputs, *args, **kwargs)
        taps.append(Tap(layer, inputs, outputs))
        activation = getattr(layer, "activation", None)
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
