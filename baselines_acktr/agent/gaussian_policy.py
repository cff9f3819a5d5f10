"""A Gaussian policy: filtered observations in, actions of the environment's box out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.filters import Filter
from baselines_acktr.agent.policies import Decision, Policy
from common.errors import UserError
from common.graph import graph
from common.mpi import ALONE, Communicator
from common.named_arrays import Arrays
from common.random_state import get_random_state, set_random_state

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


class Noise:
    """The random numbers that NumPy draws actions by.

    Attributes:
      rng: draws them.
    """

    def __init__(self, seed: int) -> None:
        self.reseed(seed)

    def state(self) -> Arrays:
        """Where the generator is, copied."""
        return {"": get_random_state(self.rng)}

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned."""
        set_random_state(self.rng, arrays[""])

    def reseed(self, seed: int) -> None:
        """Starts anew from a seed."""
        self.rng = np.random.default_rng([seed, 1])


class GaussianPolicy(Policy):
    """Continuous actions, drawn in NumPy; an `mlp` is evaluated there too, on a copy of its weights.

    That takes a step of many environments less time than a call of TensorFlow costs. Other networks run where
    TensorFlow puts them. Actions are kept as they are drawn, and clipped on their way to the environment.

    Args:
      network: a `GaussianNetwork`, or one like it, maps filtered observations [B, ...] to means and log standard
        deviations [B, 2 D]; its actions in [-1, 1] stand for the action space.
      filter: of the observations.
      action_space: of one environment.
      seed: of the noise.
      in_numpy: the network's features are those of `networks.mlp`.

    Raises:
      UserError: if actions are a Box of integers.
    """

    network: Any

    def __init__(
        self,
        network: keras.Model,
        filter: Filter,
        action_space: gym.spaces.Box,
        seed: int,
        in_numpy: bool,
    ) -> None:
        super().__init__(network, filter, action_space)
        if not np.issubdtype(action_space.dtype, np.floating):
            raise UserError(f"action space {action_space}: a Box of actions must be of floating-point numbers")
        self.sampler: Noise = Noise(seed)

        layers = [*network.features.layers, network.mean] if in_numpy else []
        self._layers = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
        self._copy_weights()

        self._low = action_space.low
        self._high = action_space.high
        low, high = _range(self._low, self._high)
        self._scale = ((high - low) / 2).astype(action_space.dtype)
        self._shift = ((high + low) / 2).astype(action_space.dtype)

    # -- acting -------------------------------------------------------------------------------------------------------

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, None]:
        mean = self._mean(self.filtered(observations))  # [N, D]
        return mean + self._std * self._noise(mean), None

    def act(self, observations: np.ndarray, deterministic: bool = False) -> Decision:
        return Decision(*self.choose(self._mean(self.filtered(observations)), deterministic))

    def choose(self, mean: np.ndarray, deterministic: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Draws actions [N, D] around means [N, D], or takes these; and -log pi(a|s), nats, [N]."""
        noise = np.zeros_like(mean) if deterministic else self._noise(mean)
        neglogps = (0.5 * np.square(noise) + np.log(self._std) + 0.5 * math.log(2 * math.pi)).sum(axis=-1)  # [N]
        return mean + self._std * noise, neglogps

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Actions [N, D] of the environment: [-1, 1] mapped to the range of its box (see `_range`) and clipped."""
        return np.clip(self._shift + self._scale * actions, self._low, self._high)

    def to_env_in_graph(self, actions: tf.Tensor, single: bool) -> tf.Tensor:
        dtype = np.dtype(np.float32) if single else np.result_type(self._shift, np.float32)
        low, high = _inside(self._low, self._high, dtype)
        scaled = self._shift.astype(dtype) + self._scale.astype(dtype) * tf.cast(actions, dtype)  # [N, D]
        return tf.minimum(tf.maximum(scaled, low), high)

    def _noise(self, mean: np.ndarray) -> np.ndarray:
        return self.sampler.rng.standard_normal(mean.shape, np.float32)

    def _mean(self, x: np.ndarray) -> np.ndarray:
        if not self._layers:
            return self._mean_in_tensorflow(x).numpy()
        x = x.reshape(len(x), math.prod(x.shape[1:])).astype(self._weights[0][0].dtype, copy=False)
        for kernel, bias, activation in self._weights:
            x = activation(x @ kernel + bias)
        return x

    @graph
    def _mean_in_tensorflow(self, seen: tf.Tensor) -> tf.Tensor:
        return self.network.mean(self.network.features(seen))

    # -- after an update ----------------------------------------------------------------------------------------------

    def refresh(self, observations: np.ndarray, comm: Communicator = ALONE) -> None:
        self._copy_weights()
        super().refresh(observations, comm)

    def _copy_weights(self) -> None:
        self._std = np.exp(self.network.log_std.vector.numpy())  # [D]
        self._weights = [
            (layer.kernel.numpy(), layer.bias.numpy(), _ACTIVATIONS[layer.activation.__name__])
            for layer in self._layers
        ]

    def state(self) -> Arrays:
        return super().state() | {"rng": self.sampler.state()[""]}

    def set_state(self, arrays: Arrays) -> None:
        super().set_state(arrays)
        self.sampler.set_state({"": arrays["rng"]})
        self._copy_weights()


def _range(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends [D] that actions of -1 and 1 stand for, given the box's.

    A box with one end: the 2 units inside it; with none: -1 and 1. The largest numbers of a type count as no end.
    """
    most = np.finfo(low.dtype).max / 2
    first = np.where(low > -most, low, np.where(high < most, high - 2, -1))
    return first, np.where(high < most, high, first + 2)


def _inside(low: np.ndarray, high: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The ends [D] of a box as numbers of `dtype`, rounded towards its inside."""
    with np.errstate(over="ignore"):  # what is too large for the type is no end
        first, last = low.astype(dtype), high.astype(dtype)
    first = np.where(first < low, np.nextafter(first, dtype.type(np.inf)), first)
    return first, np.where(last > high, np.nextafter(last, dtype.type(-np.inf)), last)
