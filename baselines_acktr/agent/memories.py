"""Cells of recurrent networks, as OpenAI Baselines has them: one step, from a state to the next.

Their weights are those of ordinary layers, called once for each step, so K-FAC sees every step as a site of theirs.
"""

from __future__ import annotations

import abc
from typing import final

import keras
import tensorflow as tf

from baselines_acktr.config import MEMORY_UNITS


class Cell(keras.layers.Layer, abc.ABC):
    """A long short-term memory (Hochreiter & Schmidhuber 1997), whatever its gates see.

    With the pre-activations of the four gates i, f, o and u, it is c' = sigmoid(f) c + sigmoid(i) tanh(u) and
    h' = sigmoid(o) tanh(c'). The state is [c, h].

    Attributes:
      units: U, how many numbers c and h have each.
    """

    def __init__(self, units: int, name: str) -> None:
        super().__init__(name=name)
        self.units = units

    @property
    def state_size(self) -> int:
        """M = 2 U, how many numbers the state has."""
        return 2 * self.units

    def call(self, inputs: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """The next state [N, M], whose second half is what the cell puts out; inputs [N, D], state [N, M]."""
        cell, hidden = tf.split(state, 2, axis=-1)
        i, f, o, u = tf.split(self.pre_activations(inputs, hidden), 4, axis=-1)
        cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(u)
        return tf.concat([cell, tf.sigmoid(o) * tf.tanh(self.read_out(cell))], axis=-1)

    @abc.abstractmethod
    def pre_activations(self, inputs: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        """Those of the gates, [N, 4 U], for inputs [N, D] and h [N, U]."""

    @abc.abstractmethod
    def read_out(self, cell: tf.Tensor) -> tf.Tensor:
        """What c' [N, U] is when the output gate looks at it, [N, U]."""


@final
class Lstm(Cell):
    """The gates are one dense layer of [x, h]."""

    def __init__(self, units: int = MEMORY_UNITS) -> None:
        super().__init__(units, "lstm")
        self.gates = keras.layers.Dense(4 * units, kernel_initializer="orthogonal", name="gates")

    def pre_activations(self, inputs: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        return self.gates(tf.concat([inputs, hidden], axis=-1))

    def read_out(self, cell: tf.Tensor) -> tf.Tensor:
        return cell


@final
class LayerNormLstm(Cell):
    """An LSTM with layer normalisation (Ba, Kiros & Hinton 2016): of W x and U h apart, and of c'."""

    def __init__(self, units: int = MEMORY_UNITS) -> None:
        super().__init__(units, "lnlstm")
        self.gates = keras.layers.Dense(4 * units, use_bias=False, kernel_initializer="orthogonal", name="gates")
        self.recurrent = keras.layers.Dense(
            4 * units, use_bias=False, kernel_initializer="orthogonal", name="recurrent"
        )
        self.of_inputs = keras.layers.LayerNormalization(epsilon=1e-5, name="normalised_inputs")
        self.of_hidden = keras.layers.LayerNormalization(epsilon=1e-5, name="normalised_hidden")
        self.of_cell = keras.layers.LayerNormalization(epsilon=1e-5, name="normalised_cell")

    def pre_activations(self, inputs: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        return self.of_inputs(self.gates(inputs)) + self.of_hidden(self.recurrent(hidden))

    def read_out(self, cell: tf.Tensor) -> tf.Tensor:
        return self.of_cell(cell)
