"""RMSProp as OpenAI Baselines' A2C has it."""

from __future__ import annotations

import keras


class Rmsprop(keras.optimizers.RMSprop):
    """Keras' RMSProp, with running averages that start at 1, as in TensorFlow 1.

    v <- rho v + (1 - rho) g^2;  W <- W - learning_rate g / sqrt(v + epsilon)

    From 0, as Keras has it, the first steps would be 1 / sqrt(1 - rho) times too long.
    """

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        for average in self._velocities:
            average.assign(keras.ops.ones_like(average))
