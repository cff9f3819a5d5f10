"""ACKTR with A2C and TRPO beside it, on TensorFlow 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baselines_acktr.agent.agent import Agent

__all__ = ["load"]


def load(path: str, trust: bool = False) -> Agent:
    """The model of a checkpoint, ready to act: `model.step(observations)`, `model.predict(observation)`.

    Args:
      path: what `save`, `--save_path` or a run has written; of a log folder the newest checkpoint.
      trust: use the names of modules that the file has, which runs their code. Else a network `module:function` must
        have been used or registered in this process, and `env_arguments` keep the module of their id only where it is
        imported already.

    Returns:
      The `Model` of its algorithm. `env_id` and `env_arguments` say what it was trained on (see `make_vec_env`).

    Raises:
      UserError: there is none, it is damaged, or its network is not registered or not trusted.
    """
    from baselines_acktr.session.loading import load_model  # late: TensorFlow

    return load_model(path, trust)
