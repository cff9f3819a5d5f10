"""The optimizers that are compared: K-FAC with default arguments, and those of Keras with a grid of learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.examples.problems import Problem
from baselines_acktr.kfac import Divergence, InlineInverter, Kfac, Objective


class Trainer(NamedTuple):
    """An optimizer that is bound to a model.

    Attributes:
      update: `update(inputs, targets)` makes one update.
      state: `state()` returns a copy of the optimizer's state.
      set_state: `set_state(state)` restores it.
    """

    update: Callable[[np.ndarray, np.ndarray], Any]
    state: Callable[[], Any]
    set_state: Callable[[Any], None]


class Rival(NamedTuple):
    """An optimizer and its grid of learning rates.

    Attributes:
      start: `start(problem, model, learning_rate)` returns a Trainer.
      rates: learning rates to try, ascending; None stands for the optimizer's default.
    """

    start: Callable[[Problem, keras.Model, Any], Trainer]
    rates: tuple[float | None, ...]


def start_kfac(problem: Problem, model: keras.Model, rate: None) -> Trainer:
    """Binds K-FAC with default arguments to a model.

    Inverses are computed inline, so that runs can be repeated and their whole cost is counted.
    """
    optimizer = Kfac(model, inverter=InlineInverter())
    divergence = Divergence(lambda inputs, targets: model(inputs), problem.family.mean_kl)

    def objective(inputs, targets):
        outputs = model(inputs)
        log_likelihood = problem.family.log_likelihood(outputs, optimizer.generator)
        return Objective(problem.family.loss(targets, outputs), log_likelihood)

    def loss(inputs, targets):
        return problem.family.loss(targets, model(inputs))

    def update(inputs: np.ndarray, targets: np.ndarray) -> None:
        optimizer.minimize(objective, inputs, targets, divergence=divergence, loss=loss)

    return Trainer(update, optimizer.state, optimizer.set_state)


def start_keras(problem: Problem, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Trainer:
    """Binds an optimizer of Keras to a model. An update is a single graph."""
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def update(inputs, targets):
        with tf.GradientTape() as tape:
            loss = problem.family.loss(targets, model(inputs))

        values = [variable.value for variable in model.trainable_variables]
        gradients = tape.gradient(loss, values)
        optimizer.apply(gradients, model.trainable_variables)

    def state() -> list[np.ndarray]:
        return [variable.numpy().copy() for variable in optimizer.variables]

    def set_state(arrays: list[np.ndarray]) -> None:
        for variable, array in zip(optimizer.variables, arrays, strict=True):
            variable.assign(array)

    return Trainer(update, state, set_state)


def _start_adam(problem: Problem, model: keras.Model, rate: float) -> Trainer:
    return start_keras(problem, model, keras.optimizers.Adam(rate))


def _start_adamw(problem: Problem, model: keras.Model, rate: float) -> Trainer:
    return start_keras(problem, model, keras.optimizers.AdamW(rate))


def _start_sgd(problem: Problem, model: keras.Model, rate: float) -> Trainer:
    return start_keras(problem, model, keras.optimizers.SGD(rate, momentum=0.9))


def _start_muon(problem: Problem, model: keras.Model, rate: float) -> Trainer:
    """Binds Muon to a model. As Keras advises, its inner AdamW trains the output layer and all biases."""
    output_layer = model.layers[-1].name
    optimizer = keras.optimizers.Muon(rate, exclude_layers=[output_layer])
    return start_keras(problem, model, optimizer)


RIVALS = {
    "K-FAC": Rival(start_kfac, (None,)),
    "Adam": Rival(_start_adam, (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)),
    "AdamW": Rival(_start_adamw, (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)),
    "SGD": Rival(_start_sgd, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)),
    "Muon": Rival(_start_muon, (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)),
}
