"""What a model's file may say: everything in it is looked at here before anything is built from it.

A file may come from anybody. So every value is of the kind and within the limits that this program writes, what it
declares is of the size of the arrays in the file, and these are finite.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from baselines_acktr.agent import description
from baselines_acktr.config import (
    HIDDEN_ACTIVATIONS,
    HIDDEN_SIZES,
    MEMORY_UNITS,
    PIXEL_CONVOLUTIONS,
    RECURRENT,
    DisjointConfig,
)
from common import cli
from common.atomic_file import StrPath
from common.errors import UserError, brief
from common.fields import (
    BOOL,
    MAX_TEXT,
    OBJECT,
    Field,
    check_fields,
    is_number,
    is_text,
    is_whole,
    printable_text,
    whole_number,
)
from common.joined_space import image_shape

MAX_OBSERVATION = 2**24  # numbers of an observation
_MAX_ACTIONS = 2**20
_MAX_RANK = 8  # of a space
_MAX_KWARGS = 50  # arguments that an environment is made with
_MAX_PARTS = 64  # of an observation
_MAX_STACK = 64  # frames of an observation of a game
_FACTORS_OF_A_POLICY = 64  # numbers of K-FAC's factors for each number in the file of a policy alone
_DTYPES = {"bool", "float16", "float32", "float64"} | {f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}

Arrays = Mapping[str, np.ndarray]


def check_description(path: StrPath, meta: Mapping[str, Any]) -> None:
    """Raises `UserError`, in one line with the file's name, unless the meta may be that of a model."""
    with _named(path):
        check_fields(_MODEL, meta)
        for name in ("observation_space", "action_space"):
            _check_space(name, meta[name], MAX_OBSERVATION if name == "observation_space" else _MAX_ACTIONS)
        check_fields(COUNTERS, meta["counters"], "counters: ")
        given = description.env_arguments(meta)
        check_fields(_ENV_ARGUMENTS, given, "env_arguments: ")
        shape = tuple(meta["observation_space"]["shape"])
        if given.get("frame_stack", 0) > _MAX_STACK and given["frame_stack"] not in shape:
            frames = given["frame_stack"]
            raise ValueError(f"env_arguments: frame_stack: {frames} frames, of which its space knows nothing")


def check_content(path: StrPath, arrays: Arrays, meta: Mapping[str, Any], config_class: type) -> None:
    """Raises `UserError` unless a model of the arrays' sizes is described, and these are finite.

    Args:
      path: of the file, for the message.
      arrays, meta: of the file; the meta is one that `check_description` lets in.
      config_class: dataclass of the hyperparameters of its learner.
    """
    with _named(path):
        config = config_class(**cli.only(config_class, cli.tuples(description.hyperparameters(meta))))
        _check_sizes(arrays, meta, config)
        for name, array in arrays.items():
            if array.dtype.kind in "fc" and not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite")


@contextlib.contextmanager
def _named(path: StrPath) -> Iterator[None]:
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise UserError(f"checkpoint {path}: has no model that can be made here: {brief(error, 300)}") from error


def _is_bound(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("inf", "-inf")
    return isinstance(value, bool) or is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_kwargs(value: Any) -> bool:
    """Whether a value may be the arguments of an environment."""
    names = isinstance(value, dict) and all(is_text(name) and name.isidentifier() for name in value)
    return names and len(value) <= _MAX_KWARGS and len(json.dumps(value)) <= _MAX_KWARGS * MAX_TEXT


_MODEL = {
    "algorithm": printable_text(),
    "env_id": Field(lambda value: value is None or is_text(value), "printable text or null"),
    "observation_space": OBJECT,
    "action_space": OBJECT,
    "network": printable_text(),
    "config": OBJECT,
    "counters": OBJECT,
    "env_arguments": OBJECT._replace(required=False),
    "pair": printable_text(required=False),
    "policy_only": BOOL._replace(required=False),
}
COUNTERS = {"timesteps": whole_number(0), "updates": whole_number(0), "seed": whole_number(0, 2**31 - 1)}
_ENV_ARGUMENTS = {
    "env_id": printable_text(required=False),
    "frame_stack": whole_number(1, required=False),
    "reward_scale": Field(lambda value: is_number(value) and value > 0, "a finite number above 0", required=False),
    "pixels": BOOL._replace(required=False),
    "env_kwargs": Field(_is_kwargs, "an object of at most 50 arguments, names with values", required=False),
}


def _sizes(value: Any, count: int, one: Callable[[Any], bool]) -> bool:
    """Whether a value is one number, or a list of `count`, of which `one` is true."""
    return len(value) == count and all(map(one, value)) if isinstance(value, list) else one(value)


def _check_space(name: str, space: Mapping[str, Any], most: int) -> None:
    """Raises ValueError unless `description.describe_space` writes this of a space of at most `most` numbers."""
    where = f"{name}: "
    dtype = Field(lambda value: isinstance(value, str) and value in _DTYPES, "the name of a type of numbers")
    check_fields(
        {"type": printable_text(), "shape": Field(_is_shape, "a list of whole numbers"), "dtype": dtype}, space, where
    )

    count = math.prod(space["shape"])
    if not 0 < count <= most:
        raise ValueError(f"{where}of {brief(count)} numbers; allowed are 1 to {most}")

    whole = Field(lambda value: _sizes(value, count, is_whole), "whole numbers, one or as many as there are")
    sizes = Field(lambda value: _sizes(value, count, lambda n: is_whole(n, 1, _MAX_ACTIONS)), "sizes of choices")
    bounds = Field(lambda value: _sizes(value, count, _is_bound), "numbers, one or as many as the shape has")

    match space["type"]:
        case "Box":
            check_fields({"low": bounds, "high": bounds}, space, where)
        case "JoinedBox" if name == "observation_space":
            _check_parts(space, where)
        case "Discrete" if name != "observation_space":
            check_fields({"n": whole_number(1, _MAX_ACTIONS), "start": whole_number(-(2**63))}, space, where)
        case "MultiDiscrete" if name != "observation_space":
            check_fields({"nvec": sizes, "start": whole}, space, where)
        case "MultiBinary" if name not in ("observation_space", "action_space"):
            pass
        case other:
            raise ValueError(f"{where}its space is a {brief(other)}")


def _check_parts(space: Mapping[str, Any], where: str) -> None:
    """Raises ValueError unless the parts of a `JoinedBox` are described, and have as many numbers as it."""
    many = Field(lambda value: isinstance(value, list) and 0 < len(value) <= _MAX_PARTS, f"a list of 1 to {_MAX_PARTS}")
    check_fields({"parts": many}, space, where)
    for i, part in enumerate(space["parts"]):
        if not isinstance(part, dict):
            raise ValueError(f"{where}part {i} must be an object")
        check_fields({"path": Field(_is_path, "a list of keys")}, part, f"{where}part {i}: ")
        _check_space(f"{where}part {i}", part, MAX_OBSERVATION)

    size = sum(_part_size(part) for part in space["parts"])
    if space["shape"] != [size]:
        raise ValueError(f"{where}its parts have {brief(size)} numbers, not {brief(space['shape'])}")
    if len({tuple(part["path"]) for part in space["parts"]}) < len(space["parts"]):
        raise ValueError(f"{where}two of its parts have the same path")


def _is_path(value: Any) -> bool:
    """Whether a value may lead to a part of an observation: keys of dicts and places in tuples."""
    keys = isinstance(value, list) and all(is_text(key) or is_whole(key, 0, _MAX_PARTS) for key in value)
    return keys and 0 < len(value) <= _MAX_RANK


def _part_size(part: Mapping[str, Any]) -> int:
    """How many numbers a described part has in the whole vector; categories are one-hot."""
    return _outputs(part) if part["type"] in ("Discrete", "MultiDiscrete") else math.prod(part["shape"])


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_RANK and all(is_whole(n, 0, 2**32) for n in value)


def _check_sizes(arrays: Arrays, meta: Mapping[str, Any], config: Any) -> None:
    """Raises ValueError unless the networks that the description declares are of the arrays' shapes."""
    disjoint = isinstance(config, DisjointConfig)
    policy_only = meta.get("policy_only", False)
    owners = ["policy" if disjoint else "parameters", *(["vf/parameters"] if disjoint and not policy_only else [])]
    space = meta["observation_space"]
    weights = _weights(meta["network"], tuple(space["shape"]), config, space.get("parts", ()))
    in_order = sorted if "parts" in space else list  # layers of several parts are in an order of Keras' own
    for owner in owners:
        shapes = _shapes(arrays, owner)
        if not shapes or in_order(shapes[: len(weights)]) != in_order(weights):
            raise ValueError(f"the layers that it declares are not those of its arrays {owner}")

    heads = _shapes(arrays, owners[0])[len(weights) :]
    size = _outputs(meta["action_space"])
    if not any(len(shape) == 2 and shape[1] == size for shape in heads):
        raise ValueError("the actions that it declares are not those of its arrays")

    if meta["algorithm"] == "acktr":
        shapes = _shapes(arrays, "policy") + _shapes(arrays, "parameters")
        _check_factors(arrays, shapes, _FACTORS_OF_A_POLICY if policy_only else 1)


def _check_factors(arrays: Arrays, shapes: list[tuple[int, ...]], times: int) -> None:
    """Raises ValueError where K-FAC's factors of the layers would hold more than `times` the numbers of the file.

    They are made with the model. A file that has them is larger than they are; one of the policy alone can only be
    asked for layers whose factors are not out of all proportion to it.
    """
    kernels = [(math.prod(shape[:-1]), shape[-1]) for shape in shapes if len(shape) > 1]
    if sum(rows**2 + columns**2 for rows, columns in kernels) > times * sum(array.size for array in arrays.values()):
        raise ValueError("the optimizer of such layers has far more numbers than the file")


def _shapes(arrays: Arrays, owner: str) -> list[tuple[int, ...]]:
    """Shapes of the arrays `owner/0`, `owner/1`, ... in this order, up to the first that is missing."""
    shapes: list[tuple[int, ...]] = []
    while (array := arrays.get(f"{owner}/{len(shapes)}")) is not None:
        shapes.append(array.shape)
    return shapes


def _weights(
    network: str, shape: tuple[int, ...], config: Any, parts: Sequence[Mapping[str, Any]] = ()
) -> list[tuple[int, ...]]:
    """Shapes of the first weights of one of our networks; none of another's.

    Args:
      network: its name.
      shape: of the observations.
      config: of the learner.
      parts: of the observations, described, where several are joined.
    """
    kernels = _kernels(network, shape, config, parts)
    if kernels is None:
        return []
    weights = [shape for kernel in kernels for shape in (kernel, kernel[-1:])]
    if network in RECURRENT:
        features = kernels[-1][-1] if kernels else math.prod(shape)
        gates = 4 * MEMORY_UNITS
        weights += [(features, gates)] if "lnlstm" in network else [(features + MEMORY_UNITS, gates), (gates,)]
    return weights


def _kernels(
    network: str, shape: tuple[int, ...], config: Any, parts: Sequence[Mapping[str, Any]]
) -> list[tuple[int, ...]] | None:
    """Shapes of the kernels of a built-in network, up to its memory; arguments as of `_weights`; of others None."""
    if network not in HIDDEN_SIZES:
        return None
    kernels: list[tuple[int, ...]] = []
    features = math.prod(shape)
    if HIDDEN_ACTIVATIONS[network] == "relu":  # those that see images
        images = {i: image for i, part in enumerate(parts) if (image := _image(part))}
        features = 0
        for image in images.values() if parts else [shape]:
            convolutions, size = _convolutions(network, image, config)
            kernels += convolutions
            features += size
        if vectors := sum(_part_size(part) for i, part in enumerate(parts) if i not in images):
            kernels += _dense(vectors, HIDDEN_SIZES["mlp"])
            features += HIDDEN_SIZES["mlp"][-1]
    return kernels + _dense(features, config.hidden_sizes or HIDDEN_SIZES[network])


def _image(part: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of a described part [H, W, C] where it is an image."""
    return image_shape(tuple(part["shape"]), np.dtype(part["dtype"])) if part["type"] == "Box" else None


def _dense(features: int, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes of the kernels of dense layers behind so many features."""
    return list(itertools.pairwise((features, *sizes)))


def _convolutions(network: str, shape: tuple[int, ...], config: Any) -> tuple[list[tuple[int, ...]], int]:
    """Shapes of the kernels of convolutions for images of `shape`, and how many numbers come out of the last one."""
    if len(shape) != 3:
        raise ValueError(f"network {network}, whose observations must be images, for those of shape {shape}")
    kernels: list[tuple[int, ...]] = []
    configured = zip(config.conv_filters, config.conv_kernels, config.conv_strides, strict=True)
    for filters, size, stride in PIXEL_CONVOLUTIONS if network == "pixels" else configured:
        if min(shape[:2]) < size:
            raise ValueError("its images are too small for its convolutions")
        kernels.append((size, size, shape[2], filters))
        shape = ((shape[0] - size) // stride + 1, (shape[1] - size) // stride + 1, filters)
    return kernels, math.prod(shape)


def _outputs(space: Mapping[str, Any]) -> int:
    """How many numbers the head of a policy over the described actions gives."""
    if space["type"] == "Discrete":
        return space["n"]
    count = math.prod(space["shape"])
    if space["type"] == "Box":
        return count
    nvec = space["nvec"]
    return sum(nvec) if isinstance(nvec, list) else nvec * count
