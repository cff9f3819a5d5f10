"""What only the log needs of an update, and no learner."""

from __future__ import annotations

import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.learning.batches import network_inputs
from baselines_acktr.learning.returns import explained_variance
from baselines_acktr.learning.rollouts import Rollout


class Measurements:
    """How far one update moves the policy, and how well the critic had foretold the returns.

    Make it before the update; all ranks do so for the same update.

    Args:
      model: is going to learn from the rollout.
      rollout: T steps of N environments.
    """

    def __init__(self, model: Agent, rollout: Rollout) -> None:
        self._model = model
        self._rollout = rollout
        seen = model.policy.filtered(network_inputs(rollout))
        self._seen = tf.nest.map_structure(tf.constant, seen)
        self._before = model.policy.parameters(self._seen)  # [B, P]

    def after_update(self) -> dict[str, float]:
        """What the update has done.

        Returns:
          `kl`, the mean KL(old || new) of the policy over the rollout's rows, nats; and `explained_variance`, that of
          the returns by the values that the critic predicted before; over all ranks.
        """
        comm = self._model.comm
        kl = self._model.policy.kl_since(self._before, self._seen)
        returns = self._model.returns(self._rollout)  # [T, N]
        return {
            "kl": float(comm.mean(kl.numpy())),
            "explained_variance": explained_variance(self._rollout.values, returns, comm),
        }
