"""`EinsumDense`, and with it the projections of attention: letters of its equation say what its axes are."""

from __future__ import annotations

import string
from typing import NamedTuple

import keras
import tensorflow as tf

from baselines_acktr.kfac.factors import Rows, Sampling
from baselines_acktr.kfac.layers.affine import AffineFactorization
from baselines_acktr.kfac.layers.base import Factorization, Tap, own_variables, size
from baselines_acktr.kfac.layers.diagonal import DiagonalFactorization


class Letters(NamedTuple):
    """The letters of an equation `inputs,kernel->outputs`, by what their axes are.

    Attributes:
      inputs, kernel, outputs: the axes of each tensor in order.
      sites: axes of inputs and outputs that the kernel does not have; the first of them is the batch.
      groups: axes that all three have.
      rows: axes of inputs and kernel that are summed over.
      columns: axes of kernel and outputs.
    """

    inputs: str
    kernel: str
    outputs: str
    sites: str
    groups: str
    rows: str
    columns: str


def letters_of(equation: str, rank: int) -> Letters | None:
    """The letters of an equation, with an ellipsis written out for inputs of a rank; None if it is no linear map of
    each site's numbers."""
    equation = equation.replace(" ", "")
    missing = rank - len(equation.split(",")[0].replace("...", ""))
    unused = [letter for letter in string.ascii_letters if letter not in equation]
    equation = equation.replace("...", "".join(unused[:missing]) if missing > 0 else "")
    inputs, _, others = equation.partition(",")
    kernel, _, outputs = others.partition("->")
    if any(len(set(part)) < len(part) for part in (inputs, kernel, outputs)):
        return None

    sites = "".join(letter for letter in inputs if letter not in kernel)
    groups = "".join(letter for letter in kernel if letter in inputs and letter in outputs)
    rows = "".join(letter for letter in kernel if letter in inputs and letter not in outputs)
    columns = "".join(letter for letter in kernel if letter in outputs and letter not in inputs)
    is_complete = len(groups + rows + columns) == len(kernel) and set(sites + groups + columns) == set(outputs)
    if not (is_complete and sites and sites[0] == inputs[0] == outputs[0]):
        return None
    return Letters(inputs, kernel, outputs, sites, groups, rows, columns)


class EinsumFactorization(AffineFactorization):
    """An `EinsumDense`: its summed axes are rows, its new ones columns, those that all share are groups."""

    def __init__(self, layer: keras.layers.EinsumDense, letters: Letters, bias: keras.Variable | None) -> None:
        self._letters = letters
        self._sizes = dict(zip(letters.kernel, layer.kernel.shape, strict=True))
        super().__init__(layer, layer.kernel, bias, self._size(letters.groups) if letters.groups else None)

    def _size(self, letters: str) -> int:
        return size(self._shape(letters))

    def _shape(self, letters: str) -> tuple[int, ...]:
        return tuple(self._sizes[letter] for letter in letters)

    def _matrix_shape(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        return self._size(self._letters.rows), self._size(self._letters.columns)

    def _group_shape(self) -> list[int]:
        return [self._groups] if self._groups else []

    def _kernel_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        order = self._letters.groups + self._letters.rows + self._letters.columns
        return tf.reshape(_ordered(kernel, self._letters.kernel, order), [*self._group_shape(), -1, self._columns])

    def _kernel_tensor(self, matrix: tf.Tensor) -> tf.Tensor:
        order = self._letters.groups + self._letters.rows + self._letters.columns
        return _ordered(tf.reshape(matrix, self._shape(order)), order, self._letters.kernel)

    def _bias_row(self, bias: tf.Tensor) -> tf.Tensor:
        order = self._letters.groups + self._letters.columns
        row = _ordered(tf.reshape(bias, self._shape(self._bias_axes())), self._bias_axes(), order)
        return tf.reshape(row, [*self._group_shape(), 1, self._columns])

    def _bias_tensor(self, row: tf.Tensor) -> tf.Tensor:
        order = self._letters.groups + self._letters.columns
        bias = _ordered(tf.reshape(row, self._shape(order)), order, self._bias_axes())
        return tf.reshape(bias, self.variables[-1].shape)

    def _bias_axes(self) -> str:
        """The axes of the bias, which has them in the order of the outputs."""
        return "".join(letter for letter in self._letters.outputs if letter in self._sizes)

    def _call_rows(self, tap: Tap, gradient: tf.Tensor, sampling: Sampling) -> Rows:
        letters = self._letters
        inputs = self._sites(tap.inputs, letters.inputs, letters.rows)
        return Rows(inputs, self._sites(gradient, letters.outputs, letters.columns), self._count(tap.inputs), tap.mask)

    def _sites(self, tensor: tf.Tensor, axes: str, last: str) -> tf.Tensor:
        """[B, S, I] or [B, S, O], or [B, S, G, ...]."""
        ordered = _ordered(tensor, axes, self._letters.sites + self._letters.groups + last)
        sites = ordered.shape[1 : len(self._letters.sites)]
        known = -1 if None in sites else size(sites)
        return tf.reshape(ordered, [tf.shape(tensor)[0], known, *self._group_shape(), self._size(last)])

    def _count(self, inputs: tf.Tensor) -> int | tf.Tensor:
        axes = [self._letters.inputs.index(letter) for letter in self._letters.sites[1:]]
        lengths = [inputs.shape[axis] for axis in axes]
        if None in lengths:
            return tf.cast(tf.reduce_prod(tf.gather(tf.shape(inputs), axes)), inputs.dtype)
        return size(tuple(lengths))


def _ordered(tensor: tf.Tensor, axes: str, order: str) -> tf.Tensor:
    """A tensor whose axes have these letters, with its axes in another order."""
    return tensor if axes == order else tf.transpose(tensor, [axes.index(letter) for letter in order])


def einsum_dense(layer: keras.layers.EinsumDense) -> list[Factorization]:
    """How the Fisher of an `EinsumDense` is factored; [] where its equation is no linear map of each site.

    A bias that is not one number for each output of a site has a block of its own, a diagonal.
    """
    if {id(v) for v in own_variables(layer)} - {id(v) for v in (layer.kernel, layer.bias)}:
        return []
    letters = letters_of(layer.equation, layer.input_spec.ndim)
    if letters is None or not layer.kernel.trainable:
        return []
    own_bias = layer.bias is not None and set(layer.bias_axes or "") != set(letters.groups + letters.columns)
    found: list[Factorization] = [EinsumFactorization(layer, letters, None if own_bias else layer.bias)]
    if own_bias and layer.bias.trainable:
        found.append(DiagonalFactorization(layer, [layer.bias]))
    return found
