"""K-FAC against Adam and SGD on handwritten digits: `python -m baselines_acktr.examples.digits`.

A 64-64 tanh network on scikit-learn's digits, batches of 256. Every optimizer gets its learning rate tuned over a grid;
what counts is the number of updates until the loss over all 1,797 images is below 0.05 nats. What an update costs is
measured in turns, so that other load on the machine falls on all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from baselines_acktr.kfac import InlineInverter, Kfac, Objective, categorical_log_likelihood

TARGET = 0.05
GRIDS = {
    "K-FAC": (0.1, 0.3, 1.0),
    "Adam": (0.001, 0.003, 0.01, 0.03, 0.1),
    "SGD, momentum 0.9": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
}
Step = Callable[[np.ndarray, np.ndarray], object]


class Result(NamedTuple):
    """The best learning rate of an optimizer and how many updates it needed, median over seeds."""

    learning_rate: float
    updates: float


def _loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def _kfac_step(model: keras.Model, learning_rate: float) -> Step:
    optimizer = Kfac(
        model, learning_rate=learning_rate, delta=0.1, damping=0.01, inverse_interval=10, inverter=InlineInverter()
    )

    def objective(images, labels):
        logits = model(images)
        return Objective(_loss(labels, logits), categorical_log_likelihood(logits, optimizer.generator))

    return lambda images, labels: optimizer.minimize(objective, images, labels)


def _keras_step(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Step:
    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = _loss(labels, model(images))
        optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]), model.trainable_variables)

    optimizer.build(model.trainable_variables)
    return step


def make_step(name: str, model: keras.Model, learning_rate: float) -> Step:
    """One update of `model` by the optimizer `name` of `GRIDS`, as a function of images [B, 64] and labels [B]."""
    if name == "K-FAC":
        return _kfac_step(model, learning_rate)
    if name == "Adam":
        return _keras_step(model, keras.optimizers.Adam(learning_rate))
    return _keras_step(model, keras.optimizers.SGD(learning_rate, momentum=0.9))


def load_images() -> tuple[np.ndarray, np.ndarray]:
    """Images [1797, 64] from 0 to 1 and labels [1797]."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels.astype(np.int64)


def make_model(seed: int) -> keras.Model:
    """The network, 64-64-64-10, with initial weights of its own for every seed."""
    keras.utils.set_random_seed(seed)
    hidden = [keras.layers.Dense(64, "tanh"), keras.layers.Dense(64, "tanh")]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def updates_to_target(name: str, learning_rate: float, seed: int, limit: int = 300) -> int:
    """Updates until the loss over all images is below TARGET; `limit` if it takes longer."""
    images, labels = load_images()
    model = make_model(seed)
    step = make_step(name, model, learning_rate)
    evaluate = tf.function(lambda: _loss(labels, model(images)))
    rng = np.random.default_rng(seed)
    for update in range(1, limit + 1):
        rows = rng.integers(0, len(images), 256)
        step(images[rows], labels[rows])
        if float(evaluate()) < TARGET:
            return update
    return limit


def milliseconds(results: dict[str, Result], rounds: int = 20, updates: int = 25) -> dict[str, float]:
    """Duration of one update of each optimizer, ms, median over rounds; the first round warms up."""
    images, labels = (array[:256] for array in load_images())
    steps = {name: make_step(name, make_model(0), result.learning_rate) for name, result in results.items()}
    durations: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(updates):
                step(images, labels)
            durations[name].append(1e3 * (time.perf_counter() - start) / updates)
    return {name: float(np.median(values[1:])) for name, values in durations.items()}


def tune(name: str, seeds: tuple[int, ...]) -> Result:
    """The learning rate of the optimizer's grid that needs the fewest updates."""
    medians = {rate: np.median([updates_to_target(name, rate, seed) for seed in seeds]) for rate in GRIDS[name]}
    results = [Result(rate, float(updates)) for rate, updates in medians.items()]
    return min(results, key=lambda result: result.updates)


def main() -> None:
    """Prints a table."""
    print(f"updates to a loss of {TARGET} (median of 3 seeds), learning rate tuned for each")
    results = {}
    for name in GRIDS:
        results[name] = tune(name, seeds=(0, 1, 2))
        print(f"{name:20s} {results[name].updates:6.0f}   at learning rate {results[name].learning_rate}", flush=True)
    print("milliseconds for an update (median of 20 rounds in turns), and to that loss")
    for name, duration in milliseconds(results).items():
        print(f"{name:20s} {duration:6.2f} {duration * results[name].updates:6.0f}")


if __name__ == "__main__":
    main()
