"""Finding registered environments by id, with helpful errors."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from common.errors import UserError, brief, closest
from common.importing import import_named


def registered_ids() -> list[str]:
    """Returns the sorted ids of all registered environments, including Atari games if ale-py is installed."""
    _register_atari()
    return sorted(gym.registry)


def split_module(env_id: str) -> tuple[str, str]:
    """Splits `module:Id` into the module to import and the id. The module is "" if there is none."""
    module, _, name = env_id.rpartition(":")
    return module, name


def find_spec(env_id: str) -> EnvSpec:
    """Returns the specification of the environment `Id` or `module:Id`. The module is imported first.

    Raises:
      UserError: the id is not a string or not registered, or the module cannot be imported.
    """
    if not isinstance(env_id, str):
        raise UserError(f"env_id={env_id}: must be the id of an environment, or a function that makes one")

    module, name = split_module(env_id)
    if module:
        import_named(module, f"--env={env_id}")
    if name not in gym.registry:
        _register_atari()

    if name not in gym.registry:
        allowed = [known for known in registered_ids() if not skips_at_random(gym.registry[known])]
        hint = closest(name, allowed, cutoff=0.5) or " One that another package registers is --env=package:ID."
        raise UserError(f"--env={env_id}: no such environment is registered.{hint}")

    return gym.registry[name]


def with_kwargs(spec: EnvSpec, kwargs: Mapping[str, Any]) -> EnvSpec:
    """Returns the specification of the same environment made with further arguments.

    Raises:
      UserError: the environment has no such argument, or a value is none that a checkpoint can hold.
    """
    if not kwargs:
        return spec
    for name, value in kwargs.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"env_kwargs: {brief(name)} is {brief(repr(value))}; must be what JSON has: numbers, text, lists and "
                "objects. gymnasium.register(..., kwargs={...}) takes others"
            ) from error
    entry = spec.entry_point
    creator: Any = load_env_creator(entry) if isinstance(entry, str) else entry
    parameters = inspect.signature(creator).parameters
    names = [name for name in parameters if name != "render_mode"]
    for name in kwargs:
        if name not in names and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
            raise UserError(f"--env_kwargs: {spec.id} has no argument {brief(name)}.{closest(name, names)}")
    return dataclasses.replace(spec, kwargs={**spec.kwargs, **kwargs})


def is_atari(spec: EnvSpec) -> bool:
    """Returns whether an environment is an Atari game of ale-py."""
    return spec.entry_point == "ale_py.env:AtariEnv"


def skips_at_random(spec: EnvSpec) -> bool:
    """Returns whether an environment is an Atari game that skips a random number of frames, such as `Pong-v4`."""
    return isinstance(spec.kwargs.get("frameskip"), tuple)


def newer_version(spec: EnvSpec) -> str:
    """Returns " Did you mean X?" if a newer version X of the environment is registered, else ""."""
    versions = [
        other
        for other in gym.registry.values()
        if (other.namespace, other.name) == (spec.namespace, spec.name) and other.version is not None
    ]
    newest = max(versions, key=lambda other: other.version or 0, default=spec)
    return "" if newest.id == spec.id else f" Did you mean {newest.id}?"


def _register_atari() -> None:
    """Registers the games of ale-py. It is called only for ids that Gymnasium itself does not know."""
    try:
        import ale_py
    except ImportError:
        return
    gym.register_envs(ale_py)
