"""Policies: a network, the distribution over actions that its outputs stand for, and acting with it.

They have two verbs for acting. `sample` draws actions for a rollout. `act` draws them or takes the most likely ones,
and says how likely they were.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple, Protocol, final

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.filters import Filter, NoFilter
from baselines_acktr.learning.sequences import Sequences
from common.distributions import ActionDistribution, env_actions, make_distribution
from common.errors import UserError
from common.graph import graph
from common.mpi import ALONE, Communicator
from common.named_arrays import Arrays, with_prefix, without_prefix


class Decision(NamedTuple):
    """What a policy does about N observations.

    Attributes:
      actions: as the learner stores them, [N, ...].
      neglogps: -log pi(a|s), nats, [N].
      values: V(s) where the policy's network gives it too, [N]; else None.
    """

    actions: np.ndarray
    neglogps: np.ndarray
    values: np.ndarray | None = None


class Draws(Protocol):
    """The random numbers that a policy draws its actions by."""

    def state(self) -> Arrays:
        """Where they are, copied."""
        ...

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned."""
        ...

    def reseed(self, seed: int) -> None:
        """Starts anew from a seed."""
        ...


class Policy(abc.ABC):
    """A network that acts.

    What the network sees are filtered observations. `filtered`, `sample` and `act` take them as the environment gives
    them, all else takes filtered ones.

    Attributes:
      network: maps filtered observations [B, ...] to the parameters [B, P] of a distribution over actions.
      filter: from observations to filtered ones.
      action_space: of one environment.
      sampler: what actions are drawn by.
    """

    sampler: Draws

    def __init__(self, network: keras.Model, filter: Filter, action_space: gym.Space) -> None:
        self.network = network
        self.filter = filter
        self.action_space = action_space

    # -- acting -------------------------------------------------------------------------------------------------------

    def filtered(self, observations: Any) -> Any:
        """What the network sees of observations [B, ...], or of `Sequences`."""
        if isinstance(observations, Sequences):
            return observations._replace(observations=self.filter(observations.observations))
        return self.filter(observations)

    @abc.abstractmethod
    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Draws an action for each of N observations, and moves a memory on where there is one.

        Returns:
          actions: [N, ...], as the learner stores them (`to_env` makes them the environment's).
          values: V(s), [N]; None where the critic is a network of its own.
        """

    @abc.abstractmethod
    def act(self, observations: np.ndarray, deterministic: bool = False) -> Decision:
        """Draws actions for observations [N, ...], or takes the most likely ones where `deterministic`."""

    @abc.abstractmethod
    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """The actions [N, ...] as the environment takes them."""

    def to_env_in_graph(self, actions: tf.Tensor, single: bool) -> tf.Tensor:
        """The same as `to_env` in TensorFlow, for exported models.

        Args:
          actions: [N, ...], as the learner stores them.
          single: no number has more than single precision.
        """
        space = self.action_space
        if not isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
            return actions
        return tf.cast(actions + tf.constant(space.start, actions.dtype), space.dtype)

    # -- the distribution ---------------------------------------------------------------------------------------------

    def distribution(self, parameters: tf.Tensor) -> ActionDistribution:
        """The distribution over actions that outputs [B, P] of the network stand for."""
        return make_distribution(self.action_space, parameters)

    def mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        """Mean KL(old || new) of parameters [B, P], nats; scalar."""
        return tf.reduce_mean(self.distribution(old).kl(self.distribution(new)))

    @graph
    def parameters(self, seen: tf.Tensor) -> tf.Tensor:
        """The parameters [B, P] for filtered observations [B, ...]; for measurements, without a gradient."""
        return self.outputs(seen)

    @graph
    def kl_since(self, old: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        """Mean KL of the policy whose parameters [B, P] were `old` to the present one, nats; scalar."""
        return self.mean_kl(old, self.outputs(seen))

    def outputs(self, seen: tf.Tensor) -> tf.Tensor:
        """The parameters [B, P] for filtered observations [B, ...], as part of a graph."""
        return self.network(seen)

    # -- after an update ----------------------------------------------------------------------------------------------

    def refresh(self, observations: np.ndarray, comm: Communicator = ALONE) -> None:
        """Acts from now on with the network's new weights, and lets the filter learn from observations [T, N, ...]."""
        self.filter.update(observations.reshape(-1, *observations.shape[2:]), comm)

    def state(self) -> Arrays:
        """Everything that training changes but the network's weights, by name, copied."""
        return with_prefix("filter", self.filter.state())

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned, and the network's weights as they are then."""
        self.filter.set_state(without_prefix("filter", arrays))


class Sampler:
    """The random numbers that TensorFlow draws actions by.

    Attributes:
      generator: draws them.
    """

    def __init__(self, seed: int) -> None:
        self.generator = tf.random.Generator.from_seed(seed)

    def state(self) -> Arrays:
        """The state of the generator, copied."""
        return {"": self.generator.state.numpy().copy()}

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned."""
        self.generator.state.assign(arrays[""])

    def reseed(self, seed: int) -> None:
        """Starts anew from a seed."""
        self.generator.reset_from_seed(seed)


class SharedPolicy(Policy):
    """Discrete actions by a network that gives values too.

    It has no state beside the network's weights and its `sampler`.

    Args:
      network: maps observations [B, ...] to parameters [B, P] and values [B].
      action_space: of one environment.
      seed: of the draws.

    Raises:
      UserError: the actions are not discrete.
    """

    def __init__(self, network: keras.Model, action_space: gym.Space, seed: int) -> None:
        super().__init__(network, NoFilter(), action_space)
        if isinstance(action_space, gym.spaces.Box):
            raise UserError(f"action space {action_space}: must be Discrete or MultiDiscrete; acktr_cont is for a Box")
        self.sampler: Sampler = Sampler(seed)

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        actions, values, _ = self._act(observations, False)
        return actions.numpy(), values.numpy()

    def act(self, observations: np.ndarray, deterministic: bool = False) -> Decision:
        actions, values, neglogps = self._act(observations, deterministic)
        return Decision(actions.numpy(), neglogps.numpy(), values.numpy())

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        return env_actions(self.action_space, actions)

    @graph
    def _act(self, observations: tf.Tensor, deterministic: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        parameters, values = self.network(observations)
        pi = self.distribution(parameters)
        actions = pi.mode() if deterministic else pi.sample(self.sampler.generator)
        return actions, values, -pi.log_prob(actions)

    @graph
    def mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        return super().mean_kl(old, new)

    def outputs(self, seen: tf.Tensor) -> tf.Tensor:
        return self.network(seen)[0]


@final
class CategoricalPolicy(Policy):
    """Discrete actions by a network of the policy's own.

    Args:
      network: maps filtered observations [B, ...] to parameters [B, P].
      filter: of the observations.
      action_space: of one environment.
      seed: of the draws.
    """

    def __init__(self, network: keras.Model, filter: Filter, action_space: gym.Space, seed: int) -> None:
        super().__init__(network, filter, action_space)
        self.sampler: Sampler = Sampler(seed)

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, None]:
        return self.act(observations).actions, None

    def act(self, observations: np.ndarray, deterministic: bool = False) -> Decision:
        actions, neglogps = self._act(self.filtered(observations), deterministic)
        return Decision(actions.numpy(), neglogps.numpy())

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        return env_actions(self.action_space, actions)

    @graph
    def _act(self, seen: tf.Tensor, deterministic: bool) -> tuple[tf.Tensor, tf.Tensor]:
        pi = self.distribution(self.network(seen))
        actions = pi.mode() if deterministic else pi.sample(self.sampler.generator)
        return actions, -pi.log_prob(actions)

    def state(self) -> Arrays:
        return super().state() | with_prefix("sampler", self.sampler.state())

    def set_state(self, arrays: Arrays) -> None:
        super().set_state(arrays)
        self.sampler.set_state(without_prefix("sampler", arrays))


@final
class SharedValueFunction:
    """The values of a network that policy and critic share.

    Args:
      network: maps observations [B, ...] to parameters [B, P] and values [B].
    """

    def __init__(self, network: keras.Model) -> None:
        self._network = network

    def predict(self, observations: np.ndarray) -> np.ndarray:
        """Values [B] of observations [B, ...]."""
        return self._predict(observations).numpy()

    @graph
    def _predict(self, observations: tf.Tensor) -> tf.Tensor:
        return self._network(observations)[1]
