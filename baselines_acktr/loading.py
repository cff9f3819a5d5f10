"""Making a model from a checkpoint alone."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from baselines_acktr import checkpoint, keeper, schema
from baselines_acktr.agents import Agent
from baselines_acktr.networks import is_registered
from baselines_acktr.settings import CONTINUOUS, DISCRETE, LEARNERS
from common import cli
from common.errors import UserError, brief


def load_model(path: str, trust: bool) -> Agent:
    """The model of a checkpoint; see `baselines_acktr.load`."""
    path = keeper.find_model(os.path.expanduser(path))
    meta = schema.read_model(path)[1]
    if not (trust or is_registered(meta["network"])):
        schema.require_trust(path, "network", meta["network"], "network")
    try:
        observations, actions = (space_of(meta[f"{name}_space"]) for name in ("observation", "action"))
        kind = CONTINUOUS if isinstance(actions, gym.spaces.Box) else DISCRETE
        learner = LEARNERS[meta["algorithm"], kind]
        config = learner.config_class(**cli.only(learner.config_class, cli.tuples(meta["config"])))
        network, env_id = meta["network"], meta["env_id"]
    except (KeyError, TypeError, ValueError, OverflowError, AssertionError) as error:
        raise UserError(f"checkpoint {path}: has no model that can be made here: {brief(error, 300)}") from error
    model_class = getattr(importlib.import_module(learner.module), learner.model)
    model = model_class(observations, actions, network, config, env_id=env_id)
    given = checkpoint.env_arguments(meta)
    if "env_id" in given and not trust:
        given["env_id"] = schema.known_here(given["env_id"])
    model.env_arguments = given
    model.load(path)
    model.close()
    return model


def space_of(description: Mapping[str, Any]) -> gym.Space:
    """The space that `checkpoint.describe_space` has described.

    Raises:
      KeyError, TypeError, ValueError or OverflowError: it describes none that a model can have.
    """
    shape, dtype = tuple(description["shape"]), np.dtype(description["dtype"])

    def bounds(name: str) -> np.ndarray:
        return np.broadcast_to(np.asarray(description[name], dtype).ravel(), (int(np.prod(shape)),)).reshape(shape)

    match description["type"]:
        case "Box":
            return gym.spaces.Box(bounds("low"), bounds("high"), shape, dtype.type)
        case "Discrete":
            return gym.spaces.Discrete(description["n"], start=description["start"], dtype=dtype.type)
        case "MultiDiscrete":
            return gym.spaces.MultiDiscrete(bounds("nvec"), dtype.type, start=bounds("start"))
        case other:
            raise ValueError(f"its space is a {other}")
