"""Numbers of an optimizer that may be assigned to at any time, such as its learning rate."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Number:
    """An attribute that is a `tf.Variable` and takes numbers, so that graphs follow a schedule without a new trace.

    What is assigned, in the constructor or later, must be a finite number in the range; else a ValueError, or a
    TypeError for what is no number, names the attribute. The owner has a `dtype`.

    Args:
      above: the number must be above it.
      minimum: the number must be at least so large.
      below: the number must be below it.
    """

    def __init__(self, *, above: float = -math.inf, minimum: float = -math.inf, below: float = math.inf) -> None:
        self._above = above
        self._minimum = minimum
        self._below = below

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._attribute = f"_{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance, self._attribute)

    def __set__(self, instance: Any, value: Any) -> None:
        number = self._checked(value)
        variable = getattr(instance, self._attribute, None)
        if variable is None:
            setattr(instance, self._attribute, tf.Variable(number, dtype=instance.dtype, trainable=False))
        else:
            variable.assign(np.asarray(number, variable.dtype.as_numpy_dtype))  # of a float TensorFlow keeps a tensor

    def _checked(self, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{self._name}={value}: must be a number; assign it anew where it follows a schedule"
            ) from error
        if not (math.isfinite(number) and self._above < number < self._below and number >= self._minimum):
            raise ValueError(f"{self._name}={value}: must be {self._range()}")
        return number

    def _range(self) -> str:
        limits = [
            f"above {self._above:g}" if self._above > -math.inf else "",
            f"at least {self._minimum:g}" if self._minimum > -math.inf else "",
            f"below {self._below:g}" if self._below < math.inf else "",
        ]
        return "a finite number " + " and ".join(text for text in limits if text)


class Rate(Number):
    """A number that may also be a schedule of Keras, which `follow` asks for the value of each update."""

    def __set__(self, instance: Any, value: Any) -> None:
        schedule = value if isinstance(value, keras.optimizers.schedules.LearningRateSchedule) else None
        super().__set__(instance, value if schedule is None else schedule(0))
        setattr(instance, f"{self._attribute}_schedule", schedule)

    def schedule(self, instance: Any) -> Any:
        """The schedule that was assigned last, or None."""
        return getattr(instance, f"{self._attribute}_schedule")

    def follow(self, instance: Any, updates: int) -> None:
        """Sets the number to the value of its schedule after `updates` updates; without a schedule it stays."""
        schedule = self.schedule(instance)
        if schedule is not None:
            super().__set__(instance, schedule(updates))
