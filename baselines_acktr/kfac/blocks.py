"""The state of one layer's Kronecker block."""

from __future__ import annotations

import keras
import tensorflow as tf

from baselines_acktr.kfac.forms import Form, form_for
from baselines_acktr.kfac.layers import Factorization


class KroneckerBlock:
    """Running averages, inverses and momentum of weights W [I, O], or [G, I, O], of one layer.

    Attributes:
      name: unique in the optimizer.
      factorization: whose weights these are, and how their Fisher is factored.
      weights: their values.
      dtype: of the block's own tensors, whatever that of the weights is.
      averages: running sums of the factors A and S, biased towards their start at zero.
      form: how the factors are damped and inverted.
      tensors: what `form` computed from the factors last.
      velocity: the momentum accumulator, in the shape of W.
    """

    def __init__(self, name: str, factorization: Factorization, form: Form, dtype: tf.DType) -> None:
        self.name = name
        self.factorization = factorization
        self.dtype = dtype
        self.weights = [variable.value for variable in factorization.variables]

        a_shape, s_shape = factorization.factor_shapes
        self.form = form_for(form, a_shape, s_shape)
        self.averages = [self._zeros(a_shape, "a"), self._zeros(s_shape, "s")]
        shapes = self.form.shapes(a_shape[-1], s_shape[-1])
        self.tensors = [self._zeros(shape, f"inverse{i}") for i, shape in enumerate(shapes)]
        self.velocity = self._zeros(self.join(self.weights).shape, "velocity")

    @property
    def layer(self) -> keras.layers.Layer:
        """The Keras layer."""
        return self.factorization.layer

    def _zeros(self, shape: tuple[int, ...], name: str) -> tf.Variable:
        return tf.Variable(tf.zeros(shape, self.dtype), trainable=False, name=f"{self.name}/{name}")

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
        """The natural-gradient direction of a gradient, both in the shape of W."""
        return self.form.precondition(gradient, *self.tensors)

    def join(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        """Joins the weights (or their gradients), in their order, to a matrix W."""
        return self.factorization.join([tf.cast(tensor, self.dtype) for tensor in tensors])

    def split(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        """The parts of a matrix W in the shapes of the weights."""
        parts = self.factorization.split(matrix)
        return [tf.cast(part, weight.dtype) for part, weight in zip(parts, self.weights, strict=True)]

    def move(self, step: tf.Tensor) -> None:
        """Subtracts `step`, of the shape of W, from the weights, and sees to their constraints."""
        for variable, part in zip(self.factorization.variables, self.split(step), strict=True):
            variable.value.assign_sub(part)
            if variable.constraint is not None:
                variable.value.assign(variable.constraint(variable.value))
