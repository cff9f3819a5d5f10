"""Networks from observations to features, by name.

A network is a function `(observation_space, config) -> keras.Model` whose model maps a batch of observations [B, ...]
to features [B, D]; `config` is the learner's (see `config`). The space is what the network sees: vectors that the
learner standardises are float32 whatever the environment's are. Policies act on one batch and learn from another, and
a resumed run is the same to the bit, so layers that draw random numbers (Dropout, noise) and BatchNormalization, unless
it is frozen, are refused. Register your own and name it in `--network=`:

    @register("wide")
    def wide(observation_space, config):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import gymnasium as gym
import keras
import numpy as np

from baselines_acktr.agent.network_names import unknown_network
from baselines_acktr.config import HIDDEN_ACTIVATIONS, HIDDEN_SIZES, PIXEL_CONVOLUTIONS
from common.errors import UserError, brief
from common.importing import import_named
from common.joined_space import MOST_CHANNELS, JoinedBox

Builder = Callable[[gym.spaces.Box, Any], keras.Model]
_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator that makes a network available as `--network=name`."""

    def add(builder: Builder) -> Builder:
        _BUILDERS[name] = builder
        return builder

    return add


def _imported(name: str) -> Builder:
    module, _, attribute = name.partition(":")
    builder = getattr(import_named(module, f"--network={name}"), attribute, None)
    if builder is None:
        raise UserError(f"--network={name}: module {module} has no {attribute or 'function without a name'}")
    return builder


def network_name(network: str | Builder) -> str:
    """The name of a network, which may be given as the function itself: it is registered as `module:function`.

    Raises:
      UserError: it is neither a name nor a function, such as a model that is made already.
    """
    if isinstance(network, str):
        return network
    if isinstance(network, keras.Layer):
        raise UserError(
            f"network={brief(network)}: is made already; give the function of observation space and config that "
            "returns it, since policy and critic may have one each"
        )
    if not callable(network):
        raise UserError(f"network={brief(network)}: must be a name or a function of observation space and config")
    name = f"{network.__module__}:{getattr(network, '__qualname__', type(network).__qualname__)}"
    _BUILDERS[name] = network
    return name


def find_network(name: str) -> Builder:
    """The network registered as `name`, or the function `module:function`.

    Raises:
      UserError: if there is none, with the closest registered name.
    """
    if name not in _BUILDERS and ":" in name:
        register(name)(_imported(name))
    if name not in _BUILDERS:
        raise unknown_network(name, _BUILDERS)
    return _BUILDERS[name]


def is_registered(name: str) -> bool:
    """Whether a network of that name was registered, or found by the user's `module:function`, in this process."""
    return name in _BUILDERS


def default_network(observation_space: gym.Space) -> str:
    """`cnn` for images, also beside other parts, `mlp` for everything else."""
    has_image = len(observation_space.shape or ()) == 3 or isinstance(observation_space, JoinedBox)
    return "cnn" if has_image else "mlp"


def orthogonal(gain: float) -> keras.Initializer:
    """Orthogonal initialisation (Saxe et al. 2013) with the given gain, drawn from Keras' global seed."""
    return keras.initializers.Orthogonal(gain)


def split(inputs: Any, observation_space: JoinedBox) -> dict[str, Any]:
    """The parts of a batch of observations, as floating-point numbers; bytes are scaled to [0, 1].

    Args:
      inputs: of a network, [B, D].
      observation_space: what they are of.

    Returns:
      {name: images [B, H, W, C] or vectors [B, D]} in the order of the parts.
    """
    parts = {}
    for part, columns in zip(observation_space.parts, observation_space.columns, strict=True):
        vector = inputs[:, columns]
        if part.image:
            parts[part.name] = _scaled_image(keras.ops.reshape(vector, (-1, *part.image)), part.space)
        else:
            parts[part.name] = _scaled_vector(vector, part.space)
    return parts


def _scaled_image(values: Any, space: gym.Space) -> Any:
    """Images [B, H, W, C] of a space as floating-point numbers, of bytes divided by 255."""
    x = keras.ops.cast(values, keras.config.floatx())
    return x * (1 / 255) if space.dtype == np.uint8 else x


def _scaled_vector(values: Any, space: gym.Space) -> Any:
    """Values [B, ...] of a space as floating-point numbers, of bytes divided by the largest that the space has."""
    x = keras.ops.cast(values, keras.config.floatx())
    return x * (1 / max(1, int(space.high.max()))) if _is_bytes(space) else x


def _is_bytes(space: gym.Space) -> TypeGuard[gym.spaces.Box]:
    return isinstance(space, gym.spaces.Box) and space.dtype == np.uint8


def _dense_layers(x, sizes: Sequence[int], activation: str, prefix: str = ""):
    for i, size in enumerate(sizes):
        kernel = orthogonal(np.sqrt(2))
        x = keras.layers.Dense(size, activation, kernel_initializer=kernel, name=f"{prefix}dense{i + 1}")(x)
    return x


def _require_image(shape: tuple[int, ...], what: str, name: str) -> None:
    """Raises UserError unless observations of the network `name` are images [H, W, C]; `what` names them."""
    if len(shape) != 3:
        raise UserError(f"--network={name}: {what} must be images [H, W, C], not of shape {shape}")

    height, width, channels = shape
    if height <= MOST_CHANNELS < min(width, channels):
        raise UserError(
            f"--network={name}: {what} of shape {shape} look like images with the channels first; must be [H, W, C]: "
            "register the environment with a wrapper that moves the axis (numpy.moveaxis)"
        )


