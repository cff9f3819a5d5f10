"""Kronecker factors of each layer type, as pure functions on tensors (Martens & Grosse 2015; Grosse & Martens 2016).

Every layer is brought to one layout: input rows `a` [B, S, I] with the homogeneous coordinate (a trailing 1 where the
layer has a bias) and output rows `s` [B, S, O], where S counts the sites at which one row uses the weights: 1 for a
dense layer, the positions of a convolution's output, the time steps of a dense layer on a sequence. Then

    A = mean over rows and sites of a a^T          [I, I]
    S = mean over rows, SUM over sites, of s s^T   [O, O]

so the whole site count stands in S, and A (x) S is KFC's approximation (Grosse & Martens 2016, theorem 1) of the Fisher
of W [I, O]. Factored damping does not depend on where the count stands.

The scale and shift of a normalization are a row vector W [1, O] that acts on a constant: A = 1, and S has each row's
whole gradient, so their block is their Fisher.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.taps import CONVOLUTIONS, NORMALIZATIONS, FreeVector, Tap, channel_axis, gamma_and_beta

Pair = tuple[int, int]  # height and width


def _joint(shapes: list[tuple[int, ...]]) -> int:
    """The axis of a layer's matrix along which its weights lie: a bias below its kernel, vectors side by side."""
    return 1 if len(shapes[0]) == 1 else 0


