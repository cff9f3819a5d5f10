"""What a run takes from an earlier one: from its checkpoint, or from all that --resume finds in its log folder."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines_acktr.config import ARCHITECTURE
from baselines_acktr.session.options import PATHS, RunOptions, parse_env_kwargs
from common import assignments, cli
from common.errors import UserError, brief

if TYPE_CHECKING:
    from baselines_acktr.session.checkpoints import SavedModel

# What a checkpoint has no say in: it may come from anybody.
NOT_RESUMED = (*PATHS, "export_format", "export_sample", "best", "resume", "trust")
# What a run that is resumed has in common with the one that was interrupted: else its environments could not go on.
FIXED = ("alg", "env", "network", "num_env", "env_backend", "pixels", "frame_stack", "env_kwargs", "seed")
ENVIRONMENT = {"frame_stack": int, "reward_scale": int | float, "pixels": bool}  # options: what is learned


def take_resumed(typed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], SavedModel | None]:
    """Finds and reads the newest checkpoint for --resume.

    Returns:
      The typed flags, with its model as --load_path, or without --resume where there is nothing to go on from yet; the
      options that come with it; and the model.
    """
    if not typed.get("resume"):
        return typed, {}, None
    from baselines_acktr.session import checkpoints, schema  # late: NumPy
    from common.logger import default_folder

    if "load_path" in typed:
        raise UserError("--resume: finds its checkpoint in the log folder, so it cannot be given with --load_path")
    if "log_path" not in typed and "OPENAI_LOGDIR" not in os.environ:
        raise UserError("--resume: needs the log folder of the run, --log_path=FOLDER or OPENAI_LOGDIR")
    folder = Path(typed.get("log_path") or default_folder()) / checkpoints.FOLDER
    found = checkpoints.newest(folder)
    if found is None:
        if "env" not in typed:
            raise UserError(f"--resume: no checkpoint in {folder}")
        print(f"no checkpoint in {folder} yet: the run starts from its beginning", file=sys.stderr)
        return {**typed, "resume": False}, {}, None
    schema.check_run(found.model.with_suffix(".run"), *found.run)
    model = checkpoints.SavedModel(found.arrays, found.meta, str(found.model)).checked("--resume")
    saved = dataclasses.asdict(RunOptions()) | cli.tuples(cli.only(RunOptions, found.settings))
    for name in (*FIXED, "eval_episodes") if saved["eval_interval"] else FIXED:
        if name in typed and typed[name] != saved[name]:
            raise UserError(f"--{name}={typed[name]}: the run to be resumed has {brief(saved[name])}")
    print(f"going on from {found.model}", file=sys.stderr)
    for name in ("save_path", "video", "export"):
        if saved[name] is not None and name not in typed:
            was = brief(saved[name])
            print(f"--{name} was {was}; a checkpoint cannot say where to write: give it again", file=sys.stderr)
    return {**typed, "load_path": model.path}, {n: v for n, v in saved.items() if n not in NOT_RESUMED}, model


def checked_meta(saved: SavedModel, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the meta of a checkpoint that the typed flags do not contradict."""
    from baselines_acktr.agent import description  # late: Gymnasium

    _, meta, path = saved
    shape = {name: value for name, value in typed.items() if name in ARCHITECTURE}
    env_id = typed["env"].rpartition(":")[2] if "env" in typed else None
    alg = typed.get("alg")
    description.check_compatible(meta, path, algorithm=alg, env_id=env_id, network=typed.get("network"), config=shape)
    return meta


def hyperparameters_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the hyperparameters that a checkpoint brings, of its algorithm or of others."""
    from baselines_acktr.agent import description  # late: NumPy

    return description.hyperparameters(meta)


def options_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that a checkpoint brings: algorithm, network, environment and what makes it."""
    from baselines_acktr.agent import description  # late: NumPy

    found = description.env_arguments(meta)
    env_id = found.get("env_id", meta.get("env_id"))  # the first has the module, too
    names = {"alg": meta.get("algorithm"), "env": env_id, "network": meta.get("network")}
    names |= {name: found[name] for name, kind in ENVIRONMENT.items() if isinstance(found.get(name), kind)}
    names["env_kwargs"] = assignments.unparse(found.get("env_kwargs", {}))
    return {name: value for name, value in names.items() if value is not None}


def require_trust(path: str, brought: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Raises `UserError` where a checkpoint brings the name of a module that the user has neither typed nor allowed."""
    if typed.get("trust"):
        return
    from baselines_acktr.session import schema  # late: NumPy

    networks = sys.modules.get("baselines_acktr.agent.networks")  # where it is not imported, nothing is registered
    env_id, network = brought.get("env", ""), brought.get("network", "")
    if "env" not in typed and schema.known_here(env_id) != env_id:
        schema.require_trust(path, "environment", env_id, "--env")
    kwargs = brought.get("env_kwargs", "")
    if "env_kwargs" not in typed and any(isinstance(v, str | list) for v in parse_env_kwargs(kwargs).values()):
        raise UserError(
            f"checkpoint {path}: its environment is made with {brief(kwargs)}: if you trust it, give "
            f"--env_kwargs={brief(kwargs)}, or --trust"
        )
    if "network" not in typed and not (networks and networks.is_registered(network)):
        schema.require_trust(path, "network", network, "--network")
