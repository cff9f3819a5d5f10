"""Action distributions, computed with TensorFlow from the flat output of a policy network.

Letters in shapes: B rows of a batch, K classes of a Discrete action, M parts of a MultiDiscrete action,
D components of a Box action.
"""

from __future__ import annotations

import abc
import math
from typing import Self, final

import gymnasium as gym
import numpy as np
import tensorflow as tf

from common.errors import UserError


class ActionDistribution(abc.ABC):
    """A distribution over actions for each row of a batch.

    Args:
      parameters: [B, size], the output of the policy network.
    """

    def __init__(self, parameters: tf.Tensor) -> None:
        self.parameters = parameters

    @abc.abstractmethod
    def sample(self, generator: tf.random.Generator) -> tf.Tensor:
        """Draws one action per row. No gradient flows through it."""

    @abc.abstractmethod
    def mode(self) -> tf.Tensor:
        """Returns the most likely action of each row."""

    @abc.abstractmethod
    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        """Returns the log-probability of `actions`, [B], in nats."""

    @abc.abstractmethod
    def entropy(self) -> tf.Tensor:
        """Returns the entropy, [B], in nats."""

    @abc.abstractmethod
    def kl(self, other: Self) -> tf.Tensor:
        """Returns KL(self || other), [B], in nats."""


@final
class Categorical(ActionDistribution):
    """A softmax over the logits `parameters` [B, K]. Actions are int64 [B]."""

    def sample(self, generator: tf.random.Generator) -> tf.Tensor:
        uniform = generator.uniform(tf.shape(self.parameters), minval=1e-20, dtype=self.parameters.dtype)  # [B, K]
        gumbel = -tf.math.log(-tf.math.log(uniform))
        return tf.argmax(self.parameters + gumbel, axis=-1)  # [B]; the Gumbel-max trick

    def mode(self) -> tf.Tensor:
        return tf.argmax(self.parameters, axis=-1)

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=actions, logits=self.parameters)

    def entropy(self) -> tf.Tensor:
        log_p = tf.nn.log_softmax(self.parameters)  # [B, K]
        return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)

    def kl(self, other: Self) -> tf.Tensor:
        log_p = tf.nn.log_softmax(self.parameters)  # [B, K]
        log_q = tf.nn.log_softmax(other.parameters)
        return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


@final
class MultiCategorical(ActionDistribution):
    """Independent Categoricals, one for each slice of the logits `parameters` [B, K_1 + ... + K_M].

    Actions are int64 [B, M].
    """

    def __init__(self, parameters: tf.Tensor, sizes: tuple[int, ...]) -> None:
        super().__init__(parameters)
        self.parts = [Categorical(part) for part in tf.split(parameters, sizes, axis=-1)]

    def sample(self, generator: tf.random.Generator) -> tf.Tensor:
        return tf.stack([part.sample(generator) for part in self.parts], axis=-1)

    def mode(self) -> tf.Tensor:
        return tf.stack([part.mode() for part in self.parts], axis=-1)

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        columns = tf.unstack(actions, num=len(self.parts), axis=-1)  # M times [B]
        pairs = zip(self.parts, columns, strict=True)
        return tf.add_n([part.log_prob(column) for part, column in pairs])  # [B]

    def entropy(self) -> tf.Tensor:
        return tf.add_n([part.entropy() for part in self.parts])

    def kl(self, other: Self) -> tf.Tensor:
        pairs = zip(self.parts, other.parts, strict=True)
        return tf.add_n([mine.kl(theirs) for mine, theirs in pairs])  # [B]


@final
class DiagonalGaussian(ActionDistribution):
    """A normal distribution with independent components. Actions are [B, D].

    `parameters` [B, 2 D] holds the means and, after them, the logarithms of the standard deviations.
    """

    def __init__(self, parameters: tf.Tensor) -> None:
        super().__init__(parameters)
        self.mean, self.log_std = tf.split(parameters, 2, axis=-1)  # [B, D] each

    def sample(self, generator: tf.random.Generator) -> tf.Tensor:
        noise = generator.normal(tf.shape(self.mean), dtype=self.mean.dtype)
        return tf.stop_gradient(self.mean + tf.exp(self.log_std) * noise)

    def mode(self) -> tf.Tensor:
        return self.mean

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        z = (actions - self.mean) * tf.exp(-self.log_std)  # [B, D]
        return -tf.reduce_sum(0.5 * tf.square(z) + self.log_std + 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> tf.Tensor:
        return tf.reduce_sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def kl(self, other: Self) -> tf.Tensor:
        ratio = tf.exp(2 * (self.log_std - other.log_std))  # [B, D]
        distance = tf.square((self.mean - other.mean) * tf.exp(-other.log_std))
        return tf.reduce_sum(0.5 * (ratio + distance - 1) + other.log_std - self.log_std, axis=-1)


def distribution_size(space: gym.Space) -> int:
    """Returns how many numbers parameterise a distribution over `space`.

    Raises:
      UserError: no distribution is implemented for the space.
    """
    if isinstance(space, gym.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return int(space.nvec.sum())
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        return 2 * space.shape[0]

    raise _unsupported(space)


def make_distribution(space: gym.Space, parameters: tf.Tensor) -> ActionDistribution:
    """Returns the distribution over the actions of `space`.

    Args:
      space: a Discrete, MultiDiscrete or Box action space.
      parameters: [B, distribution_size(space)].

    Raises:
      UserError: no distribution is implemented for the space.
    """
    if isinstance(space, gym.spaces.Discrete):
        return Categorical(parameters)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return MultiCategorical(parameters, tuple(int(n) for n in space.nvec))
    if isinstance(space, gym.spaces.Box):
        return DiagonalGaussian(parameters)

    raise _unsupported(space)


def env_actions(space: gym.Space, actions: np.ndarray) -> np.ndarray:
    """Converts sampled actions, which count from 0, to the numbers that the environment uses.

    A Discrete or MultiDiscrete space may start at another number than 0, and has a type of integers. Actions of all
    other spaces are returned as they are.

    Args:
      space: action space of one environment.
      actions: [N, ...], as a distribution returns them.
    """
    if not isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        return actions
    return (actions + space.start).astype(space.dtype, copy=False)


def _unsupported(space: gym.Space) -> UserError:
    return UserError(f"action space {space}: must be Discrete, or a flat MultiDiscrete or Box")
