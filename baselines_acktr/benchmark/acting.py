"""What a call of acting costs beside its network."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.benchmark.kfac_parts import seconds_in_turns

CALLS = 30


def acting_to_network(model: Agent, observations: np.ndarray) -> float:
    """How many times as long acting takes as the network alone.

    Acting takes observations as the environments give them, draws actions and gives them back. The network alone is a
    graph whose input is on the device already. They take turns, and the ratio is the median over turns.

    Args:
      model: acts by TensorFlow.
      observations: of one step, [N, ...].
    """
    network = model.policy.network
    seen = tf.constant(model.policy.filtered(observations))
    alone = tf.function(network, autograph=False).get_concrete_function(seen)

    times = seconds_in_turns(
        lambda: model.sample(observations),
        lambda: tf.nest.flatten(alone(seen))[0].numpy(),
        repeats=CALLS,
    )
    return float(np.median(times[:, 0] / times[:, 1]))