def join(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Joins the weights of a layer (or their gradients), in their order, to a matrix [I, O]."""
    rows = [tf.reshape(tensor, [-1, tensor.shape[-1]]) for tensor in tensors]
    return tf.concat(rows, axis=_joint([tensor.shape for tensor in tensors]))


def split(layer: keras.layers.Layer, matrix: tf.Tensor) -> list[tf.Tensor]:
    """Inverse of `join`: the parts of a matrix [I, O] in the shapes of the layer's weights."""
    shapes = [variable.shape for variable in layer.trainable_variables]
    axis = _joint(shapes)
    sizes = [int(np.prod(shape if axis else shape[:-1])) for shape in shapes]
    return [tf.reshape(part, shape) for part, shape in zip(tf.split(matrix, sizes, axis), shapes, strict=True)]


def _append_one(rows: tf.Tensor) -> tf.Tensor:
    """[B, S, D] -> [B, S, D + 1] with a trailing 1: the homogeneous coordinate that stands for the bias."""
    return tf.concat([rows, tf.ones_like(rows[..., :1])], axis=-1)


def _choose_sites(count: int, limit: int, generator: tf.random.Generator) -> tf.Tensor | None:
    """`limit` of `count` sites without replacement, each equally likely; None for all of them."""
    if limit == 0 or count <= limit:
        return None
    return tf.argsort(generator.uniform([count]))[:limit]


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _geometry(layer: keras.layers.Layer) -> tuple[Pair, Pair, Pair]:
    """Kernel size, strides and dilation, each by height and width; a sequence is an image of height 1."""
    height = (1,) * (2 - len(layer.kernel_size))
    return height + layer.kernel_size, height + layer.strides, height + layer.dilation_rate


def _pad(layer: keras.layers.Layer, images: tf.Tensor) -> tf.Tensor:
    if layer.padding == "valid":
        return images
    kernel, strides, dilation = _geometry(layer)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if layer.padding == "causal":
        return tf.pad(images, [(0, 0), (0, 0), (spans[1] - 1, 0), (0, 0)])
    height, width = images.shape[1:3]
    rows = _same_padding(height, spans[0], strides[0])
    columns = _same_padding(width, spans[1], strides[1])
    return tf.pad(images, [(0, 0), rows, columns, (0, 0)])


def _patch_index(layer: keras.layers.Layer, width: int, output_shape: Pair) -> np.ndarray:
    """Flat pixel index of every weight at every site, [sites, kh * kw], in a padded image of the given width."""
    (kh, kw), (sh, sw), (dh, dw) = _geometry(layer)
    corner = np.arange(output_shape[0])[:, None] * sh * width + np.arange(output_shape[1]) * sw
    offset = np.arange(kh)[:, None] * dh * width + np.arange(kw) * dw
    return corner.reshape(-1, 1) + offset.reshape(1, -1)


def patches(layer: keras.layers.Layer, images: tf.Tensor, output_shape: Pair, sites=None) -> tf.Tensor:
    """What each output site of a convolution sees.

    Args:
      layer: the convolution; its kernel size, stride, padding and dilation are honoured.
      images: [B, H, W, C], with H = 1 for sequences.
      output_shape: height and width of the layer's output.
      sites: indices of the output sites wanted, [S]; None for all, in row-major order.

    Returns:
      [B, S, kh * kw * C], in the order of `tf.reshape(kernel, [-1, O])`.
    """
    images = _pad(layer, images)
    _, height, width, channels = images.shape
    index = tf.constant(_patch_index(layer, width, output_shape), tf.int32)
    if sites is not None:
        index = tf.gather(index, sites)
    pixels = tf.gather(tf.reshape(images, [-1, height * width, channels]), tf.reshape(index, [-1]), axis=1)
    return tf.reshape(pixels, [tf.shape(images)[0], tf.shape(index)[0], index.shape[1] * channels])


def _images(layer: keras.layers.Layer, tensor: tf.Tensor) -> tf.Tensor:
    """A convolution's inputs or outputs as [B, H, W, C]."""
    channels_last = tensor if layer.data_format == "channels_last" else keras.ops.moveaxis(tensor, 1, -1)
    return channels_last if len(layer.kernel_size) == 2 else channels_last[:, None]


def _conv_rows(tap: Tap, gradient: tf.Tensor, max_sites: int, generator: tf.random.Generator):
    gradient = _images(tap.layer, gradient)
    output_shape = tuple(gradient.shape[1:3])
    count = output_shape[0] * output_shape[1]
    sites = _choose_sites(count, max_sites, generator)
    inputs = patches(tap.layer, _images(tap.layer, tap.inputs), output_shape, sites)
    outputs = tf.reshape(gradient, [-1, count, gradient.shape[-1]])
    return inputs, outputs if sites is None else tf.gather(outputs, sites, axis=1), count


def _dense_rows(tap: Tap, gradient: tf.Tensor):
    count = int(np.prod(tap.inputs.shape[1:-1]))
    inputs = tf.reshape(tap.inputs, [-1, count, tap.inputs.shape[-1]])
    return inputs, tf.reshape(gradient, [-1, count, gradient.shape[-1]]), count


def _normalization_rows(tap: Tap, gradient: tf.Tensor) -> tf.Tensor:
    """Each row's gradient of scale and shift, [B, 1, O]."""
    rank = len(gradient.shape)
    sites = [axis for axis in range(1, rank) if axis != channel_axis(tap.layer) % rank]
    gamma, beta = gamma_and_beta(tap.layer)
    parts = []
    if gamma is not None:
        parts.append(tf.reduce_sum(tap.inputs * gradient, sites))
    if beta is not None:
        parts.append(tf.reduce_sum(gradient, sites))
    return tf.concat(parts, axis=-1)[:, None, :]


def factor_rows(
    tap: Tap, gradient: tf.Tensor, max_sites: int, generator: tf.random.Generator
) -> tuple[tf.Tensor, tf.Tensor, int]:
    """Brings one tap to the common layout.

    Args:
      tap: the layer call.
      gradient: gradient of the sampled log-likelihood, SUMMED over rows, at `tap.outputs`; same shape.
      max_sites: at most so many sites are taken, drawn uniformly without replacement; 0 takes all.
      generator: draws the sites.

    Returns:
      Input rows [B, S', I], output rows [B, S', O] and S, the number of sites that S' were drawn from.
    """
    if isinstance(tap.layer, FreeVector):
        return tf.ones_like(gradient[:, None, :1]), gradient[:, None, :], 1
    if isinstance(tap.layer, NORMALIZATIONS):
        rows = _normalization_rows(tap, gradient)
        return tf.ones_like(rows[..., :1]), rows, 1
    if isinstance(tap.layer, CONVOLUTIONS):
        inputs, outputs, count = _conv_rows(tap, gradient, max_sites, generator)
    else:
        inputs, outputs, count = _dense_rows(tap, gradient)
    return _append_one(inputs) if tap.layer.use_bias else inputs, outputs, count


def _second_moment(rows: tf.Tensor) -> tf.Tensor:
    """[B, S, D] -> mean over rows and sites of the outer product, [D, D]."""
    flat = tf.reshape(rows, [-1, rows.shape[-1]])
    return tf.matmul(flat, flat, transpose_a=True) / tf.cast(tf.shape(flat)[0], flat.dtype)


def kronecker_factors(
    taps: list[Tap], gradients: list[tf.Tensor], max_sites: int, generator: tf.random.Generator
) -> tuple[tf.Tensor, tf.Tensor]:
    """The factors A [I, I] and S [O, O] of one layer from all its calls; several calls count as further sites."""
    calls = [factor_rows(tap, gradient, max_sites, generator) for tap, gradient in zip(taps, gradients, strict=True)]
    total = sum(count for _, _, count in calls)
    a = tf.add_n([_second_moment(inputs) * (count / total) for inputs, _, count in calls])
    s = tf.add_n([_second_moment(outputs) * count for _, outputs, count in calls])
    return a, s
