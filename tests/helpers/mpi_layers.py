"""Program under `mpirun`: trains a model with factors of every shape on all ranks, in float64; writes its weights.

Its layers have a diagonal (embedding), groups (depthwise convolution), whole gradients of rows (normalization), pairs
of matrices, and squared sums of rows' gradients (a layer of its own). Weights decay and are averaged.
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac import (
    Divergence,
    InlineInverter,
    Kfac,
    Objective,
    categorical_kl,
    categorical_log_likelihood,
)
from common.mpi import connect

ROWS, STEPS, LETTERS, CLASSES, UPDATES = 8, 5, 7, 3, 6
layers = keras.layers


class Gain(layers.Layer):
    """Multiplies each feature by a weight of its own, which K-FAC knows nothing of."""

    def build(self, shape: tuple) -> None:
        self.gain = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.gain


def make_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    letters = keras.Input((STEPS,), dtype="int64")
    hidden = layers.Embedding(LETTERS, 4)(letters)
    hidden = layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="tanh")(hidden)
    hidden = Gain()(layers.LayerNormalization()(hidden))
    return keras.Model(letters, layers.Dense(CLASSES)(layers.Flatten()(hidden)))


def train(group, part: slice) -> tuple[list[np.ndarray], list[tuple]]:
    """The weights and the shapes of the factors after training on a part of every batch."""
    model = make_model()
    options = {"damping_interval": 2, "weight_decay": 0.1, "use_ema": True, "ema_momentum": 0.5}
    optimizer = Kfac(model, inverter=InlineInverter(), group=group, **options)
    divergence = Divergence(lambda letters, classes: model(letters), categorical_kl)

    def objective(letters, classes):
        logits = model(letters)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits))
        rows = tf.shape(logits)[0]
        return Objective(loss, categorical_log_likelihood(logits, optimizer.generator), rows=rows)

    for update in range(UPDATES):
        rng = np.random.default_rng(update)
        letters, classes = rng.integers(0, LETTERS, (ROWS, STEPS)), rng.integers(0, CLASSES, ROWS)
        optimizer.minimize(objective, letters[part], classes[part], divergence=divergence)
    shapes = [tuple(average.shape) for block in optimizer.blocks for average in block.averages]
    found = [*model.get_weights(), np.array(float(optimizer.damping))]
    optimizer.finalize_variable_values()
    return [*found, *model.get_weights()], shapes


def main() -> None:
    comm = connect()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    own = ROWS // comm.size
    found, _ = train(comm, slice(comm.rank * own, (comm.rank + 1) * own))
    if comm.rank == 0:
        np.savez(sys.argv[1], *found)


if __name__ == "__main__":
    main()
