"""Making a model from a checkpoint alone."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from baselines_acktr import checkpoint, keeper
from baselines_acktr.agents import Agent
from baselines_acktr.settings import CONTINUOUS, DISCRETE, LEARNERS
from common import cli
from common.errors import UserError


def load_model(path: str) -> Agent:
    """The model of a checkpoint; see `baselines_acktr.load`."""
    path = keeper.find_model(path)
    meta = checkpoint.load_meta(path)
    try:
        observations, actions = (space_of(meta[f"{name}_space"]) for name in ("observation", "action"))
        kind = CONTINUOUS if isinstance(actions, gym.spaces.Box) else DISCRETE
        learner = LEARNERS[meta["algorithm"], kind]
        config = learner.config_class(**cli.only(learner.config_class, cli.tuples(checkpoint.hyperparameters(meta))))
        network, env_id = meta["network"], meta["env_id"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"checkpoint {path}: has no model that can be made here: {error}") from error
    model_class = getattr(importlib.import_module(learner.module), learner.model)
    model = model_class(observations, actions, network, config, env_id=env_id)
    model.env_arguments = checkpoint.env_arguments(meta)
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
