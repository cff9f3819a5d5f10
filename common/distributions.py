"""Action distributions as functions of a network's flat output (TensorFlow).

B is the batch, K the number of classes of one Discrete action, M the number of parts of a MultiDiscrete action, D the
number of components of a Box action.
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
    """A distribution over actions, given `parameters` [B, size]."""

    def __init__(self, parameters: tf.Tensor) -> None:
        self.parameters = parameters

    @abc.abstractmethod
    def sample(self, generator: tf.random.Generator) -> tf.Tensor:
        """One action per row, without gradient."""

    @abc.abstractmethod
    def mode(self) -> tf.Tensor:
        """The most likely action per row."""

    @abc.abstractmethod
    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        """Log-probability of `actions`, nats, [B]."""

    @abc.abstractmethod
    def entropy(self) -> tf.Tensor:
        """Entropy, nats, [B]."""

    @abc.abstractmethod
    def kl(self, other: Self) -> tf.Tensor:
        """KL(self || other), nats, [B]."""


@final
class Categorical(ActionDistribution):
    """softmax over `parameters` [B, K]; actions are int64 [B]."""

    def sample(self, generator: tf.random.Generator) -> tf.Tensor:
        uniform = generator.uniform(tf.shape(self.parameters), minval=1e-20, dtype=self.parameters.dtype)
        return tf.argmax(self.parameters - tf.math.log(-tf.math.log(uniform)), axis=-1)

    def mode(self) -> tf.Tensor:
        return tf.argmax(self.parameters, axis=-1)

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=actions, logits=self.parameters)

    def entropy(self) -> tf.Tensor:
        log_p = tf.nn.log_softmax(self.parameters)
        return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)

    def kl(self, other: Self) -> tf.Tensor:
        log_p, log_q = tf.nn.log_softmax(self.parameters), tf.nn.log_softmax(other.parameters)
        return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


@final
class MultiCategorical(ActionDistribution):
    """Independent Categoricals over consecutive slices of `parameters` [B, sum K_m]; actions are int64 [B, M]."""

    def __init__(self, parameters: tf.Tensor, sizes: tuple[int, ...]) -> None:
        super().__init__(parameters)
        self.parts = [Categorical(part) for part in tf.split(parameters, sizes, axis=-1)]

    def sample(self, generator: tf.random.Generator) -> tf.Tensor:
        return tf.stack([part.sample(generator) for part in self.parts], axis=-1)

    def mode(self) -> tf.Tensor:
        return tf.stack([part.mode() for part in self.parts], axis=-1)

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        columns = tf.unstack(actions, num=len(self.parts), axis=-1)
        return tf.add_n([part.log_prob(column) for part, column in zip(self.parts, columns, strict=True)])

    def entropy(self) -> tf.Tensor:
        return tf.add_n([part.entropy() for part in self.parts])

    def kl(self, other: Self) -> tf.Tensor:
        return tf.add_n([mine.kl(theirs) for mine, theirs in zip(self.parts, other.parts, strict=True)])


@final
class DiagonalGaussian(ActionDistribution):
    """Independent normals; `parameters` [B, 2 D] are the means and the log standard deviations; actions are [B, D]."""

    def __init__(self, parameters: tf.Tensor) -> None:
        super().__init__(parameters)
        self.mean, self.log_std = tf.split(parameters, 2, axis=-1)

    def sample(self, generator: tf.random.Generator) -> tf.Tensor:
        noise = generator.normal(tf.shape(self.mean), dtype=self.mean.dtype)
        return tf.stop_gradient(self.mean + tf.exp(self.log_std) * noise)

    def mode(self) -> tf.Tensor:
        return self.mean

    def log_prob(self, actions: tf.Tensor) -> tf.Tensor:
        z = (actions - self.mean) * tf.exp(-self.log_std)
        return -tf.reduce_sum(0.5 * tf.square(z) + self.log_std + 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> tf.Tensor:
        return tf.reduce_sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def kl(self, other: Self) -> tf.Tensor:
        ratio = tf.exp(2 * (self.log_std - other.log_std))
        distance = tf.square((self.mean - other.mean) * tf.exp(-other.log_std))
        return tf.reduce_sum(0.5 * (ratio + distance - 1) + other.log_std - self.log_std, axis=-1)


def distribution_size(space: gym.Space) -> int:
    """How many numbers parameterise a distribution over `space`.

    Raises:
      UserError: if there is no distribution for the space.
    """
    if isinstance(space, gym.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return int(space.nvec.sum())
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        return 2 * space.shape[0]
    raise _unsupported(space)


def make_distribution(space: gym.Space, parameters: tf.Tensor) -> ActionDistribution:
    """The distribution over `space` with `parameters` [B, distribution_size(space)]; raises as that does."""
    if isinstance(space, gym.spaces.Discrete):
        return Categorical(parameters)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return MultiCategorical(parameters, tuple(int(n) for n in space.nvec))
    if isinstance(space, gym.spaces.Box):
        return DiagonalGaussian(parameters)
    raise _unsupported(space)


def env_actions(space: gym.Space, actions: np.ndarray) -> np.ndarray:
    """Sampled actions [N, ...], which count from 0, as a Discrete or MultiDiscrete space counts them."""
    start = np.asarray(getattr(space, "start", 0))
    return actions + start.astype(actions.dtype) if start.any() else actions


def _unsupported(space: gym.Space) -> UserError:
    return UserError(f"action space {space}: must be Discrete, or a flat MultiDiscrete or Box")