def _convolutions(x, sizes: Sequence[tuple[int, int, int]], activation: str, name: str, prefix: str = ""):
    """Applies convolutions of (filters, kernel size, stride) each to images [B, H, W, C]; returns [B, D]."""
    for i, (filters, kernel_size, stride) in enumerate(sizes):
        if min(x.shape[1:3]) < kernel_size:
            raise UserError(
                f"--network={name}: convolution {i + 1} of {kernel_size}x{kernel_size} sees {x.shape[1]}x{x.shape[2]} "
                "pixels; the images are too small for its sizes"
            )
        kernel = orthogonal(np.sqrt(2))
        x = keras.layers.Conv2D(
            filters, kernel_size, stride, activation=activation, kernel_initializer=kernel, name=f"{prefix}conv{i + 1}"
        )(x)
    return keras.layers.Flatten()(x)


def _image_network(
    name: str, observation_space: gym.spaces.Box, config: Any, convolutions: Sequence[tuple[int, int, int]]
) -> keras.Model:
    """The built-in network `name`: convolutions as for `_convolutions`, then dense layers.

    Where observations have other parts too, these go through the layers of the `mlp` and join the images before the
    dense layers, so that what one part means may depend on the others.
    """
    activation = config.activation or HIDDEN_ACTIVATIONS[name]
    inputs = keras.Input(observation_space.shape, dtype=observation_space.dtype.name)
    x = _encoded_parts(inputs, observation_space, convolutions, activation, name)  # [B, D]
    x = _dense_layers(x, config.hidden_sizes or HIDDEN_SIZES[name], activation)
    return keras.Model(inputs, x, name=name)


def _encoded_parts(
    inputs: Any,
    observation_space: gym.spaces.Box,
    convolutions: Sequence[tuple[int, int, int]],
    activation: str,
    name: str,
) -> Any:
    """Each image behind convolutions of its own, and all vectors behind the dense layers of the `mlp`, [B, D]."""
    if not isinstance(observation_space, JoinedBox):
        _require_image(observation_space.shape, "observations", name)
        return _convolutions(_scaled_image(inputs, observation_space), convolutions, activation, name)

    parts = split(inputs, observation_space)
    encoded: list[Any] = []
    for part in observation_space.parts:
        if part.image:
            _require_image(part.image, f"observations {part.name}", name)
            image = parts.pop(part.name)  # [B, H, W, C]
            prefix = f"image{len(encoded) + 1}_"
            encoded.append(_convolutions(image, convolutions, activation, name, prefix))
    if parts:
        vectors = _side_by_side(list(parts.values()))
        encoded.append(_dense_layers(vectors, HIDDEN_SIZES["mlp"], HIDDEN_ACTIVATIONS["mlp"], prefix="vectors_"))
    return _side_by_side(encoded)


def _side_by_side(columns: Sequence[Any]) -> Any:
    """Numbers [B, ...] of several tensors in one, [B, D]."""
    flat = [keras.layers.Flatten()(column) for column in columns]
    return keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]


def _vector_input(observation_space: gym.spaces.Box):
    """The input of a network and its numbers side by side, of bytes scaled to [0, 1]."""
    inputs = keras.Input(observation_space.shape, dtype=observation_space.dtype.name)
    if isinstance(observation_space, JoinedBox):
        return inputs, _side_by_side(list(split(inputs, observation_space).values()))  # [B, D]
    return inputs, _side_by_side([_scaled_vector(inputs, observation_space)])  # [B, D]


@register("lstm")
@register("lnlstm")
def before_memory(observation_space: gym.spaces.Box, config: Any) -> keras.Model:
    """What the cell of a recurrent network sees: the flattened observation, of bytes scaled to [0, 1].

    Dense layers with tanh come between where `hidden_sizes` says so.
    """
    inputs, x = _vector_input(observation_space)
    x = _dense_layers(x, config.hidden_sizes or (), config.activation or HIDDEN_ACTIVATIONS["lstm"])
    return keras.Model(inputs, x, name="before_memory")


@register("cnn_lstm")
@register("cnn_lnlstm")
@register("cnn")
def cnn(observation_space: gym.spaces.Box, config: Any) -> keras.Model:
    """Convolutions and dense layers with ReLU for images [H, W, C] (Wu et al. 2017, section 5.1: 32-64-32-512).

    Raises:
      UserError: if observations are not images, or the image is too small for the convolutions.
    """
    sizes = list(zip(config.conv_filters, config.conv_kernels, config.conv_strides, strict=True))
    return _image_network("cnn", observation_space, config, sizes)


@register("pixels")
def pixels(observation_space: gym.spaces.Box, config: Any) -> keras.Model:
    """Two 3x3 convolutions of stride 2 and 256 units, for small images [H, W, C] (Wu et al. 2017, section 5.4).

    Raises:
      UserError: if observations are not images, or the image is too small for the convolutions.
    """
    return _image_network("pixels", observation_space, config, PIXEL_CONVOLUTIONS)


@register("mlp")
def mlp(observation_space: gym.spaces.Box, config: Any) -> keras.Model:
    """Dense layers with tanh on the flattened observation (OpenAI Baselines: 64-64), of bytes scaled to [0, 1]."""
    inputs, x = _vector_input(observation_space)
    x = _dense_layers(x, config.hidden_sizes or HIDDEN_SIZES["mlp"], config.activation or HIDDEN_ACTIVATIONS["mlp"])
    return keras.Model(inputs, x, name="mlp")
