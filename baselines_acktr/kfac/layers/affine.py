"""Layers that multiply by a kernel and add a bias: what dense layers and convolutions have in common."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable

import keras
import tensorflow as tf

from baselines_acktr.kfac.factors import Rows, Sampling, append_one
from baselines_acktr.kfac.layers.base import (
    LARGEST,
    Call,
    Factorization,
    RowFactorization,
    Shapes,
    Tap,
    own_variables,
    replaced,
    size,
    trained,
    wrapped,
)


class AffineFactorization(RowFactorization):
    """A kernel K [I, O] with a bias [O] as a last row below it; either may be missing. s = K^T a + bias at every site.

    In G groups the kernel is [G, I, O] and the bias [G, O].

    Args:
      layer: the Keras layer.
      kernel: its kernel; one that is not trained is left out.
      bias: its bias, or None.
      groups: G, or None where there are none.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        kernel: keras.Variable,
        bias: keras.Variable | None,
        groups: int | None = None,
    ) -> None:
        super().__init__(layer, trained(kernel, bias))
        self.has_kernel = kernel.trainable
        self.has_bias = bias is not None and bias.trainable
        self._groups = groups
        kernel_rows, self._columns = self._matrix_shape(kernel.shape)
        self._rows = kernel_rows * self.has_kernel + self.has_bias

    def _matrix_shape(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """I (without a bias) and O for a kernel of this shape."""
        return size(kernel_shape[:-1]), kernel_shape[-1] // (self._groups or 1)

    @property
    def factor_shapes(self) -> Shapes:
        shapes: list[tuple[int, ...]] = []
        for length in (self._rows, self._columns):
            if self._groups:
                shapes.append((self._groups, length, length))
            else:
                shapes.append((length,) if length > LARGEST else (length, length))
        return shapes[0], shapes[1]

    def join(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        parts = list(tensors)
        if self.has_kernel:
            parts[0] = self._kernel_matrix(parts[0])
        if self.has_bias:
            parts[-1] = self._bias_row(parts[-1])
        return tf.concat(parts, axis=-2)

    def split(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        sizes = [self._rows - 1, 1] if len(self.variables) == 2 else [self._rows]
        parts = list(tf.split(matrix, sizes, axis=-2))
        if self.has_kernel:
            parts[0] = self._kernel_tensor(parts[0])
        if self.has_bias:
            parts[-1] = self._bias_tensor(parts[-1])
        return parts

    def _kernel_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        """[..., G O] -> [I, O], or [G, I, O]."""
        if not self._groups:
            return tf.reshape(kernel, [-1, kernel.shape[-1]])
        return tf.transpose(tf.reshape(kernel, [-1, self._groups, self._columns]), [1, 0, 2])

    def _kernel_tensor(self, matrix: tf.Tensor) -> tf.Tensor:
        shape = self.variables[0].shape
        return tf.reshape(matrix if not self._groups else tf.transpose(matrix, [1, 0, 2]), shape)

    def _bias_row(self, bias: tf.Tensor) -> tf.Tensor:
        """[G O] -> [1, O], or [G, 1, O]."""
        return tf.reshape(bias, [self._groups, 1, -1] if self._groups else [1, -1])

    def _bias_tensor(self, row: tf.Tensor) -> tf.Tensor:
        return tf.reshape(row, self.variables[-1].shape)

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        return recording_before_activation(self, taps)

    def rows(self, calls: list[Call], sampling: Sampling) -> list[Rows]:
        return [self._homogeneous(self._call_rows(tap, gradient, sampling)) for tap, gradient in calls]

    def _homogeneous(self, rows: Rows) -> Rows:
        dtype = self.variables[0].dtype
        inputs = tf.cast(rows.inputs, dtype)  # [B, S, D] or [B, S, G, D]
        outputs = tf.cast(rows.outputs, dtype)
        if self.has_bias:
            inputs = append_one(inputs) if self.has_kernel else tf.ones_like(inputs[..., :1])
        return rows._replace(inputs=inputs, outputs=outputs)

    @abc.abstractmethod
    def _call_rows(self, tap: Tap, gradient: tf.Tensor, sampling: Sampling) -> Rows:
        """One call in the common layout, without the homogeneous coordinate."""


def recording_before_activation(factorization: Factorization, taps: list[Tap]) -> contextlib.AbstractContextManager:
    """While it is entered, each call of the factorization's layer adds a tap to `taps`: its inputs and pre-activations.

    A call returns what it always returns: the layer runs without its activation function, and the function is applied
    to the recorded pre-activations after that.
    """
    layer = factorization.layer

    def wrap(original: Callable) -> Callable:
        def tapped_call(inputs: tf.Tensor, *args, **kwargs) -> tf.Tensor:
            with replaced(layer, activation=None):
                outputs = original(inputs, *args, **kwargs)
            taps.append(Tap(factorization, inputs, outputs))
            activation = getattr(layer, "activation", None)
            return outputs if activation is None else activation(outputs)

        return tapped_call

    return wrapped(layer, "call", wrap)


class DenseFactorization(AffineFactorization):
    """`Dense` (Martens & Grosse 2015, section 3): time steps, and other axes before the last, are sites."""

    def _call_rows(self, tap: Tap, gradient: tf.Tensor, sampling: Sampling) -> Rows:
        return dense_rows(tap, gradient)


def dense_rows(tap: Tap, gradient: tf.Tensor) -> Rows:
    """[B, ..., D] -> [B, S, D], for inputs and gradients."""
    return Rows(sites_of(tap.inputs), sites_of(gradient), site_count(tap.inputs), tap.mask)


def site_count(tensor: tf.Tensor) -> int | tf.Tensor:
    """How many sites each row of a tensor [B, ..., D] has: the product of the axes between the first and the last.

    An int where the shape says it, such as 49 for [B, 7, 7, D]; else a scalar tensor of the same dtype.
    """
    sites = tensor.shape[1:-1]
    if None in sites:
        return tf.cast(tf.reduce_prod(tf.shape(tensor)[1:-1]), tensor.dtype)
    return size(sites)


def sites_of(tensor: tf.Tensor) -> tf.Tensor:
    """[B, ..., D] -> [B, S, D]."""
    sites = tensor.shape[1:-1]
    if None in sites:
        return tf.reshape(tensor, [tf.shape(tensor)[0], -1, tensor.shape[-1]])
    return tf.reshape(tensor, [-1, size(sites), tensor.shape[-1]])


def dense(layer: keras.layers.Dense) -> list[Factorization]:
    """How the Fisher of a `Dense` is factored; [] where it has weights beside kernel and bias."""
    if {id(v) for v in own_variables(layer)} - {id(v) for v in (layer.kernel, layer.bias)}:
        return []
    return [DenseFactorization(layer, layer.kernel, layer.bias)]
