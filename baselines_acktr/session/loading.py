"""Making a model from a checkpoint alone."""

from __future__ import annotations

from baselines_acktr.agent import description
from baselines_acktr.agent.agent import Agent
from baselines_acktr.session import checkpoints
from baselines_acktr.session.learners import LEARNERS, kind_of
from baselines_acktr.session.settings import settle_config
from common.errors import UserError


def load_model(path: str) -> Agent:
    """The model of a checkpoint; see `baselines_acktr.load`."""
    saved = checkpoints.read_model(path, "path")
    meta = saved.meta
    try:
        observations, actions = (description.space_of(meta[f"{name}_space"]) for name in ("observation", "action"))
        learner = LEARNERS[meta["algorithm"], kind_of(actions)]
        config, _ = settle_config(learner.config_class, ("checkpoint", description.hyperparameters(meta)))
        network, env_id = meta["network"], meta["env_id"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"checkpoint {saved.path}: has no model that can be made here: {error}") from error
    model = learner.import_class()(observations, actions, network, config, env_id=env_id)
    model.env_arguments = description.env_arguments(meta)
    model.restore(*saved)
    model.close()
    return model
