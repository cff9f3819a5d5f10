"""The one table of learners: which class an algorithm has for which kind of actions."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING

from baselines_acktr.config import (
    A2cContConfig,
    A2cDiscreteConfig,
    AcktrContConfig,
    AcktrDiscreteConfig,
    Config,
    TrpoContConfig,
    TrpoDiscreteConfig,
)
from common.errors import UserError

if TYPE_CHECKING:
    import gymnasium as gym

    from baselines_acktr.agent.agent import Agent

DISCRETE, CONTINUOUS = "discrete", "continuous"


@dataclasses.dataclass(frozen=True)
class Learner:
    """Where a learner lives, so that its flags are known before TensorFlow is imported.

    Attributes:
      module: the file with the class.
      config_class: dataclass of its hyperparameters.
      name: of the class.
    """

    module: str
    config_class: type[Config]
    name: str = "Model"

    def import_class(self) -> type[Agent]:
        """Imports the module, and with it TensorFlow; returns the class."""
        return getattr(importlib.import_module(self.module), self.name)


LEARNERS = {
    ("acktr", DISCRETE): Learner("baselines_acktr.acktr_discrete", AcktrDiscreteConfig),
    ("acktr", CONTINUOUS): Learner("baselines_acktr.acktr_cont", AcktrContConfig),
    ("a2c", DISCRETE): Learner("baselines_acktr.a2c", A2cDiscreteConfig, "DiscreteModel"),
    ("a2c", CONTINUOUS): Learner("baselines_acktr.a2c", A2cContConfig, "ContinuousModel"),
    ("trpo", DISCRETE): Learner("baselines_acktr.trpo", TrpoDiscreteConfig, "DiscreteModel"),
    ("trpo", CONTINUOUS): Learner("baselines_acktr.trpo", TrpoContConfig, "ContinuousModel"),
}
ALGORITHMS = tuple(dict.fromkeys(alg for alg, _ in LEARNERS))


def kind_of(actions: gym.Space, argument: str = "env") -> str:
    """Says whether a space of actions is DISCRETE or CONTINUOUS.

    Raises:
      UserError: it is another one; `argument` is what the message begins with.
    """
    from gymnasium.spaces import Box, Discrete, MultiDiscrete  # late: --help is instant

    if isinstance(actions, Discrete | MultiDiscrete):
        return DISCRETE
    if isinstance(actions, Box):
        return CONTINUOUS
    raise UserError(f"{argument}: its actions are {type(actions).__name__}; must be Discrete, MultiDiscrete or Box")


def describe_num_env() -> str:
    """Says for the help of --num_env how many environments suit which learner."""
    acktr = LEARNERS["acktr", DISCRETE].config_class
    others = [(alg, LEARNERS[alg, DISCRETE].config_class.default_num_env(atari=True)) for alg in ALGORITHMS[1:]]
    in_words = ", ".join(f"{alg} {number}" for alg, number in others)
    continuous = LEARNERS["acktr", CONTINUOUS].config_class.default_num_env(atari=False)
    return (
        f"{acktr.default_num_env(atari=True)} for Atari ({in_words}), {continuous} for continuous actions, "
        f"else {acktr.default_num_env(atari=False)}"
    )
