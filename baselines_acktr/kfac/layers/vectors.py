"""Layers whose weights act on each number of a row alone: normalizations, PReLU, free vectors.

Their block is made of each row's whole gradient g [N]: A = 1 and S = E[g g^T], so it is their Fisher. Where a row has
many numbers, S keeps its diagonal alone.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable

import keras
import tensorflow as tf

from baselines_acktr.kfac.factors import Rows, Sampling
from baselines_acktr.kfac.layers.base import (
    Call,
    Factorization,
    RowFactorization,
    Shapes,
    Tap,
    own_variables,
    parts_of,
    replaced,
    size,
    trained,
    wrapped,
)

LONGEST = 1024  # of weights with several axes and more numbers than this, S keeps its diagonal alone


class VectorFactorization(RowFactorization):
    """Weights side by side in one row W [1, N]. For each row of a batch the whole gradient of W is known.

    Args:
      layer: the Keras layer.
      variables: its weights.
      is_diagonal: whether S keeps its diagonal alone.
    """

    def __init__(self, layer: keras.layers.Layer, variables: list[keras.Variable], is_diagonal: bool = False) -> None:
        super().__init__(layer, variables)
        self._is_diagonal = is_diagonal

    @property
    def factor_shapes(self) -> Shapes:
        length = sum(size(variable.shape) for variable in self.variables)
        return (1, 1), (length,) if self._is_diagonal else (length, length)

    def join(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        return tf.concat([tf.reshape(tensor, [1, -1]) for tensor in tensors], axis=1)

    def split(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        return parts_of(matrix, self.variables, axis=1)

    def rows(self, calls: list[Call], sampling: Sampling) -> list[Rows]:
        found = []
        for tap, gradient in calls:
            rows = tf.cast(self._row_gradients(tap, gradient), self.variables[0].dtype)[:, None, :]  # [B, 1, N]
            found.append(Rows(tf.ones_like(rows[..., :1]), rows, 1))
        return found

    def factors(self, calls: list[Call], sampling: Sampling) -> tuple[tf.Tensor, tf.Tensor]:
        return super().factors(calls, sampling._replace(row_weights=None))  # A is 1 whatever the rows weigh

    @abc.abstractmethod
    def _row_gradients(self, tap: Tap, gradient: tf.Tensor) -> tf.Tensor:
        """Each row's gradient of the weights, [B, N]."""


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


class FreeVectorFactorization(VectorFactorization):
    """A `FreeVector`."""

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        return _recording(self, taps)

    def _row_gradients(self, tap: Tap, gradient: tf.Tensor) -> tf.Tensor:
        return gradient


class PreluFactorization(VectorFactorization):
    """A `PReLU`: the slopes of negative numbers, some of whose axes may be shared."""

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        return _recording(self, taps)

    def _row_gradients(self, tap: Tap, gradient: tf.Tensor) -> tf.Tensor:
        products = tf.minimum(tap.inputs, 0) * gradient
        shared = [axis + 1 for axis, length in enumerate(self.variables[0].shape) if length == 1]
        return tf.reshape(tf.reduce_sum(products, shared, keepdims=True), [-1, size(self.variables[0].shape)])


class NormalizationFactorization(VectorFactorization):
    """The scale and the shift of a normalization, over one axis or several."""

    def __init__(self, layer: keras.layers.Layer, scale: keras.Variable | None, shift: keras.Variable | None) -> None:
        variables = trained(scale, shift)
        length = sum(size(variable.shape) for variable in variables)
        super().__init__(layer, variables, is_diagonal=len(variables[0].shape) > 1 and length > LONGEST)
        self._scale = scale
        self._shift = shift

    def _axes(self, rank: int) -> list[int]:
        """The axes of the layer's inputs that the weights belong to, ascending."""
        axis = self.layer.axis
        return sorted(one % rank for one in ([axis] if isinstance(axis, int) else axis))

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        layer = self.layer

        def wrap(original: Callable) -> Callable:
            def tapped_call(inputs: tf.Tensor, *args, **kwargs) -> tf.Tensor:
                with replaced(layer, gamma=None, beta=None, scale=None, center=None):
                    normalized = original(inputs, *args, **kwargs)
                outputs = self._scale_and_shift(normalized)
                taps.append(Tap(self, normalized, outputs))
                return outputs

            return tapped_call

        return wrapped(layer, "call", wrap)

    def _scale_and_shift(self, normalized: tf.Tensor) -> tf.Tensor:
        axes = self._axes(len(normalized.shape))
        shape = [normalized.shape[axis] if axis in axes else 1 for axis in range(len(normalized.shape))]
        scaled = normalized if self._scale is None else normalized * self._broadcast(self._scale, shape, normalized)
        return scaled if self._shift is None else scaled + self._broadcast(self._shift, shape, normalized)

    def _broadcast(self, weight: keras.Variable, shape: list[int], like: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.reshape(weight.value, shape), like.dtype)

    def _row_gradients(self, tap: Tap, gradient: tf.Tensor) -> tf.Tensor:
        rank = len(gradient.shape)
        sites = [axis for axis in range(1, rank) if axis not in self._axes(rank)]
        products = {id(self._scale): tap.inputs * gradient, id(self._shift): gradient}
        parts = [tf.reduce_sum(products[id(variable)], sites) for variable in self.variables]
        return tf.concat([tf.reshape(part, [-1, size(part.shape[1:])]) for part in parts], axis=-1)


def _recording(factorization: Factorization, taps: list[Tap]) -> contextlib.AbstractContextManager:
    """Records inputs and outputs of each call of a layer."""

    def wrap(original: Callable) -> Callable:
        def tapped_call(inputs: tf.Tensor, *args, **kwargs) -> tf.Tensor:
            outputs = original(inputs, *args, **kwargs)
            taps.append(Tap(factorization, inputs, outputs))
            return outputs

        return tapped_call

    return wrapped(factorization.layer, "call", wrap)


def _are_all(layer: keras.layers.Layer, *variables: keras.Variable | None) -> bool:
    return {id(variable) for variable in own_variables(layer)} <= {id(variable) for variable in variables}


def free_vector(layer: FreeVector) -> list[Factorization]:
    """How the Fisher of a `FreeVector` is factored; [] where it has further weights."""
    return [FreeVectorFactorization(layer, [layer.vector])] if _are_all(layer, layer.vector) else []


def prelu(layer: keras.layers.PReLU) -> list[Factorization]:
    """How the Fisher of a `PReLU` is factored; [] where it has further weights."""
    if not _are_all(layer, layer.alpha):
        return []
    return [PreluFactorization(layer, [layer.alpha], is_diagonal=size(layer.alpha.shape) > LONGEST)]


def normalization(layer: keras.layers.Layer) -> list[Factorization]:
    """How the Fisher of a batch, group, layer or RMS normalization is factored; [] where it has further weights."""
    is_rms = isinstance(layer, keras.layers.RMSNormalization)
    scale = layer.scale if is_rms else getattr(layer, "gamma", None)
    shift = getattr(layer, "beta", None)
    if not _are_all(layer, scale, shift) or getattr(layer, "rms_scaling", False):
        return []
    return [NormalizationFactorization(layer, scale, shift)]
