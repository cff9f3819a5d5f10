"""RMSProp as OpenAI Baselines' A2C has it, with a choice of its start."""

from __future__ import annotations

from typing import Any

import keras


class Rmsprop(keras.optimizers.RMSprop):
    """Keras' RMSProp, with running averages that start where the first steps have a length of one's choice.

    v <- rho v + (1 - rho) g^2;  W <- W - learning_rate g / sqrt(v + epsilon)

    From v = 0, as Keras has it, the first steps would be 1 / sqrt(1 - rho) times too long. From v = 1, as TensorFlow 1
    has it, gradients cut to a norm of 0.5 are learned from at learning_rate itself, a hundredth of the rate to come,
    until 0.99^t has fallen to their squares: for a thousand updates.

    Args:
      learning_rate, rho, **options: of Keras.
      first_rate: what the first gradients are multiplied by: v starts at (learning_rate / first_rate)^2, at most 1.
    """

    def __init__(self, learning_rate: float, rho: float, first_rate: float = 0.0, **options: Any) -> None:
        super().__init__(learning_rate, rho, **options)
        self._start = (learning_rate / max(learning_rate, first_rate)) ** 2

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        for average in self._velocities:
            average.assign(keras.ops.full_like(average, self._start))
