"""What K-FAC asks of a layer type: `Factorization`, and what its calls leave behind: `Tap`."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.factors import Rows, Sampling, kronecker_factors

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
LARGEST = 8192  # a factor with more rows keeps its diagonal alone


class Tap(NamedTuple):
    """One call of one layer, as some of its weights see it.

    Attributes:
      factorization: of these weights.
      inputs: what they act on, [B, ...].
      outputs: what they give (before the layer's own activation function), [B, ...].
      mask: [B, S] bool, which sites there are; None: all.
    """

    factorization: Factorization
    inputs: Any
    outputs: tf.Tensor
    mask: tf.Tensor | None = None

    @property
    def layer(self) -> keras.layers.Layer:
        """The Keras layer."""
        return self.factorization.layer


class UnsupportedLayerError(TypeError):
    """A layer has trainable weights that K-FAC cannot train, or has no factors for where they are asked for."""


Call = tuple[Tap, tf.Tensor]  # a tap, and the gradient of the sampled log-likelihood, SUMMED over rows, at its outputs


class Factorization(abc.ABC):
    """All that K-FAC knows of some weights of one layer, which share a block A (x) S of the Fisher.

    The weights, joined, are a matrix W [I, O], or [G, I, O] where they come in independent groups. A factor is a matrix
    for each group, or a vector where only its diagonal is kept (see `kfac.factors`).

    Attributes:
      layer: the Keras layer.
      variables: the weights of this block, in the order of `join`.
      is_known_type: whether the type of the layer is known; otherwise the block is its diagonal alone.
      is_recorded: whether the block is made of what calls leave behind, and not of the weights' gradient.
      is_mean_over_draws: whether the `means` of several draws of targets may be averaged. Otherwise they are stacked.
    """

    is_known_type = True
    is_recorded = True
    is_mean_over_draws = True

    def __init__(self, layer: keras.layers.Layer, variables: list[keras.Variable]) -> None:
        self.layer = layer
        self.variables = variables

    @property
    @abc.abstractmethod
    def factor_shapes(self) -> Shapes:
        """The shapes of A and S."""

    @abc.abstractmethod
    def join(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        """Joins the weights (or their gradients), in their order, to the matrix."""

    @abc.abstractmethod
    def split(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        """Inverse of `join`: the parts of a matrix in the shapes of the weights."""

    @abc.abstractmethod
    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        """Within the context each call of the layer appends what it leaves behind to `taps`."""

    @abc.abstractmethod
    def factors(self, calls: list[Call], sampling: Sampling) -> tuple[tf.Tensor, tf.Tensor]:
        """A and S of these weights from all calls of their layer on one batch."""

    def means(self, calls: list[Call], sampling: Sampling) -> tuple[tf.Tensor, tf.Tensor]:
        """What the factors of a batch that ranks share are made of, as a mean over the ranks: the factors themselves,
        unless a type of layer says otherwise."""
        return self.factors(calls, sampling)

    def from_means(self, a: tf.Tensor, s: tf.Tensor, ranks: int) -> tuple[tf.Tensor, tf.Tensor]:
        """A and S of a whole batch, from what `means` gave on each of its parts.

        Args:
          a, s: means over the ranks. Those of several draws are stacked, [D, ...], unless `is_mean_over_draws`.
          ranks: how many there are.
        """
        return a, s


class RowFactorization(Factorization):
    """Weights whose factors are made of rows, as most are: Kronecker-factored curvature proper."""

    @abc.abstractmethod
    def rows(self, calls: list[Call], sampling: Sampling) -> list[Rows]:
        """The calls of the layer on one batch in the common layout (see `kfac.factors`)."""

    def factors(self, calls: list[Call], sampling: Sampling) -> tuple[tf.Tensor, tf.Tensor]:
        a_shape, s_shape = self.factor_shapes
        diagonals = {"diagonal_a": len(a_shape) == 1, "diagonal_s": len(s_shape) == 1}
        return kronecker_factors(self.rows(calls, sampling), sampling, **diagonals)


def is_plain(layer: keras.layers.Layer, base: type, *methods: str) -> bool:
    """Whether a layer computes what `base` does: it is one, or derived from it without another way to compute.

    Args:
      layer: the layer.
      base: a layer class of Keras.
      *methods: names of attributes that a subclass must not have redefined, beside `call`.
    """
    if not isinstance(layer, base) or getattr(layer, "quantization_mode", None) is not None:
        return False
    if getattr(layer, "lora_enabled", False):
        return False
    return all(getattr(type(layer), name, None) is getattr(base, name, None) for name in ("call", "__call__", *methods))


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The trainable weights of a layer itself, not those of layers within it."""
    if not layer.trainable:
        return []
    return [variable for variable in layer._trainable_variables if variable.trainable]


def trained(*variables: keras.Variable | None) -> list[keras.Variable]:
    """The weights that are trained, of some of which a layer may have None instead."""
    return [variable for variable in variables if variable is not None and variable.trainable]


def size(shape: tuple[int, ...]) -> int:
    """How many numbers a tensor of this shape has."""
    return int(np.prod(shape))


def parts_of(matrix: tf.Tensor, variables: list[keras.Variable], axis: int) -> list[tf.Tensor]:
    """Cuts a matrix along an axis into the parts of these weights, and gives each its weight's shape."""
    others = size(matrix.shape) // matrix.shape[axis]
    sizes = [size(variable.shape) // others for variable in variables]
    parts = tf.split(matrix, sizes, axis)
    return [tf.reshape(part, variable.shape) for part, variable in zip(parts, variables, strict=True)]


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Within the context these attributes of a layer have other values; Keras' tracking of variables is bypassed.

    Attributes that the layer does not have are not set.
    """
    former = {name: getattr(owner, name) for name in values if hasattr(owner, name)}
    for name in former:
        object.__setattr__(owner, name, values[name])
    try:
        yield
    finally:
        for name, value in former.items():
            object.__setattr__(owner, name, value)


@contextlib.contextmanager
def wrapped(layer: keras.layers.Layer, name: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Within the context the method `name` of a layer is replaced by `wrap(method)`."""
    former = vars(layer).get(name)
    object.__setattr__(layer, name, wrap(getattr(layer, name)))
    try:
        yield
    finally:
        if former is None:
            object.__delattr__(layer, name)
        else:
            object.__setattr__(layer, name, former)
