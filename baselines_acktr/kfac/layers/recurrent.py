"""Recurrent layers: the gates of a cell are a dense layer whose time steps are sites (Martens, Ba & Johnson 2018).

What is wanted are the gradients at the gates' pre-activations of every time step, inside Keras' own loop. So the loop
runs on inputs with some zeros appended, [x_t, 0], and in each step the cell's bias is its bias plus these zeros: the
gradient at the zeros is the one at the pre-activations. To the cell's outputs are appended the numbers that its kernels
acted on. All else, such as masks, states and dropout, stays Keras'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from baselines_acktr.kfac.factors import Rows, Sampling, append_one
from baselines_acktr.kfac.layers.affine import site_count, sites_of
from baselines_acktr.kfac.layers.base import (
    Call,
    Factorization,
    RowFactorization,
    Shapes,
    Tap,
    is_plain,
    own_variables,
    parts_of,
    replaced,
    wrapped,
)
from baselines_acktr.kfac.layers.vectors import VectorFactorization


class StepFactorization(RowFactorization):
    """Kernels, and a bias, of a cell as one matrix W [I, O], applied in each time step.

    Args:
      layer: the recurrent layer.
      variables: kernels one below the other, and a bias last.
      has_bias: whether there is one.
      first: which of the step's pre-activations are the first of these weights.
    """

    def __init__(
        self, layer: keras.layers.RNN, variables: list[keras.Variable], has_bias: bool, first: int = 0
    ) -> None:
        super().__init__(layer, variables)
        self._has_bias = has_bias
        columns = variables[0].shape[-1]
        self._columns = slice(first, first + columns)

    @property
    def factor_shapes(self) -> Shapes:
        columns = self.variables[0].shape[-1]
        rows = sum(variable.shape[0] for variable in self.variables if len(variable.shape) == 2) + self._has_bias
        return (rows, rows), (columns, columns)

    def join(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        return tf.concat([tf.reshape(tensor, [-1, tensor.shape[-1]]) for tensor in tensors], axis=0)

    def split(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        return parts_of(matrix, self.variables, axis=0)

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()  # the layer's `Probe` records for it

    def rows(self, calls: list[Call], sampling: Sampling) -> list[Rows]:
        dtype = self.variables[0].dtype
        found = []
        for tap, gradient in calls:
            inputs = tf.cast(tap.inputs, dtype)  # [B, T, D]
            inputs = append_one(inputs) if self._has_bias else inputs
            outputs = tf.cast(gradient[..., self._columns], dtype)  # [B, T, O]
            found.append(Rows(sites_of(inputs), sites_of(outputs), site_count(inputs), tap.mask))
        return found


class GateBiasFactorization(VectorFactorization):
    """The two biases [2, 3 U] of a `GRU`: of a row's inputs and of its states."""

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def _row_gradients(self, tap: Tap, gradient: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(gradient, axis=1)  # [B, T, 6 U] -> [B, 6 U]


class ProbedFactorization(StepFactorization):
    """The first weights of a recurrent layer, which runs Keras' loop with a probe, for the others, too.

    Args:
      layer: the recurrent layer.
      variables, has_bias: as for `StepFactorization`.
      width: how many pre-activations a step has.
    """

    def __init__(self, layer: keras.layers.RNN, variables: list[keras.Variable], has_bias: bool, width: int) -> None:
        super().__init__(layer, variables, has_bias)
        self._width = width
        self._cell = layer.cell

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        def wrap(original: Callable) -> Callable:
            def tapped_loop(sequences: tf.Tensor, initial_state: Any, mask: Any, training: bool = False) -> Any:
                return self._loop(taps, sequences, initial_state, mask, training)

            return tapped_loop

        return wrapped(self.layer, "inner_loop", wrap)

    def _loop(self, taps: list[Tap], sequences: tf.Tensor, initial_state: Any, mask: Any, training: bool) -> Any:
        mask = None if mask is None else tf.nest.flatten(mask)[0]
        batch, steps, features = sequences.shape
        zeros = tf.zeros([*tf.unstack(tf.shape(sequences)[:2]), self._width], sequences.dtype)
        probe = zeros * tf.cast(self._cell.kernel.value[0, 0], zeros.dtype)  # of the kernel, so that tapes follow it
        probe.set_shape([batch, steps, self._width])
        with wrapped(self._cell, "call", self._with_probe), replaced(self.layer, return_sequences=True):
            last, outputs, states = keras.layers.RNN.inner_loop(
                self.layer, tf.concat([sequences, probe], axis=-1), initial_state, mask=mask, training=training
            )

        units = self._cell.units
        outputs, x, h = tf.split(outputs, [units, features, units], axis=-1)
        if self.layer.go_backwards:
            x = tf.reverse(x, axis=[1])
            h = tf.reverse(h, axis=[1])
        self._record(taps, x, h, probe, mask)
        return last[..., :units], outputs, states

    def _with_probe(self, original: Callable) -> Callable:
        cell = self._cell

        def tapped_cell(inputs: tf.Tensor, states: Any, training: bool = False) -> Any:
            x = inputs[..., : -self._width]
            probe = inputs[..., -self._width :]
            h = tf.nest.flatten(states)[0]
            with replaced(cell, bias=self._probed_bias(probe), use_bias=True):
                outputs, states = original(x, states, training=training)
            if training and 0 < cell.dropout < 1:
                x *= cell.get_dropout_mask(x)
            return tf.concat([outputs, x, h], axis=-1), states

        return tapped_cell

    def _probed_bias(self, probe: tf.Tensor) -> tf.Tensor:
        """The cell's bias plus a probe [B, width], in the shape that the cell's `call` wants."""
        return probe if self._cell.bias is None else tf.cast(self._cell.bias.value, probe.dtype) + probe

    def _record(self, taps: list[Tap], x: tf.Tensor, h: tf.Tensor, probe: tf.Tensor, mask: Any) -> None:
        """Appends taps for x_t [B, T, D], h_(t-1) [B, T, U] and the probe [B, T, width]."""
        taps.append(Tap(self, tf.concat([x, h], axis=-1), probe, mask))


class GruFactorization(ProbedFactorization):
    """The kernel of a `GRU` with `reset_after`. What acts on its states, and its biases, have blocks of their own."""

    def __init__(self, layer: keras.layers.RNN, others: list[Factorization]) -> None:
        super().__init__(layer, [layer.cell.kernel], False, width=6 * layer.cell.units)
        self._others = others

    def _probed_bias(self, probe: tf.Tensor) -> tf.Tensor:
        probes = tf.stack(tf.split(probe, 2, axis=-1))  # [2, B, 3 U]
        return probes if self._cell.bias is None else tf.cast(self._cell.bias.value, probe.dtype)[:, None] + probes

    def _record(self, taps: list[Tap], x: tf.Tensor, h: tf.Tensor, probe: tf.Tensor, mask: Any) -> None:
        taps.append(Tap(self, x, probe, mask))
        taps.extend(Tap(other, h, probe, mask) for other in self._others)


def _weights(layer: keras.layers.RNN) -> list[keras.Variable]:
    """Kernel, recurrent kernel and bias of a layer's cell, those that there are."""
    cell = layer.cell
    return [cell.kernel, cell.recurrent_kernel, *([] if cell.bias is None else [cell.bias])]


def recurrent(layer: keras.layers.RNN) -> list[Factorization]:
    """How the Fisher of a layer with an `LSTMCell`, `GRUCell` or `SimpleRNNCell` is factored.

    [] where the gates do not all see the same inputs (recurrent dropout, a `GRU` that resets before its product), or
    the cell computes in another way than Keras' own.
    """
    cell = layer.cell
    if getattr(cell, "recurrent_dropout", 0) or getattr(cell, "implementation", 2) != 2:
        return []
    if not all(is_plain(cell, base) for base in CELLS if isinstance(cell, base)):
        return []
    if {id(v) for v in own_variables(cell)} != {id(v) for v in _weights(layer)}:
        return []

    if isinstance(cell, keras.layers.LSTMCell):
        return [ProbedFactorization(layer, _weights(layer), cell.use_bias, 4 * cell.units)]
    if isinstance(cell, keras.layers.SimpleRNNCell):
        return [ProbedFactorization(layer, _weights(layer), cell.use_bias, cell.units)]

    if not cell.reset_after:
        return []
    others: list[Factorization] = [StepFactorization(layer, [cell.recurrent_kernel], False, first=3 * cell.units)]
    if cell.use_bias:
        others.append(GateBiasFactorization(layer, [cell.bias]))
    return [GruFactorization(layer, others), *others]


CELLS = keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell
