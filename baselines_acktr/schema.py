"""What a checkpoint may say: everything in it is looked at here before anything is built from it.

A file may come from anybody. So every value is of the kind and within the limits that this program writes, what it
declares is of the size of the arrays in the file, and these are finite; names that would import a module are used only
where the user typed or allowed them (`require_trust`).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from baselines_acktr import checkpoint
from baselines_acktr.config import HIDDEN_SIZES, PIXEL_CONVOLUTIONS, DisjointConfig
from baselines_acktr.settings import ALGORITHMS, CONTINUOUS, DISCRETE, LEARNERS
from common import cli
from common.errors import UserError, brief

MAX_OBSERVATION = 2**24  # numbers of an observation
_MAX_ACTIONS = 2**20
_MAX_RANK = 8  # of a space
_MAX_STACK = 64  # frames of an observation of a game
_MAX_TEXT = 1000  # characters of a name
_RUN_JSON_LIMIT = 2**20  # bytes
_DTYPES = {"bool", "float16", "float32", "float64"} | {f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}

Arrays = Mapping[str, np.ndarray]


class _Field(NamedTuple):
    """What a value of a description may be: a test, and the same in words."""

    fits: Callable[[Any], bool]
    allowed: str
    required: bool = True


def read_model(path: checkpoint.StrPath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the meta of a model's file, as `checkpoint.load`, if a model can be made of them.

    Raises:
      UserError: in one line with the file's name, as `checkpoint.load`; it is no model; a value of its description is
        not allowed; its declared sizes are not those of its arrays; or one of these is not finite.
    """
    arrays, meta = checkpoint.load(path)
    try:
        _check_model(arrays, meta)
    except (ValueError, OverflowError) as error:
        raise UserError(f"checkpoint {path}: has no model that can be made here: {brief(error, 300)}") from error
    return arrays, meta


