"""Networks with their heads: what a policy and a critic say of observations."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import keras
import tensorflow as tf

from baselines_acktr.agent.network_names import BUILT_IN
from baselines_acktr.agent.networks import find_network, orthogonal
from baselines_acktr.kfac.taps import FreeVector
from common.distributions import distribution_size
from common.errors import UserError, brief

_LIBRARIES = tuple(str(Path(package.__file__).parent) for package in (keras, tf))
_MUST = "from observations [B, ...] to features [B, D] (is a Flatten missing?)"


class ActorCritic(keras.Model):
    """Maps observations [B, ...] to distribution parameters [B, P] and values [B], sharing all but the heads."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="actor_critic")
        size = distribution_size(action_space)
        self.features = features_of(observation_space, network, config)
        self.policy_head = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="policy_head")
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0), name="value_head")
        self(example(observation_space))

    def call(self, observations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = self.features(observations)  # [B, ...] -> [B, D]
        return self.policy_head(features), tf.squeeze(self.value_head(features), axis=-1)


class ActorAndCritic(keras.Model):
    """Maps observations [B, ...] to distribution parameters [B, P] and values [B] by a network each, made alike."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="actor_and_critic")
        self.policy = CategoricalNetwork(observation_space, action_space, network, config)
        self.critic = Critic(observation_space, network, config)
        self(example(observation_space))

    def call(self, observations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.policy(observations), self.critic(observations)


class CategoricalNetwork(keras.Model):
    """Maps observations [B, ...] to distribution parameters [B, P] over discrete actions."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="policy")
        size = distribution_size(action_space)
        self.features = features_of(observation_space, network, config)
        self.head = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="policy_head")
        self(example(observation_space))

    def call(self, observations: tf.Tensor) -> tf.Tensor:
        return self.head(self.features(observations))


class GaussianNetwork(keras.Model):
    """Maps observations [B, ...] to means and log standard deviations [B, 2 D]; all rows have the same deviations."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, network: str, config) -> None:
        super().__init__(name="policy")
        size = distribution_size(action_space) // 2
        self.features = features_of(observation_space, network, config)
        self.mean = keras.layers.Dense(size, kernel_initializer=orthogonal(0.01), name="mean")
        self.log_std = FreeVector(size, keras.initializers.Constant(config.first_log_std(size)), name="log_std")
        self(example(observation_space))

    def call(self, observations: tf.Tensor) -> tf.Tensor:
        return tf.concat([self.mean(self.features(observations)), self.log_std(observations)], axis=-1)


class Critic(keras.Model):
    """Maps observations [B, ...] to values [B]."""

    def __init__(self, observation_space: gym.Space, network: str, config) -> None:
        super().__init__(name="critic")
        self.features = features_of(observation_space, network, config)
        self.value_head = keras.layers.Dense(1, kernel_initializer=orthogonal(1.0), name="value_head")
        self(example(observation_space))

    def call(self, observations: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(self.value_head(self.features(observations)), axis=-1)


def features_of(observation_space: gym.Space, network: str, config) -> keras.Model:
    """The network up to the heads; raises UserError if there is none for the space."""
    if not isinstance(observation_space, gym.spaces.Box):
        raise UserError(f"observation space {observation_space}: must be a Box (images or vectors)")

    with _one_line(network):
        features = find_network(network)(observation_space, config)
    if not isinstance(features, keras.Layer):
        raise UserError(f"--network={network}: returned {brief(features)}; must be a keras.Model {_MUST}")

    with _one_line(network):
        given = features(example(observation_space, 2))  # [2, D]
    _require_features(network, given)

    for layer in features._flatten_layers():
        if reason := _unfit(layer):
            raise UserError(f"--network={network}: layer {layer.name} is a {type(layer).__name__}, which {reason}")
    for weight in features.trainable_weights:
        if weight.dtype != keras.config.floatx():
            raise UserError(
                f"--network={network}: weight {weight.path} is {weight.dtype}; must be {keras.config.floatx()}"
            )
    if network not in BUILT_IN:
        with _one_line(network):
            rows = tf.TensorSpec((None, *observation_space.shape), observation_space.dtype.name)
            tf.function(features, autograph=False).get_concrete_function(rows)
    return features


def _require_features(network: str, given: Any) -> None:
    """Raises UserError for what a network gives of two observations that are not their features [2, D]."""
    if not hasattr(given, "shape") or len(given.shape) != 2:
        shape = ("B", *given.shape[1:]) if hasattr(given, "shape") else type(given).__name__
        raise UserError(f"--network={network}: gives {brief(shape)}; must be a keras.Model {_MUST}")
    if given.shape[0] != 2:
        raise UserError(f"--network={network}: gives {given.shape[0]} rows for 2 observations; must be a row for each")

    dtype = keras.backend.standardize_dtype(given.dtype)
    if dtype != keras.config.floatx():
        raise UserError(f"--network={network}: gives features of {dtype}; must be {keras.config.floatx()}")


@contextlib.contextmanager
def _one_line(network: str) -> Iterator[None]:
    """Within the context what a network of the user's own raises is one line, with the place where it was raised."""
    try:
        yield
    except UserError:
        raise
    except tf.errors.OperatorNotAllowedInGraphError as error:
        raise UserError(
            f"--network={network}: has an `if`, `for` or `while` that depends on a tensor ({_place(error)}); must be "
            "tf.cond, tf.where or tf.while_loop"
        ) from error
    except Exception as error:
        text = " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())  # without Keras' bold letters
        raise UserError(f"--network={network}: {type(error).__name__}: {brief(text, 300)} ({_place(error)})") from error


def _place(error: Exception) -> str:
    """The last line outside of Keras and TensorFlow that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)][-1]
    return f"{last.filename}, line {last.lineno}"


def _unfit(layer: keras.Layer) -> str:
    """Why a layer cannot be in a policy or critic; "" where it can."""
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
        return "would act by other statistics than it learns by: use LayerNormalization, or freeze it"
    rates = [
        rate for name in ("rate", "dropout", "recurrent_dropout") if (rate := getattr(layer, name, None)) is not None
    ]
    if getattr(layer, "_seed_generators", None) and (not rates or any(rates)):
        return "draws random numbers: a resumed run would not be the same, and what acts is not what learns"
    return ""


def example(observation_space: Any, rows: int = 1) -> tf.Tensor:
    """Observations [rows, ...] of zeros."""
    return tf.zeros((rows, *observation_space.shape), observation_space.dtype.name)
