"""Making a network that gives both the policy and the values, and the policy that acts by it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from baselines_acktr.agent.heads import ActorAndCritic, ActorCritic
from baselines_acktr.agent.policies import SharedPolicy
from baselines_acktr.agent.recurrent import RecurrentActorCritic
from baselines_acktr.agent.recurrent_policies import RecurrentPolicy
from baselines_acktr.config import RECURRENT
from common.errors import UserError


def make_shared(
    observation_space: gym.Space, action_space: gym.Space, network: str, config: Any, seed: int
) -> tuple[ActorCritic | RecurrentActorCritic, SharedPolicy]:
    """A new network that gives a policy and values, and the policy that acts by it.

    Args:
      observation_space, action_space: of one environment.
      network: its name.
      config: of the learner.
      seed: of the policy's draws; the weights come from Keras' global seed.

    Raises:
      UserError: the spaces or the network are not supported.
    """
    is_copied = getattr(config, "value_network", "shared") == "copy"
    if network in RECURRENT:
        if is_copied:
            raise UserError(f"--value_network=copy: with --network={network} policy and critic share their memory")
        remembering = RecurrentActorCritic(observation_space, action_space, network, config)
        return remembering, RecurrentPolicy(remembering, action_space, seed)
    made = ActorAndCritic if is_copied else ActorCritic
    model = made(observation_space, action_space, network, config)
    return model, SharedPolicy(model, action_space, seed)
