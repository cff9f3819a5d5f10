"""Settings of environments that are learned better with others than the defaults, and where that was measured.

The tasks of the paper are not among them: those all have one set of hyperparameters for their kind of actions.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Tuned(NamedTuple):
    """What suits an environment: {name of a hyperparameter: value}, and where it was measured."""

    values: dict[str, Any]
    source: str


TUNED = {
    ("acktr", "CartPole-v1"): Tuned(
        {"lr": 3.0, "damping": 2e-4, "delta": 0.012, "vf_coef": 0.2, "vf_kl_coef": 1.0}, "docs/settings.md"
    ),
}


def tuned_for(alg: str, env_id: str) -> Tuned | None:
    """Returns what suits an algorithm on an environment, None where the defaults do.

    Args:
      alg: the learning algorithm.
      env_id: id of the environment, with or without the module that registers it.
    """
    return TUNED.get((alg, env_id.rpartition(":")[2]))