def read_run(path: checkpoint.StrPath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the meta of what belongs to a model's file and only resuming needs; raises as `read_model`."""
    arrays, meta = checkpoint.load(path)
    check_facts(path, meta)
    try:
        _check_fields({"logs": _Field(lambda value: isinstance(value, list), "a list")}, meta)
        for part in meta["logs"]:
            _check_fields(dict.fromkeys(part, _whole(0)) if isinstance(part, dict) else {}, part, "logs: ")
        _check_fields(_SETTINGS, meta["settings"], "settings: ")
        seen = arrays.get("rank0/runner/observations")
        if seen is None or seen.ndim == 0 or len(seen) != meta["settings"]["num_env"]:
            raise ValueError("it is not of as many environments as it declares")
    except ValueError as error:
        raise UserError(f"checkpoint {path}: damaged: {brief(error, 300)}") from error
    return arrays, meta


def check_facts(path: checkpoint.StrPath, meta: Mapping[str, Any]) -> None:
    """Raises `UserError` unless the meta of a run's file has what `keeper.Keeper` adds to it."""
    try:
        _check_fields(_FACTS, meta)
    except ValueError as error:
        raise UserError(f"checkpoint {path}: damaged: {brief(error, 300)}") from error


def timesteps_of(path: checkpoint.StrPath) -> int:
    """How many timesteps a model's file says that it is trained; raises UserError as `read_model`."""
    meta = checkpoint.load_meta(path)
    try:
        _check_fields({"counters": _OBJECT}, meta)
        _check_fields({"timesteps": _COUNTERS["timesteps"]}, meta["counters"], "counters: ")
    except ValueError as error:
        raise UserError(f"checkpoint {path}: damaged: {brief(error, 300)}") from error
    return meta["counters"]["timesteps"]


def settings_in_run_json(path: Path) -> dict[str, dict[str, Any]]:
    """{flag: {"value": its value, "from": where it came from}} of a run.json.

    Raises:
      UserError: it cannot be read, is larger than any of ours, or is not as `run_info.write` leaves it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_RUN_JSON_LIMIT + 1)
        if len(text) > _RUN_JSON_LIMIT:
            raise ValueError("it is too large")
        content = json.loads(text)
        _check_fields({"settings": _OBJECT}, content)
        for name, setting in content["settings"].items():
            _check_fields({"value": _Field(lambda value: True, ""), "from": _text()}, setting, f"{brief(name)}: ")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {brief(error, 300)}") from error
    return content["settings"]


def require_trust(path: checkpoint.StrPath, what: str, name: str, flag: str) -> None:
    """Raises `UserError` for a name from a file that would import a module, saying how the user may allow it.

    Args:
      path: of the file.
      what: the name is of, such as "network".
      name: as in the file, `module:...` or without a module.
      flag: by which the user could have given the same.
    """
    if ":" in name:
        raise UserError(
            f"checkpoint {path}: its {what} is {brief(name)}, which would run code of that module: if you trust it, "
            f"give {flag}={brief(name)}, or --trust (in Python trust=True)"
        )


def known_here(env_id: str) -> str:
    """The id of an environment without its module, unless that is loaded already, so that using it runs nothing."""
    module, _, name = env_id.rpartition(":")
    return env_id if module in sys.modules else name


def _check_model(arrays: Arrays, meta: Mapping[str, Any]) -> None:
    _check_fields(_MODEL, meta)
    for name in ("observation_space", "action_space"):
        _check_space(name, meta[name], MAX_OBSERVATION if name == "observation_space" else _MAX_ACTIONS)
    _check_fields(_COUNTERS, meta["counters"], "counters: ")
    given = checkpoint.env_arguments(meta)
    _check_fields(_ENV_ARGUMENTS, given, "env_arguments: ")
    shape = tuple(meta["observation_space"]["shape"])
    if given.get("frame_stack", 0) > _MAX_STACK and given["frame_stack"] not in shape:
        raise ValueError(f"env_arguments: frame_stack: {given['frame_stack']} frames, of which its space knows nothing")
    kind = CONTINUOUS if meta["action_space"]["type"] == "Box" else DISCRETE
    config_class = LEARNERS[meta["algorithm"], kind].config_class
    config = config_class(**cli.only(config_class, cli.tuples(meta["config"])))
    _check_sizes(arrays, meta, config)
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")


def _check_fields(fields: Mapping[str, _Field], found: Any, where: str = "") -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{where}{brief(found)}: must be an object")
    for name, field in fields.items():
        if name not in found:
            if field.required:
                raise ValueError(f"{where}{brief(name)}: missing")
        elif not field.fits(found[name]):
            raise ValueError(f"{where}{brief(name)}: {brief(found[name])}: must be {field.allowed}")


def _is_whole(value: Any, least: int = -(2**63), most: int = 2**64 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_bound(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("inf", "-inf")
    return isinstance(value, bool) or _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _whole(least: int, most: int = 2**63 - 1, required: bool = True) -> _Field:
    words = f"a whole number from {least} to {most}"
    return _Field(lambda value: _is_whole(value, least, most), words, required)


def _text(required: bool = True) -> _Field:
    return _Field(_is_text, f"printable text of at most {_MAX_TEXT} characters", required)


_OBJECT = _Field(lambda value: isinstance(value, dict), "an object")
_BOOL = _Field(lambda value: isinstance(value, bool), "true or false")
_MODEL = {
    "algorithm": _Field(lambda value: isinstance(value, str) and value in ALGORITHMS, f"of {', '.join(ALGORITHMS)}"),
    "env_id": _Field(lambda value: value is None or _is_text(value), "printable text or null"),
    "observation_space": _OBJECT,
    "action_space": _OBJECT,
    "network": _text(),
    "config": _OBJECT,
    "counters": _OBJECT,
    "env_arguments": _OBJECT._replace(required=False),
    "pair": _text(required=False),
}
_COUNTERS = {"timesteps": _whole(0), "updates": _whole(0), "seed": _whole(0, 2**31 - 1)}
_ENV_ARGUMENTS = {
    "env_id": _text(required=False),
    "frame_stack": _whole(1, required=False),
    "reward_scale": _Field(lambda value: _is_number(value) and value > 0, "a finite number above 0", required=False),
    "pixels": _BOOL._replace(required=False),
}
_FACTS = {
    "timesteps": _whole(0),
    "score": _Field(lambda value: value is None or _is_number(value), "a finite number or null"),
    "milestone": _BOOL,
    "pair": _text(),
    "settings": _OBJECT,
}
_SETTINGS = {
    "alg": _text(),
    "env": _text(),
    "network": _text(),
    "num_env": _whole(1),
    "seed": _whole(0, 2**31 - 1),
}


def _sizes(value: Any, count: int, one: Callable[[Any], bool]) -> bool:
    """Whether a value is one number, or a list of `count`, of which `one` is true."""
    return len(value) == count and all(map(one, value)) if isinstance(value, list) else one(value)


def _check_space(name: str, space: Mapping[str, Any], most: int) -> None:
    """Raises ValueError unless `checkpoint.describe_space` may have written this of a space of at most so many."""
    where = f"{name}: "
    dtype = _Field(lambda value: isinstance(value, str) and value in _DTYPES, "the name of a type of numbers")
    _check_fields(
        {"type": _text(), "shape": _Field(_is_shape, "a list of whole numbers"), "dtype": dtype}, space, where
    )
    count = math.prod(space["shape"])
    if not 0 < count <= most:
        raise ValueError(f"{where}of {brief(count)} numbers; allowed are 1 to {most}")
    whole = _Field(lambda value: _sizes(value, count, _is_whole), "whole numbers, one or as many as there are")
    sizes = _Field(lambda value: _sizes(value, count, lambda n: _is_whole(n, 1, _MAX_ACTIONS)), "sizes of choices")
    bounds = _Field(lambda value: _sizes(value, count, _is_bound), "numbers, one or as many as the shape has")
    match space["type"]:
        case "Box":
            _check_fields({"low": bounds, "high": bounds}, space, where)
        case "Discrete" if name == "action_space":
            _check_fields({"n": _whole(1, _MAX_ACTIONS), "start": _whole(-(2**63))}, space, where)
        case "MultiDiscrete" if name == "action_space":
            _check_fields({"nvec": sizes, "start": whole}, space, where)
        case other:
            raise ValueError(f"{where}its space is a {brief(other)}")


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_RANK and all(_is_whole(n, 0, 2**32) for n in value)


def _check_sizes(arrays: Arrays, meta: Mapping[str, Any], config: Any) -> None:
    """Raises ValueError unless the networks that the description declares are of the arrays' shapes."""
    disjoint = isinstance(config, DisjointConfig)
    kernels = _kernels(meta["network"], tuple(meta["observation_space"]["shape"]), config)
    weights = [shape for kernel in kernels or () for shape in (kernel, kernel[-1:])]
    for owner in ("policy", "vf/parameters") if disjoint else ("parameters",):
        shapes = _shapes(arrays, owner)
        if not shapes or shapes[: len(weights)] != weights:
            raise ValueError(f"the layers that it declares are not those of its arrays {owner}")
    heads = _shapes(arrays, "policy" if disjoint else "parameters")[len(weights) :]
    size = _outputs(meta["action_space"])
    if not any(len(shape) == 2 and shape[1] == size for shape in heads):
        raise ValueError("the actions that it declares are not those of its arrays")
    if meta["algorithm"] == "acktr":
        _check_factors(arrays, _shapes(arrays, "policy") + _shapes(arrays, "parameters"))


def _check_factors(arrays: Arrays, shapes: list[tuple[int, ...]]) -> None:
    """Raises ValueError where K-FAC's factors of the layers would hold more numbers than the whole file does."""
    kernels = [(math.prod(shape[:-1]), shape[-1]) for shape in shapes if len(shape) > 1]
    if sum(rows**2 + columns**2 for rows, columns in kernels) > sum(array.size for array in arrays.values()):
        raise ValueError("it has not the state of the optimizer of such layers")


def _shapes(arrays: Arrays, owner: str) -> list[tuple[int, ...]]:
    """Shapes of the weights `owner/0`, `owner/1`, ... as far as there are any."""
    shapes: list[tuple[int, ...]] = []
    while (array := arrays.get(f"{owner}/{len(shapes)}")) is not None:
        shapes.append(array.shape)
    return shapes


def _kernels(network: str, shape: tuple[int, ...], config: Any) -> list[tuple[int, ...]] | None:
    """Shapes of the kernels of one of our networks for observations of `shape`; None of another's."""
    if network not in HIDDEN_SIZES:
        return None
    kernels: list[tuple[int, ...]] = []
    if network != "mlp":
        if len(shape) != 3:
            raise ValueError(f"network {network}, whose observations must be images, for those of shape {shape}")
        ours = PIXEL_CONVOLUTIONS if network == "pixels" else None
        for filters, size, stride in ours or zip(
            config.conv_filters, config.conv_kernels, config.conv_strides, strict=True
        ):
            if min(shape[:2]) < size:
                raise ValueError("its images are too small for its convolutions")
            kernels.append((size, size, shape[2], filters))
            shape = ((shape[0] - size) // stride + 1, (shape[1] - size) // stride + 1, filters)
    features = math.prod(shape)
    for size in config.hidden_sizes or HIDDEN_SIZES[network]:
        kernels.append((features, size))
        features = size
    return kernels


def _outputs(space: Mapping[str, Any]) -> int:
    """How many numbers the head of a policy over the described actions gives."""
    if space["type"] == "Discrete":
        return space["n"]
    count = math.prod(space["shape"])
    if space["type"] == "Box":
        return count
    nvec = space["nvec"]
    return sum(nvec) if isinstance(nvec, list) else nvec * count
