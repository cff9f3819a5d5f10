"""What K-FAC costs in an update of ACKTR with discrete actions: the same loop without it, and each part timed apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from baselines_acktr.acktr_discrete import Model
from baselines_acktr.kfac.inverses import invert_all
from baselines_acktr.kfac.taps import tap_layers
from baselines_acktr.learning.batches import Batch
from baselines_acktr.learning.rollouts import Rollout, Runner

RATE = 1e-4  # of plain gradient descent


class PlainDescent:
    """Gradient descent in the place of K-FAC: no Fisher, no factors, no inverses."""

    def __init__(self, model: Model) -> None:
        self.learning_rate = 0.0  # assigned in every update, and of no influence here
        self.generator = tf.random.Generator.from_seed(0)  # of the draws of a log-likelihood that nothing asks for
        self._model = model

    def minimize(self, objective: Any, *batch: np.ndarray, divergence: Any) -> dict[str, Any]:
        """One step on a batch, as `Kfac.minimize`; there is no quadratic model whose KL could be told."""
        return {"loss": self._descend(*batch), "model_policy_kl": np.nan}

    @tf.function(autograph=False)
    def _descend(self, *batch) -> tf.Tensor:
        loss, gradients = loss_gradients(self._model, *batch)
        for variable, gradient in zip(self._model.network.trainable_variables, gradients, strict=True):
            variable.assign_sub(RATE * gradient)
        return loss


class PlainModel(Model):
    """The same model and loss as ACKTR's, trained by gradient descent."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.optimizer: Any = PlainDescent(self)


def batch_of(model: Model, rollout: Rollout) -> Batch:
    """What `model` is trained on after a rollout."""
    return model.make_batch(rollout, model.returns(rollout))


def loss_gradients(model: Model, *batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The loss and its gradients, without anything of K-FAC."""
    with tf.GradientTape() as tape:
        loss = model.objective(*batch).loss
    return loss, tape.gradient(loss, [variable.value for variable in model.network.trainable_variables])


def seconds_in_turns(*functions: Callable[[], object], repeats: int) -> np.ndarray:
    """Wall-clock seconds of each function, [repeats, F]; they take turns, after two calls of each to warm up."""
    times = np.empty((repeats + 2, len(functions)))
    for row in times:
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            row[i] = time.perf_counter() - start
    return times[2:]


def kfac_parts(model: Model, runner: Runner, repeats: int = 10) -> dict[str, float]:
    """Seconds per update of each part of the K-FAC loop, each timed apart."""
    env, config = runner.env, model.config
    rollout = runner.run()
    observations, actions = rollout.observations[0], rollout.actions[0]
    batch = tuple(tf.constant(array) for array in batch_of(model, rollout))
    optimizer = model.optimizer

    @tf.function(autograph=False)
    def gradients(*batch):
        return loss_gradients(model, *batch)

    @tf.function(autograph=False)
    def gradients_and_fisher(*batch):
        with tf.GradientTape(persistent=True) as tape, tap_layers(optimizer.curvature.factorizations) as taps:
            objective = model.objective(*batch)
        weights = [variable.value for variable in model.network.trainable_variables]
        fisher = tape.gradient(objective.log_likelihood, [tap.outputs for tap in taps])
        return tape.gradient(objective.loss, weights), [gradient for gradient in fisher if gradient is not None]

    def full(*batch):
        return optimizer.differentiate(model.objective, *batch)

    _, gradient = full(*batch)
    times = seconds_in_turns(
        lambda: env.step(actions),
        lambda: model.step(observations),
        lambda: batch_of(model, rollout),
        lambda: gradients(*batch)[0].numpy(),
        lambda: gradients_and_fisher(*batch)[0][0].numpy(),
        lambda: full(*batch)[1][0].numpy(),
        lambda: optimizer.follow(gradient, *batch, divergence=model.divergence)["step_length"].numpy(),
        lambda: invert_all(optimizer.curvature.snapshot(0), optimizer.curvature.form, config.damping),
        repeats=repeats,
    )
    step, act, assemble, loss, fisher, statistics, apply, invert = np.median(times, axis=0).tolist()
    return {
        "stepping": config.nsteps * step,
        "acting": config.nsteps * act,
        "assembling the batch": assemble,
        "loss and its gradient": loss,
        "Fisher backward pass": fisher - loss,
        "factor statistics": statistics - fisher,
        "preconditioning and step": apply,
        "inverses (background thread)": invert / config.inverse_interval,
    }
