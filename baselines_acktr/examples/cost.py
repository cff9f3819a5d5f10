"""Compares the time of an update of K-FAC and of Adam in Keras' `fit`: `python -m baselines_acktr.examples.cost`.

Both train the same networks on noise, in turn, with batches of 256. When K-FAC's turn ends while the background thread
still computes inverses, the rest of that time counts as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np

from baselines_acktr.kfac import Kfac, KfacModel

ROWS = 256
Network = tuple[keras.KerasTensor, keras.KerasTensor]


def _dense(inputs: int, units: int) -> Network:
    images = keras.Input((inputs,))
    hidden = keras.layers.Dense(units, "relu")(keras.layers.Dense(units, "relu")(images))
    return images, keras.layers.Dense(10, "softmax")(hidden)


def _convolutional() -> Network:
    images = hidden = keras.Input((28, 28, 1))
    for filters in (32, 64):
        hidden = keras.layers.Conv2D(filters, 3, strides=2)(hidden)
        hidden = keras.layers.ReLU()(keras.layers.BatchNormalization()(hidden))

    hidden = keras.layers.Dense(128, "relu")(keras.layers.Flatten()(hidden))
    return images, keras.layers.Dense(10, "softmax")(hidden)


NETWORKS: dict[str, Callable[[], Network]] = {
    "64-64-64-10": lambda: _dense(64, 64),
    "784-512-512-10": lambda: _dense(784, 512),
    "convolutions, batch normalization": _convolutional,
}


def milliseconds(network: Callable[[], Network], rounds: int = 6, batches: int = 40) -> tuple[float, float]:
    """Returns the duration of one update of K-FAC and of Adam, in ms, as medians over rounds.

    Args:
      network: function that builds inputs and outputs of the network.
      rounds: number of measured rounds, after one to warm up.
      batches: batches per round.
    """
    ours = KfacModel(*network())
    theirs = keras.Model(*network())
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batches * ROWS, *ours.input_shape[1:])).astype(np.float32)
    labels = rng.integers(0, 10, len(images))

    durations = []
    with Kfac(ours, learning_rate=0.3, delta=0.1, inverse_interval=10) as optimizer:
        ours.compile(optimizer, "sparse_categorical_crossentropy")
        theirs.compile("adam", "sparse_categorical_crossentropy")

        for _ in range(1 + rounds):
            times = [time.perf_counter()]
            for model in (ours, theirs):
                model.fit(images, labels, batch_size=ROWS, verbose=0)
                optimizer.await_inverses()
                times.append(time.perf_counter())
            durations.append(np.diff(times))

    kfac, adam = 1e3 * np.median(durations[1:], axis=0) / batches
    return float(kfac), float(adam)


def main() -> None:
    """Measures all networks and prints a table."""
    print("milliseconds for an update in fit: K-FAC, Adam, ratio")
    for name, network in NETWORKS.items():
        kfac, adam = milliseconds(network)
        print(f"{name:35s} {kfac:7.1f} {adam:7.1f} {kfac / adam:5.1f}", flush=True)


if __name__ == "__main__":
    main()
