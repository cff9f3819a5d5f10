"""Making a model from a checkpoint alone."""

from __future__ import annotations

import importlib

import gymnasium as gym

from baselines_acktr.agent import description
from baselines_acktr.agent.agent import Agent
from baselines_acktr.session import checkpoints
from baselines_acktr.session.settings import CONTINUOUS, DISCRETE, LEARNERS
from common import array_file, cli
from common.errors import UserError


def load_model(path: str) -> Agent:
    """The model of a checkpoint; see `baselines_acktr.load`."""
    path = checkpoints.find_model(path)
    meta = array_file.load_meta(path)
    try:
        observations, actions = (description.space_of(meta[f"{name}_space"]) for name in ("observation", "action"))
        kind = CONTINUOUS if isinstance(actions, gym.spaces.Box) else DISCRETE
        learner = LEARNERS[meta["algorithm"], kind]
        config = learner.config_class(**cli.only(learner.config_class, cli.tuples(meta["config"])))
        network, env_id = meta["network"], meta["env_id"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"checkpoint {path}: has no model that can be made here: {error}") from error
    model_class = getattr(importlib.import_module(learner.module), learner.model)
    model = model_class(observations, actions, network, config, env_id=env_id)
    model.env_arguments = description.env_arguments(meta)
    model.load(path)
    model.close()
    return model
