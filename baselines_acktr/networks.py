"""Networks from observations to features, by name.

A network is a function `(observation_space, config) -> keras.Model` whose model maps a batch of observations [B, ...]
to features [B, D]. Register your own and name it in `--network=`:

    @register("wide")
    def wide(observation_space, config):
        ...
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import gymnasium as gym
import keras
import numpy as np

from baselines_acktr.config import AcktrDiscreteConfig
from common.errors import UserError, closest

Builder = Callable[[gym.spaces.Box, AcktrDiscreteConfig], keras.Model]
_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator that makes a network available as `--network=name`."""

    def add(builder: Builder) -> Builder:
        _BUILDERS[name] = builder
        return builder

    return add


def _imported(name: str) -> Builder:
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--network={name}: {error}; must be module:function of something importable") from error


def find_network(name: str) -> Builder:
    """The network registered as `name`, or the function `module:function`.

    Raises:
      UserError: if there is none, with the closest registered name.
    """
    if ":" in name:
        return _imported(name)
    if name not in _BUILDERS:
        raise UserError(
            f"--network={name}: unknown network; must be one of {', '.join(sorted(_BUILDERS))} or module:function."
            + closest(name, _BUILDERS)
        )
    return _BUILDERS[name]


def default_network(observation_space: gym.Space) -> str:
    """`cnn` for images, `mlp` for everything else."""
    return "cnn" if len(observation_space.shape or ()) == 3 else "mlp"


def orthogonal(gain: float) -> keras.Initializer:
    """Orthogonal initialisation (Saxe et al. 2013) with the given gain, drawn from Keras' global seed."""
    return keras.initializers.Orthogonal(gain)


def _dense_layers(x, sizes: tuple[int, ...], activation: str):
    for i, size in enumerate(sizes):
        x = keras.layers.Dense(size, activation, kernel_initializer=orthogonal(np.sqrt(2)), name=f"dense{i + 1}")(x)
    return x


@register("cnn")
def cnn(observation_space: gym.spaces.Box, config: AcktrDiscreteConfig) -> keras.Model:
    """Convolutions and dense layers with ReLU for images [H, W, C] (Wu et al. 2017, section 5.1: 32-64-32-512).

    Raises:
      UserError: if observations are not images, or the image is too small for the convolutions.
    """
    if len(observation_space.shape) != 3:
        raise UserError(f"--network=cnn: observations must be images [H, W, C], not of shape {observation_space.shape}")
    inputs = keras.Input(observation_space.shape, dtype=observation_space.dtype.name)
    x = keras.layers.Rescaling(1 / 255)(inputs) if observation_space.dtype == np.uint8 else inputs
    sizes = zip(config.conv_filters, config.conv_kernels, config.conv_strides, strict=True)
    for i, (filters, kernel_size, stride) in enumerate(sizes):
        kernel = orthogonal(np.sqrt(2))
        x = keras.layers.Conv2D(
            filters, kernel_size, stride, activation="relu", kernel_initializer=kernel, name=f"conv{i + 1}"
        )(x)
    x = _dense_layers(keras.layers.Flatten()(x), config.hidden_sizes or (512,), "relu")
    return keras.Model(inputs, x, name="cnn")


@register("mlp")
def mlp(observation_space: gym.spaces.Box, config: AcktrDiscreteConfig) -> keras.Model:
    """Dense layers with tanh on the flattened observation (OpenAI Baselines: 64-64)."""
    inputs = keras.Input(observation_space.shape, dtype=observation_space.dtype.name)
    x = keras.layers.Flatten()(keras.ops.cast(inputs, keras.config.floatx()))
    return keras.Model(inputs, _dense_layers(x, config.hidden_sizes or (64, 64), "tanh"), name="mlp")
