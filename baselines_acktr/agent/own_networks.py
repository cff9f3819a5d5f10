"""Making a policy and a critic that have a network each."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np

from baselines_acktr.agent.filters import filtered_space, make_filter
from baselines_acktr.agent.gaussian_policy import GaussianPolicy
from baselines_acktr.agent.heads import CategoricalNetwork, Critic, GaussianNetwork
from baselines_acktr.agent.networks import find_network, mlp
from baselines_acktr.agent.policies import CategoricalPolicy, Policy
from baselines_acktr.agent.recurrent import RecurrentCritic, RecurrentGaussian
from baselines_acktr.agent.recurrent_policies import RecurrentGaussianPolicy
from baselines_acktr.config import RECURRENT, DisjointConfig, GaussianConfig
from common.joined_space import JoinedBox


def make_gaussian_policy(
    observation_space: gym.Space, action_space: gym.spaces.Box, network: str, config: GaussianConfig, seed: int
) -> GaussianPolicy:
    """A new policy for continuous actions, that filters its observations.

    Args:
      observation_space, action_space: of one environment.
      network: name of its network up to the heads.
      config: of the learner.
      seed: of its draws; the weights come from Keras' global seed.

    Raises:
      UserError: the spaces or the network are not supported.
    """
    seen = filtered_space(observation_space)
    # In networks bytes are scaled, and the parts of joined observations told apart.
    in_numpy = find_network(network) is mlp and seen.dtype != np.uint8 and not isinstance(seen, JoinedBox)
    filter = make_filter(observation_space)
    if network in RECURRENT:
        remembering = RecurrentGaussian(seen, action_space, network, config)
        return RecurrentGaussianPolicy(remembering, filter, action_space, seed, in_numpy=False)
    return GaussianPolicy(GaussianNetwork(seen, action_space, network, config), filter, action_space, seed, in_numpy)


def make_categorical_policy(
    observation_space: gym.Space, action_space: gym.Space, network: str, config: DisjointConfig, seed: int
) -> CategoricalPolicy:
    """A new policy for discrete actions, that filters its observations; arguments as for `make_gaussian_policy`."""
    return CategoricalPolicy(
        CategoricalNetwork(filtered_space(observation_space), action_space, network, config),
        make_filter(observation_space),
        action_space,
        seed + 1,
    )


def make_policy(
    observation_space: gym.Space, action_space: gym.Space, network: str, config: Any, seed: int
) -> GaussianPolicy | CategoricalPolicy:
    """A new policy for whatever the actions are; arguments as for `make_gaussian_policy`."""
    if isinstance(action_space, gym.spaces.Box):
        return make_gaussian_policy(observation_space, action_space, network, config, seed)
    return make_categorical_policy(observation_space, action_space, network, config, seed)


def make_critic(
    observation_space: gym.Space, network: str, config: DisjointConfig, policy: Policy
) -> Critic | RecurrentCritic:
    """A new network for the values of filtered observations, with the activation of critics.

    Args:
      observation_space: of one environment.
      network: its name, up to the head.
      config: of the learner.
      policy: acts; the critic's memory stands behind its own.
    """
    of_critics = dataclasses.replace(config, activation=config.vf_activation)
    seen = filtered_space(observation_space)
    if isinstance(policy.network, RecurrentGaussian):
        return RecurrentCritic(seen, network, of_critics, policy.network.state_size)
    return Critic(seen, network, of_critics)
