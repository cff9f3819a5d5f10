"""Making a model from a checkpoint alone."""

from __future__ import annotations

from baselines_acktr.agent import description
from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.networks import is_registered
from baselines_acktr.session import checkpoints, schema
from baselines_acktr.session.learn import go_on_with
from baselines_acktr.session.learners import LEARNERS, kind_of
from baselines_acktr.session.settings import settle_config
from common.errors import UserError, brief
from common.paths import given_path


def load_model(path: str, trust: bool, best: bool = False) -> Agent:
    """The model of a checkpoint; see `baselines_acktr.load`."""
    saved = checkpoints.read_model(given_path(path, "path"), "path", best)
    meta = saved.meta
    if not (trust or is_registered(meta["network"])):
        schema.require_trust(saved.path, "network", meta["network"], "network")
    try:
        observations, actions = (description.space_of(meta[f"{name}_space"]) for name in ("observation", "action"))
        learner = LEARNERS[meta["algorithm"], kind_of(actions)]
        config, _ = settle_config(learner.config_class, ("checkpoint", description.hyperparameters(meta)))
        network, env_id = meta["network"], meta["env_id"]
    except (KeyError, TypeError, ValueError, OverflowError, AssertionError) as error:
        raise UserError(f"checkpoint {saved.path}: has no model that can be made here: {brief(error, 300)}") from error
    model = learner.import_class()(observations, actions, network, config, env_id=env_id)
    given = description.env_arguments(meta)
    if "env_id" in given and not trust:
        given["env_id"] = schema.known_here(given["env_id"])
    model.env_arguments = given
    model.restore(*saved)
    model.close()
    model.trainer = go_on_with(model)
    return model
