"""Small float64 models and dense matrices that the K-FAC tests compare with."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.factors import Sampling
from baselines_acktr.kfac.taps import factorizations, tap_layers


def sequential(*layers: keras.layers.Layer, input_shape: tuple[int, ...], seed: int = 0) -> keras.Sequential:
    """A float64 model with weights drawn from N(0, 0.5^2)."""
    model = keras.Sequential([keras.Input(input_shape, dtype="float64"), *layers])
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    return model


def dense(units: int, activation: str | None = None, use_bias: bool = True) -> keras.layers.Dense:
    return keras.layers.Dense(units, activation, use_bias=use_bias, dtype="float64")


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def hessian(function, point: np.ndarray) -> np.ndarray:
    """Second derivatives of a scalar function at a point of N numbers, [N, N]."""
    z = tf.constant(point)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            value = function(z)
        slopes = tf.convert_to_tensor(inner.gradient(value, z))
    found = outer.jacobian(slopes, z, experimental_use_pfor=False)
    return found.numpy().reshape(point.size, point.size)


def factors_of(model, log_likelihood, *inputs, max_sites: int | None = None, seed: int = 0, **sampling):
    """Kronecker factors (A, S) of every block for the gradient of `log_likelihood(model(*inputs))`."""
    found = factorizations(model)
    generator = tf.random.Generator.from_seed(seed)
    with tf.GradientTape(persistent=True) as tape, tap_layers(found) as taps:
        value = log_likelihood(model(*inputs))
    gradients = tape.gradient(value, [tap.outputs for tap in taps])
    pairs = [pair for pair in zip(taps, gradients, strict=True) if pair[1] is not None]
    factors = []
    for one in found:
        calls = [(tap, gradient) for tap, gradient in pairs if tap.factorization is one]
        a, s = one.factors(calls, Sampling(max_sites, generator, **sampling))
        factors.append((a.numpy(), s.numpy()))
    return factors


def homogeneous_jacobian(model, layer, x: np.ndarray) -> np.ndarray:
    """d outputs / d [kernel; bias] of one layer, [B, K, I * O], by autodiff."""
    variables = [variable.value for variable in layer.trainable_variables]
    with tf.GradientTape() as tape:
        outputs = model(x)
    parts = tape.jacobian(outputs, variables)
    batch, classes = outputs.shape
    pairs = zip(parts, variables, strict=True)
    rows = [tf.reshape(part, [batch, classes, -1, variable.shape[-1]]) for part, variable in pairs]
    return tf.reshape(tf.concat(rows, axis=2), [batch, classes, -1]).numpy()


def flat(tensors) -> np.ndarray:
    return np.concatenate([np.ravel(tensor) for tensor in tensors])


def output_curvature(mean_kl, outputs) -> np.ndarray:
    """The second derivative of the mean KL at the outputs, all of them one after the other: [K, K]."""
    sizes = [output.shape.num_elements() for output in tf.nest.flatten(outputs)]
    point = tf.constant(flat(tf.nest.flatten(outputs)))
    with tf.GradientTape() as second:
        second.watch(point)
        with tf.GradientTape() as first:
            first.watch(point)
            parts = [
                tf.reshape(part, output.shape)
                for part, output in zip(tf.split(point, sizes), tf.nest.flatten(outputs), strict=True)
            ]
            kl = mean_kl(outputs, tf.nest.pack_sequence_as(outputs, parts))
            kl = tf.add_n(list(kl.values())) if isinstance(kl, dict) else kl
        slope = first.gradient(kl, point)
    return second.jacobian(slope, point).numpy()
