"""What a checkpoint says of a model: its algorithm, spaces, network, hyperparameters and how far it is trained."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from baselines_acktr.config import BEFORE, RECURRENT, settled_architecture
from common.atomic_file import StrPath
from common.errors import UserError, brief
from common.joined_space import JoinedBox, Part
from common.options import values_in_files


def describe(
    *,
    algorithm: str,
    env_id: str | None,
    observation_space: Any,
    action_space: Any,
    network: str,
    config: Any,
    env_arguments: Mapping[str, Any] | None = None,
    counters: Mapping[str, int | float] | None = None,
) -> dict[str, Any]:
    """Returns the meta of a checkpoint.

    Args:
      algorithm: name of the learning algorithm.
      env_id: id of the environment the model was trained on, None where it has none.
      observation_space: of one environment (gymnasium).
      action_space: of one environment (gymnasium).
      network: name of the network.
      config: dataclass of the learner's hyperparameters.
      env_arguments: of `make_vec_env`, those that say what the model was trained on.
      counters: such as updates and timesteps so far.
    """
    return {
        "algorithm": algorithm,
        "env_id": env_id,
        "observation_space": describe_space(observation_space),
        "action_space": describe_space(action_space),
        "network": network,
        "config": values_in_files(config),
        "env_arguments": dict(env_arguments or {}),
        "counters": dict(counters or {}),
        "versions": {name: version_of(name) for name in ("numpy", "tensorflow", "keras", "gymnasium")},
    }


def describe_space(space: Any) -> dict[str, Any]:
    """Returns a gymnasium space as JSON: its type, shape, dtype and whichever of n, nvec, start, low, high it has.

    Of a `JoinedBox` it is the parts in place of these, each with the path that leads to it.
    """
    result: dict[str, Any] = {"type": type(space).__name__, "shape": list(space.shape or ()), "dtype": str(space.dtype)}
    if isinstance(space, JoinedBox):
        parts = [{"path": list(part.path), **describe_space(part.space)} for part in space.parts]
        return result | {"parts": parts}
    for key in ("n", "nvec", "start", "low", "high"):
        value = getattr(space, key, None)
        if value is not None:
            result[key] = _bounds(np.asarray(value))
    return result


def require_same_spaces(model: Any, env: gym.vector.VectorEnv) -> None:
    """Raises UserError for an environment whose `observation_space` or `action_space` is not that of the model."""
    for name in ("observation_space", "action_space"):
        found, expected = getattr(env, f"single_{name}"), getattr(model, name)
        if describe_space(found) != describe_space(expected):
            own, wanted = (brief(" ".join(str(space).split()), 300) for space in (found, expected))
            raise UserError(f"env: its {name.replace('_', ' ')} is {own}; that of the model is {wanted}")


def hyperparameters(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters in the meta of a checkpoint; older files do not say what there was no choice of.

    Some call the network of the critic a copy of a recurrent one, which it shares.
    """
    if "config" not in meta:
        return {}
    shared = {"value_network": "shared"} if meta["config"].get("value_network") and meta["network"] in RECURRENT else {}
    return {**BEFORE, **meta["config"], **shared}


def env_arguments(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `make_vec_env` in the meta of a checkpoint; older files call the id `env`."""
    found = meta.get("env_arguments", {})
    return {"env_id" if name == "env" else name: value for name, value in found.items()}


def check_compatible(
    meta: Mapping[str, Any],
    path: StrPath = "checkpoint",
    *,
    algorithm: str | None = None,
    env_id: str | None = None,
    observation_space: Any = None,
    action_space: Any = None,
    network: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Raises `UserError` for the first given argument that differs from what the checkpoint was trained with.

    Args:
      meta: of the checkpoint, as made by `describe`.
      path: named in the message.
      algorithm, env_id, observation_space, action_space, network: what is asked for; None: not compared.
      config: {name of a hyperparameter: value asked for}.
    """
    asked: dict[str, Any] = {"algorithm": algorithm, "env_id": env_id, "network": network}
    asked |= {"observation_space": observation_space, "action_space": action_space}
    for key, value in asked.items():
        if value is not None:
            value = describe_space(value) if key.endswith("space") else value
            _check_same(path, "environment" if key == "env_id" else key.replace("_", " "), meta.get(key), value)
    found = settled_architecture(meta.get("network"), hyperparameters(meta))
    for key, value in settled_architecture(meta.get("network"), config or {}).items():
        _check_same(path, key, _plain(found.get(key)), _plain(value))


def _plain(value: Any) -> Any:
    """Returns a value as JSON brings it."""
    return list(value) if isinstance(value, tuple) else value


def _check_same(path: StrPath, what: str, trained: Any, asked: Any) -> None:
    if trained != asked:
        raise UserError(f"checkpoint {path}: trained with {what} {_brief(trained)}, asked for {_brief(asked)}")


def _brief(value: Any) -> str:
    """Returns a value of the meta in few words; a space as its type, its size and its dtype."""
    if not isinstance(value, dict):
        return brief(value)
    size = value.get("n", value.get("nvec", value.get("shape")))
    return brief(f"{value.get('type')}({size}, {value.get('dtype')})")


def _bounds(value: np.ndarray) -> Any:
    """Returns the one number that an array repeats, else all of them; infinities as text, since JSON has none."""
    flat = [number if math.isfinite(number) else str(number) for number in value.ravel().tolist()]
    return flat[0] if flat and all(number == flat[0] for number in flat) else flat


def version_of(package: str) -> str | None:
    """The installed version of a package; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def space_of(described: Mapping[str, Any]) -> gym.Space:
    """The space that `describe_space` has described.

    Raises:
      KeyError, TypeError, ValueError or OverflowError: it describes none that a model can have.
    """
    shape = tuple(described["shape"])
    dtype = np.dtype(described["dtype"])

    def bounds(name: str) -> np.ndarray:
        return np.broadcast_to(np.asarray(described[name], dtype).ravel(), (int(np.prod(shape)),)).reshape(shape)

    match described["type"]:
        case "JoinedBox":
            return JoinedBox([Part(tuple(part["path"]), space_of(part)) for part in described["parts"]])
        case "MultiBinary":
            return gym.spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
        case "Box":
            return gym.spaces.Box(bounds("low"), bounds("high"), shape, dtype.type)
        case "Discrete":
            return gym.spaces.Discrete(described["n"], start=described["start"], dtype=dtype.type)
        case "MultiDiscrete":
            return gym.spaces.MultiDiscrete(bounds("nvec"), dtype.type, start=bounds("start"))
        case other:
            raise ValueError(f"its space is a {other}")
