"""Acting with a policy that has a network of its own: filtered observations in, actions of the environment out."""

from __future__ import annotations

import abc
from typing import final

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from common.distributions import env_actions, make_distribution
from common.mpi import ALONE, Communicator
from common.named_arrays import with_prefix, without_prefix
from common.running_mean_std import ObservationFilter


def filtered_space(observation_space: gym.Space) -> gym.Space:
    """What the networks see of a space: vectors are standardised, whatever their type and limits."""
    if not (isinstance(observation_space, gym.spaces.Box) and len(observation_space.shape) == 1):
        return observation_space
    return gym.spaces.Box(-np.inf, np.inf, observation_space.shape, np.float32)


class Actor(abc.ABC):
    """Samples actions.

    Attributes:
      filter: running moments of the observations, if those are vectors; images are left as they are.
    """

    def __init__(self, observation_space: gym.Space) -> None:
        shape = observation_space.shape or ()
        self.filter = ObservationFilter(shape) if len(shape) == 1 else None

    def filtered(self, observations: np.ndarray) -> np.ndarray:
        """What the networks see of observations [B, ...]."""
        return observations if self.filter is None else self.filter(observations)

    @abc.abstractmethod
    def sample(self, observations: np.ndarray) -> np.ndarray:
        """Actions [N, ...] drawn from the policy, as the learner keeps them."""

    @abc.abstractmethod
    def act(self, observations: np.ndarray, deterministic: bool) -> tuple[np.ndarray, np.ndarray]:
        """Actions [N, ...], drawn or the most likely ones, and their -log pi(a|s), nats, [N]."""

    @abc.abstractmethod
    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """The actions [N, ...] as the environment takes them."""

    def refresh(self, observations: np.ndarray, comm: Communicator = ALONE) -> None:
        """Takes over the policy's weights, and observations [..., *shape], those of all ranks, into the filter."""
        if self.filter is not None:
            self.filter.update(observations.reshape(-1, observations.shape[-1]), comm)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that training changes, by name, copied."""
        return {} if self.filter is None else with_prefix("filter", self.filter.state())

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `state` returned, and the policy's weights as they are then."""
        if self.filter is not None:
            self.filter.set_state(without_prefix("filter", arrays))


@final
class CategoricalActor(Actor):
    """Samples discrete actions in TensorFlow.

    Args:
      policy: maps observations [B, ...] to distribution parameters [B, P].
      observation_space, action_space: of one environment.
      seed: of the draws.
    """

    def __init__(self, policy: keras.Model, observation_space: gym.Space, action_space: gym.Space, seed: int) -> None:
        super().__init__(observation_space)
        self._policy, self._action_space = policy, action_space
        self._sampler = tf.random.Generator.from_seed(seed + 1)

    def sample(self, observations: np.ndarray) -> np.ndarray:
        return self.act(observations, deterministic=False)[0]

    def act(self, observations: np.ndarray, deterministic: bool) -> tuple[np.ndarray, np.ndarray]:
        actions, neglogps = self._act(self.filtered(observations), deterministic)
        return actions.numpy(), neglogps.numpy()

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        return env_actions(self._action_space, actions)

    @tf.function(reduce_retracing=True)
    def _act(self, observations: tf.Tensor, deterministic: bool) -> tuple[tf.Tensor, tf.Tensor]:
        pi = make_distribution(self._action_space, self._policy(observations))
        actions = pi.mode() if deterministic else pi.sample(self._sampler)
        return actions, -pi.log_prob(actions)

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | {"sampler": self._sampler.state.numpy().copy()}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        super().set_state(arrays)
        self._sampler.state.assign(arrays["sampler"])
