"""Finding registered environments by id, with errors that say what to do."""

from __future__ import annotations

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from common.errors import UserError, closest
from common.importing import import_named


def registered_ids() -> list[str]:
    """Returns the ids of all registered environments, Atari's among them where ale-py is installed."""
    _register_atari()
    return sorted(gym.registry)


def split_module(env_id: str) -> tuple[str, str]:
    """Splits `module:Id` into the module to import ("" for none) and the registered id."""
    module, _, name = env_id.rpartition(":")
    return module, name


def find_spec(env_id: str) -> EnvSpec:
    """Returns the registered environment for `Id` or `module:Id`, importing the module first.

    Raises:
      UserError: it is no id, the module cannot be imported, or no such id is registered.
    """
    if not isinstance(env_id, str):
        raise UserError(f"env_id={env_id}: must be the id of an environment; gymnasium.register gives it one")
    module, name = split_module(env_id)
    if module:
        import_named(module, f"--env={env_id}")
    if name not in gym.registry:
        _register_atari()
    if name not in gym.registry:
        allowed = [known for known in registered_ids() if not skips_at_random(gym.registry[known])]
        raise UserError(f"--env={env_id}: no such environment is registered.{closest(name, allowed, cutoff=0.5)}")
    return gym.registry[name]


def is_atari(spec: EnvSpec) -> bool:
    """Says whether an environment is an Atari game of ale-py."""
    return spec.entry_point == "ale_py.env:AtariEnv"


def skips_at_random(spec: EnvSpec) -> bool:
    """Says whether an environment is an Atari game such as `Pong-v4`, whose emulator skips frames at random."""
    return isinstance(spec.kwargs.get("frameskip"), tuple)


def newer_version(spec: EnvSpec) -> str:
    """Returns " Did you mean X?" for the newest registered version of an environment, or "" where it is the newest."""
    versions = [
        other
        for other in gym.registry.values()
        if (other.namespace, other.name) == (spec.namespace, spec.name) and other.version is not None
    ]
    newest = max(versions, key=lambda other: other.version or 0, default=spec)
    return "" if newest.id == spec.id else f" Did you mean {newest.id}?"


def _register_atari() -> None:
    """Registers ale-py's games; only called for ids that Gymnasium alone does not know."""
    try:
        import ale_py
    except ImportError:
        return
    gym.register_envs(ale_py)
