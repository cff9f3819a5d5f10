"""From what was typed to the settings of a run: defaults, checkpoint, file of flags and command line merged."""

from __future__ import annotations

import dataclasses
import os
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from baselines_acktr.agent.network_names import BUILT_IN, require_memory, unknown_network
from baselines_acktr.session import config_file
from baselines_acktr.session.earlier_run import (
    checked_meta,
    hyperparameters_of,
    options_of,
    require_trust,
    take_resumed,
)
from baselines_acktr.session.learners import ALGORITHMS, LEARNERS
from baselines_acktr.session.options import FLAGS, PATHS, RunOptions, parse_env_kwargs
from baselines_acktr.session.ready_made import POLICY_ONLY
from baselines_acktr.session.settings import Settings
from common import assignments, cli
from common.errors import UserError, brief


def settle(typed: Mapping[str, Any]) -> Settings:
    """Merges defaults, the checkpoint of --load_path or --resume and the flags that were typed, which win.

    Raises:
      UserError: a value outside its limits, a checkpoint that cannot be read, or a flag that contradicts it.
    """
    typed = {n: os.path.expanduser(v) if n in PATHS else v for n, v in typed.items()}
    filed = _of_config_file(typed)
    typed = _with_one_form(filed | typed)
    if typed.get("best") and ("load_path" not in typed or typed.get("resume")):
        raise UserError("--best: takes the best model of a log folder, so it needs --load_path=FOLDER")

    typed, resumed, saved = take_resumed(typed)
    if "load_path" in typed and saved is None:
        from baselines_acktr.session import checkpoints  # late: NumPy

        saved = checkpoints.read_model(typed["load_path"], "--load_path", typed.get("best", False))
        typed["load_path"] = saved.path
    meta = checked_meta(saved, typed) if saved else {}
    brought = (options_of(meta) if saved else {}) | resumed
    if saved:
        require_trust(saved.path, brought, typed)

    layers = (
        ("default", dataclasses.asdict(RunOptions())),
        ("replay", {"num_timesteps": 0} if saved and _uses_model(typed) and not resumed else {}),
        ("drawn", {"seed": secrets.randbelow(2**31)}),
        ("checkpoint", brought),
    )
    values, origins = cli.resolve(*layers, *_by_origin(cli.only(RunOptions, typed), filed))
    options = RunOptions(**values)
    if meta.get("policy_only") and options.num_timesteps:
        raise UserError(f"--load_path={options.load_path}: {POLICY_ONLY}; give --play or --export=FILE")
    _check_network(options)

    typed = {name: value for name, value in typed.items() if name not in values}
    loaded = cli.tuples(hyperparameters_of(meta))
    _check_hyperparameters(options.alg, loaded, typed)
    if options.env is None:
        raise UserError("--env: missing; for example --env=CartPole-v1, or a model that brings it, --load_path=FILE")
    trained = meta.get("counters", {}).get("timesteps", 0)
    return Settings(options, origins, trained, (("checkpoint", loaded), *_by_origin(typed, filed)), saved)


def _uses_model(typed: Mapping[str, Any]) -> bool:
    """Whether a model is to be used as it is, unless training is asked for, too."""
    return bool(typed.get("play") or typed.get("export"))


def _of_config_file(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the file that --config names, but for those that were typed; {} without one.

    Raises:
      UserError: the file cannot be used, or has the name of a module that the user has neither typed nor allowed.
    """
    path = typed.get("config")
    if path is None:
        return {}
    found = config_file.read(path, FLAGS)
    filed = {name: value for name, value in found.items() if name not in typed}
    for name in ("env", "network"):
        if ":" in filed.get(name, "") and not typed.get("trust"):
            raise UserError(
                f"--config={brief(path)}: its {name} is {brief(filed[name])}, which would run code of that module: if "
                f"you trust it, give --{name}={brief(filed[name])}, or --trust"
            )
    return filed


def _by_origin(given: Mapping[str, Any], filed: Mapping[str, Any]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Returns what was given as two layers of settings, of the file of --config and typed."""
    of_file = {name: value for name, value in given.items() if name in filed}
    typed = {name: value for name, value in given.items() if name not in filed}
    return ("config file", of_file), ("command line", typed)


def _with_one_form(typed: dict[str, Any]) -> dict[str, Any]:
    """Returns the given flags with --kfac_clip turned into --delta, and --env_kwargs in the form that is compared."""
    if "env_kwargs" in typed:
        typed = {**typed, "env_kwargs": assignments.unparse(parse_env_kwargs(typed["env_kwargs"]))}
    if "kfac_clip" not in typed:
        return typed
    if "delta" in typed:
        raise UserError("--kfac_clip: is 2 delta, so it cannot be given together with --delta")
    return {**typed, "delta": typed["kfac_clip"] / 2}


def _check_network(options: RunOptions) -> None:
    """Raises `UserError` for a network that nobody can have registered, before TensorFlow is imported."""
    name, env = options.network, options.env or ""
    if name is None or ":" in name or ":" in env:  # a module may register its own
        return
    networks = sys.modules.get("baselines_acktr.agent.networks")
    if name not in BUILT_IN and not (networks and networks.is_registered(name)):
        raise unknown_network(name, BUILT_IN)
    classes = [learner.config_class for (alg, _), learner in LEARNERS.items() if alg == options.alg]
    require_memory(name, classes, options.alg)


def _check_hyperparameters(alg: str, loaded: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Raises `UserError` for typed hyperparameters that no learner of the algorithm takes with the loaded ones."""
    classes = [learner.config_class for (name, _), learner in LEARNERS.items() if name == alg]
    knowing = [cls for cls in classes if len(cli.only(cls, typed)) == len(typed)]
    if not knowing:
        foreign = [name for name in typed if not any(cli.only(cls, {name: None}) for cls in classes)]
        if len(foreign) == 1:
            raise UserError(f"--{foreign[0]}: {alg} does not have it, {_owners(foreign[0])}")
        flags = ", ".join(f"--{name}" for name in foreign or typed)
        raise UserError(f"{flags}: {alg} does not have them together")
    errors = []
    for config_class in knowing:
        try:
            config_class(**{**cli.only(config_class, loaded), **typed})
            return
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _owners(name: str) -> str:
    """Returns the algorithms that have a hyperparameter, as in "a2c and trpo have"."""
    algorithms = [
        alg for alg in ALGORITHMS if any(cli.only(LEARNERS[k].config_class, {name: 0}) for k in LEARNERS if k[0] == alg)
    ]
    return f"{' and '.join(algorithms)} {'has' if len(algorithms) == 1 else 'have'}"
