"""The state of one layer's Kronecker block."""

from __future__ import annotations

import keras
import tensorflow as tf

from baselines_acktr.kfac.factors import join, split
from baselines_acktr.kfac.inverses import Form


class KroneckerBlock:
    """Running averages, inverses and momentum of one layer with weights W [I, O].

    Attributes:
      layer: the Keras layer; `name` is unique in the optimizer.
      averages: running sums of the factors (A [I, I], S [O, O]), biased towards their start at zero.
      tensors: what `form` computed from the factors last.
      velocity: the momentum accumulator [I, O].
    """

    def __init__(self, name: str, layer: keras.layers.Layer, form: Form) -> None:
        self.name, self.layer, self.form = name, layer, form
        self.weights = [variable.value for variable in layer.trainable_variables]
        rows, columns = join(self.weights).shape
        self.averages = [self._zeros((rows, rows), "a"), self._zeros((columns, columns), "s")]
        self.tensors = [self._zeros(shape, f"inverse{i}") for i, shape in enumerate(form.shapes(rows, columns))]
        self.velocity = self._zeros((rows, columns), "velocity")

    def _zeros(self, shape: tuple[int, ...], name: str) -> tf.Variable:
        return tf.Variable(tf.zeros(shape, self.weights[0].dtype), trainable=False, name=f"{self.name}/{name}")

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """Every variable of the block by its name in a checkpoint."""
        variables = [*self.averages, *self.tensors, self.velocity]
        return {variable.name.removesuffix(":0"): variable for variable in variables}

    def observe(self, factors: tuple[tf.Tensor, tf.Tensor], decay: tf.Tensor) -> None:
        """Moves the running averages towards a new estimate of the factors."""
        for average, factor in zip(self.averages, factors, strict=True):
            average.assign(decay * average + (1 - decay) * factor)

    def precondition(self, gradient: tf.Tensor) -> tf.Tensor:
        """The natural-gradient direction [I, O] of a gradient [I, O]."""
        return self.form.precondition(gradient, *self.tensors)

    def split(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        """The parts of a matrix [I, O] in the shapes of the layer's weights."""
        return split(self.layer, matrix)

    def move(self, step: tf.Tensor) -> None:
        """Subtracts `step` [I, O] from the layer's weights."""
        for weight, part in zip(self.weights, self.split(step), strict=True):
            weight.assign_sub(part)
