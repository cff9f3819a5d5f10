"""Convolutions: what each output site sees is a row (Grosse & Martens 2016)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.factors import Rows, Sampling, choose_sites
from baselines_acktr.kfac.layers.affine import AffineFactorization, DenseFactorization
from baselines_acktr.kfac.layers.base import Factorization, Tap, own_variables, size, wrapped

Sizes = tuple[int, ...]  # along each axis of an image


def channels_last(layer: keras.layers.Layer, tensor: tf.Tensor) -> tf.Tensor:
    """A convolution's inputs or outputs as [B, ..., C]."""
    return tensor if layer.data_format == "channels_last" else keras.ops.moveaxis(tensor, 1, -1)


def _pad(layer: keras.layers.Layer, images: tf.Tensor) -> tf.Tensor:
    """Adds the zeros around images [B, ..., C] that the layer's padding asks for."""
    if layer.padding == "valid":
        return images
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    if layer.padding == "causal":
        return tf.pad(images, [(0, 0), (spans[0] - 1, 0), (0, 0)])
    margins = [_same_padding(*axis) for axis in zip(images.shape[1:-1], spans, layer.strides, strict=True)]
    return tf.pad(images, [(0, 0), *margins, (0, 0)])


def _same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def _patch_index(layer: keras.layers.Layer, padded: Sizes, output_shape: Sizes) -> np.ndarray:
    """Flat pixel index of every weight at every site, [sites, kernel positions], in a padded image of these sizes."""
    index = np.zeros((1, 1), int)
    axes = zip(padded, output_shape, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    for length, sites, kernel, stride, dilation in axes:
        along = np.arange(sites)[:, None] * stride + np.arange(kernel) * dilation
        index = index[:, None, :, None] * length + along[None, :, None, :]
        index = index.reshape(index.shape[0] * sites, -1)
    return index


def patches(
    layer: keras.layers.Layer, images: tf.Tensor, output_shape: Sizes, sites: tf.Tensor | None = None
) -> tf.Tensor:
    """What each output site of a convolution sees.

    Args:
      layer: the convolution; its kernel size, stride, padding and dilation are honoured.
      images: [B, ..., C], with one axis for each of the kernel's.
      output_shape: sizes of the layer's output along these axes.
      sites: indices of the output sites wanted, [S]; None for all, in row-major order.

    Returns:
      [B, S, K, C] for K positions of the kernel, in row-major order.
    """
    images = _pad(layer, images)
    _, *padded, channels = images.shape
    index = tf.constant(_patch_index(layer, tuple(padded), output_shape), tf.int32)
    if sites is not None:
        index = tf.gather(index, sites)
    pixels = tf.gather(tf.reshape(images, [-1, size(padded), channels]), tf.reshape(index, [-1]), axis=1)
    return tf.reshape(pixels, [tf.shape(images)[0], tf.shape(index)[0], index.shape[1], channels])


def output_sites(
    layer: keras.layers.Layer, gradient: tf.Tensor, sampling: Sampling
) -> tuple[tf.Tensor, tf.Tensor | None, Sizes]:
    """The gradient at a convolution's outputs as [B, S', O], which sites these are (None: all) and its sizes."""
    gradient = channels_last(layer, gradient)
    output_shape = tuple(gradient.shape[1:-1])
    sites = choose_sites(size(output_shape), sampling)
    outputs = tf.reshape(gradient, [-1, size(output_shape), gradient.shape[-1]])
    return outputs if sites is None else tf.gather(outputs, sites, axis=1), sites, output_shape


class ConvolutionFactorization(AffineFactorization):
    """A convolution of sequences, images or volumes, in G groups or none."""

    def _call_rows(self, tap: Tap, gradient: tf.Tensor, sampling: Sampling) -> Rows:
        outputs, sites, output_shape = output_sites(self.layer, gradient, sampling)
        inputs = patches(self.layer, channels_last(self.layer, tap.inputs), output_shape, sites)
        if self._groups:
            inputs = self._grouped(inputs)  # [B, S', K, C] -> [B, S', G, K C / G]
            outputs = in_groups(outputs, self._groups)  # [B, S', O] -> [B, S', G, O / G]
        else:
            inputs = tf.reshape(inputs, [-1, outputs.shape[1] or tf.shape(outputs)[1], size(inputs.shape[2:])])
        return Rows(inputs, outputs, size(output_shape))

    def _grouped(self, inputs: tf.Tensor) -> tf.Tensor:
        """[B, S, K, C] -> [B, S, G, K C / G]."""
        split = in_groups(inputs, self._groups)  # [B, S, K, G, C / G]
        _, _, kernel, groups, channels = split.shape
        return tf.reshape(tf.transpose(split, [0, 1, 3, 2, 4]), [-1, tf.shape(inputs)[1], groups, kernel * channels])


def in_groups(tensor: tf.Tensor, groups: int | None) -> tf.Tensor:
    """[..., C] -> [..., G, C / G]."""
    assert groups
    shape = tf.shape(tensor)[:-1]
    result = tf.reshape(tensor, tf.concat([shape, [groups, tensor.shape[-1] // groups]], axis=0))
    result.set_shape([*tensor.shape[:-1], groups, tensor.shape[-1] // groups])
    return result


class DepthwiseFactorization(ConvolutionFactorization):
    """A depthwise convolution: each of C channels is a group of its own, with a kernel [K, M] for M multiples."""

    def _matrix_shape(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        return size(kernel_shape[:-2]), kernel_shape[-1]


class SeparableFactorization(DepthwiseFactorization):
    """The depthwise half of a separable convolution; each call leaves a tap for the pointwise half, too."""

    def __init__(self, layer: keras.layers.Layer, pointwise: PointwiseFactorization) -> None:
        channels = layer.depthwise_kernel.shape[-2]
        super().__init__(layer, layer.depthwise_kernel, None, channels)
        self._pointwise = pointwise

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        layer = self.layer

        def wrap(original: Callable) -> Callable:
            def tapped_call(inputs: tf.Tensor) -> tf.Tensor:
                between = keras.ops.depthwise_conv(
                    inputs,
                    layer.depthwise_kernel,
                    strides=layer.strides,
                    padding=layer.padding,
                    data_format=layer.data_format,
                    dilation_rate=layer.dilation_rate,
                )
                outputs = self._pointwise.outputs(between)

                taps.append(Tap(self, inputs, between))
                taps.append(Tap(self._pointwise, between, outputs))
                return outputs if layer.activation is None else layer.activation(outputs)

            return tapped_call

        return wrapped(layer, "call", wrap)


class PointwiseFactorization(DenseFactorization):
    """The pointwise half of a separable convolution: a dense layer at every site."""

    def outputs(self, inputs: tf.Tensor) -> tf.Tensor:
        """The pre-activations [B, ..., O] of inputs [B, ..., C]; channels where the layer's data format has them."""
        layer = self.layer
        outputs = keras.ops.conv(inputs, layer.pointwise_kernel, data_format=layer.data_format)
        if layer.bias is None:
            return outputs
        axis = -1 if layer.data_format == "channels_last" else 1
        shape = [1] * len(outputs.shape)
        shape[axis] = layer.filters
        return outputs + tf.reshape(layer.bias, shape)

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()  # the depthwise half records for it

    def _call_rows(self, tap: Tap, gradient: tf.Tensor, sampling: Sampling) -> Rows:
        outputs, sites, output_shape = output_sites(self.layer, gradient, sampling)
        inputs = channels_last(self.layer, tap.inputs)
        inputs = tf.reshape(inputs, [-1, size(output_shape), inputs.shape[-1]])
        return Rows(inputs if sites is None else tf.gather(inputs, sites, axis=1), outputs, size(output_shape))


class TransposedFactorization(AffineFactorization):
    """A transposed convolution: what each site of the output, the larger image, is made of is a row.

    Keras keeps its kernel as [..., O, C]; as a matrix it is [K C, O] for K positions of the kernel.
    """

    def _matrix_shape(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        return size(kernel_shape[:-2]) * kernel_shape[-1], kernel_shape[-2]

    def _kernel_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.linalg.matrix_transpose(kernel), [-1, self._columns])

    def _kernel_tensor(self, matrix: tf.Tensor) -> tf.Tensor:
        *positions, outputs, channels = self.variables[0].shape
        return tf.linalg.matrix_transpose(tf.reshape(matrix, [*positions, channels, outputs]))

    def _call_rows(self, tap: Tap, gradient: tf.Tensor, sampling: Sampling) -> Rows:
        outputs, sites, output_shape = output_sites(self.layer, gradient, sampling)
        inputs = self._patches(channels_last(self.layer, tap.inputs))
        return Rows(inputs if sites is None else tf.gather(inputs, sites, axis=1), outputs, size(output_shape))

    def _patches(self, images: tf.Tensor) -> tf.Tensor:
        """The rows [B, S, K C]: the outputs of kernels that are 1 at one position for one channel, and 0 elsewhere."""
        layer = self.layer
        channels = images.shape[-1]
        columns = size(layer.kernel_size) * channels
        unit = np.eye(columns).reshape(*layer.kernel_size, channels, columns)

        found = keras.ops.conv_transpose(
            images,
            tf.constant(np.swapaxes(unit, -1, -2), images.dtype),
            strides=list(layer.strides),
            padding=layer.padding,
            output_padding=layer.output_padding,
            dilation_rate=layer.dilation_rate,
            data_format="channels_last",
        )  # [B, ..., K C]
        return tf.reshape(found, [-1, size(found.shape[1:-1]), columns])


def _all_of(layer: keras.layers.Layer, *variables: keras.Variable | None) -> bool:
    return {id(variable) for variable in own_variables(layer)} <= {id(variable) for variable in variables}


def convolution(layer: keras.layers.Layer) -> list[Factorization]:
    """How the Fisher of a `Conv1D`, `Conv2D` or `Conv3D` is factored; [] where it has further weights."""
    if not _all_of(layer, layer.kernel, layer.bias):
        return []
    return [ConvolutionFactorization(layer, layer.kernel, layer.bias, layer.groups if layer.groups > 1 else None)]


def depthwise(layer: keras.layers.Layer) -> list[Factorization]:
    """How the Fisher of a `DepthwiseConv1D` or `DepthwiseConv2D` is factored; [] where it has further weights."""
    if not _all_of(layer, layer.kernel, layer.bias):
        return []
    return [DepthwiseFactorization(layer, layer.kernel, layer.bias, layer.kernel.shape[-2])]


def separable(layer: keras.layers.Layer) -> list[Factorization]:
    """How the Fisher of a `SeparableConv1D` or `SeparableConv2D` is factored, in two blocks.

    The first is of the depthwise kernel, the second of the pointwise kernel and bias. [] where it has further weights
    or one of the kernels is not trained.
    """
    kernels = layer.depthwise_kernel, layer.pointwise_kernel
    if not _all_of(layer, *kernels, layer.bias) or not all(kernel.trainable for kernel in kernels):
        return []
    pointwise = PointwiseFactorization(layer, layer.pointwise_kernel, layer.bias)
    return [SeparableFactorization(layer, pointwise), pointwise]


def transposed(layer: keras.layers.Layer) -> list[Factorization]:
    """How the Fisher of a `Conv1DTranspose` (or 2D, 3D) is factored; [] where it has further weights."""
    if not _all_of(layer, layer.kernel, layer.bias):
        return []
    return [TransposedFactorization(layer, layer.kernel, layer.bias)]
