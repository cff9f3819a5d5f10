"""Acting with a Gaussian policy: filtered observations in, actions of the environment out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.actors import Actor
from baselines_acktr.agent.heads import GaussianNetwork
from common.errors import UserError
from common.mpi import ALONE, Communicator
from common.random_state import get_random_state, set_random_state

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


@final
class GaussianActor(Actor):
    """Samples actions in NumPy; the `mlp` is evaluated there too, on a copy of its weights.

    A step of many environments takes it less time than a call of TensorFlow costs. Other policies run where TensorFlow
    puts them.

    Args:
      policy: its actions in [-1, 1] stand for the action space; those beyond are clipped.
      observation_space, action_space: of one environment.
      seed: of the noise.
      in_numpy: the policy's features are those of `networks.mlp`.

    Raises:
      UserError: if actions are a Box of integers.
    """

    def __init__(
        self,
        policy: GaussianNetwork,
        observation_space: gym.Space,
        action_space: gym.spaces.Box,
        seed: int,
        in_numpy: bool,
    ) -> None:
        super().__init__(observation_space)
        if not np.issubdtype(action_space.dtype, np.floating):
            raise UserError(f"action space {action_space}: a Box of actions must be of floating-point numbers")
        self._policy = policy
        layers = [*policy.features.layers, policy.mean] if in_numpy else []
        self._layers = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
        self._rng = np.random.default_rng([seed, 1])
        self._low, self._high = action_space.low, action_space.high
        low, high = _range(self._low, self._high)
        self._scale = ((high - low) / 2).astype(action_space.dtype)
        self._shift = ((high + low) / 2).astype(action_space.dtype)
        self._copy_weights()

    def sample(self, observations: np.ndarray) -> np.ndarray:
        """Actions [N, D] drawn from the policy, unclipped."""
        mean = self._mean(self.filtered(observations))
        return mean + self._std * self._rng.standard_normal(mean.shape, np.float32)

    def act(self, observations: np.ndarray, deterministic: bool) -> tuple[np.ndarray, np.ndarray]:
        """Actions [N, D], drawn or the mean, unclipped, and their -log pi(a|s), nats, [N]."""
        mean = self._mean(self.filtered(observations))
        noise = np.zeros_like(mean) if deterministic else self._rng.standard_normal(mean.shape, np.float32)
        neglogps = (0.5 * np.square(noise) + np.log(self._std) + 0.5 * math.log(2 * math.pi)).sum(axis=-1)
        return mean + self._std * noise, neglogps

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Actions [N, D] of the environment: [-1, 1] mapped to the range of its box (see `_range`) and clipped."""
        return np.clip(self._shift + self._scale * actions, self._low, self._high)

    def refresh(self, observations: np.ndarray, comm: Communicator = ALONE) -> None:
        self._copy_weights()
        super().refresh(observations, comm)

    def _copy_weights(self) -> None:
        self._std = np.exp(self._policy.log_std.vector.numpy())
        self._weights = [
            (layer.kernel.numpy(), layer.bias.numpy(), _ACTIVATIONS[layer.activation.__name__])
            for layer in self._layers
        ]

    def _mean(self, x: np.ndarray) -> np.ndarray:
        if not self._layers:
            return self._mean_in_tensorflow(x).numpy()
        x = x.reshape(len(x), -1).astype(self._weights[0][0].dtype, copy=False)
        for kernel, bias, activation in self._weights:
            x = activation(x @ kernel + bias)
        return x

    @tf.function(reduce_retracing=True)
    def _mean_in_tensorflow(self, observations: tf.Tensor) -> tf.Tensor:
        return self._policy.mean(self._policy.features(observations))

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | {"rng": get_random_state(self._rng)}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        set_random_state(self._rng, arrays["rng"])
        self._copy_weights()


def _range(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends [D] that actions of -1 and 1 stand for, given the box's.

    A box with one end: the 2 units inside it; with none: -1 and 1. The largest numbers of a type count as no end.
    """
    most = np.finfo(low.dtype).max / 2
    first = np.where(low > -most, low, np.where(high < most, high - 2, -1))
    return first, np.where(high < most, high, first + 2)
