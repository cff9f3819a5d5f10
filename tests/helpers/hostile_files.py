"""Files that somebody may have made to do harm, by generator; their checksums are right."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from baselines_acktr.agent.description import describe_space
from common import array_file

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)  # those of CartPole-v1, but for their limits
ACTIONS = gym.spaces.Discrete(2)
Description = dict[str, Any]
Content = tuple[dict[str, np.ndarray], Description]


def small_model() -> Content:
    """The arrays and the meta of a model that `schema.check_model` lets in: CartPole-v1, an mlp of 4 units."""
    shapes = [(4, 4), (4,), (4, 2), (2,), (4, 1), (1,)]
    arrays = {f"parameters/{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
    arrays["kfac/factors"] = np.zeros(100, np.float32)
    meta = {
        "algorithm": "acktr",
        "env_id": "CartPole-v1",
        "observation_space": describe_space(OBSERVATIONS),
        "action_space": describe_space(ACTIONS),
        "network": "mlp",
        "config": {"hidden_sizes": [4]},
        "env_arguments": {"env_id": "CartPole-v1", "frame_stack": 4, "reward_scale": 1.0, "pixels": False},
        "counters": {"timesteps": 100, "updates": 10, "seed": 0},
        "pair": "00",
    }
    return arrays, meta


def small_run() -> Content:
    """The arrays and the meta of what belongs to `small_model`, a run of 2 environments."""
    settings = {"alg": "acktr", "env": "CartPole-v1", "network": "mlp", "num_env": 2, "seed": 0}
    meta = {"timesteps": 100, "score": None, "milestone": False, "pair": "00", "logs": [{}], "settings": settings}
    return {"rank0/runner/observations": np.zeros((2, 4), np.float32)}, meta


NOTHING = object()  # in place of a value: the entry is missing
TEXT = "\x1b[31m" + "A" * 2**20  # an escape code, and a megabyte
WRONG: list[Any] = [NOTHING, None, [], {}, [[]], "", -1, 10**400, 2.5, float("nan"), TEXT]
FITTING: dict[str, tuple[Any, ...]] = {  # those of them that are right in a place, or are not looked at there
    "env_id": (None,),
    "config": ({},),
    "env_arguments": (NOTHING, {}),
    "observation_space/low": (-1, 2.5),
    "observation_space/high": (-1, 2.5),
    "action_space/start": (-1,),
    "action_space/shape": ([],),
    "env_arguments/env_id": (NOTHING,),
    "env_arguments/frame_stack": (NOTHING,),
    "env_arguments/reward_scale": (NOTHING, 2.5),
    "env_arguments/pixels": (NOTHING,),
    "policy_only": (NOTHING,),
    "settings": (),
    "score": (None, -1, 2.5),
    "logs": ([],),
}


def changed(meta: Description, place: str, value: Any) -> Description:
    """`meta` with another value at `place`, names joined by `/`."""
    result = copy.deepcopy(meta)
    *above, name = place.split("/")
    owner = result
    for part in above:
        owner = owner[part]
    if value is NOTHING:
        del owner[name]
    else:
        owner[name] = value
    return result


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one is other or one == other)


def _wrong_at(meta: Description, places: list[str]) -> Iterator[tuple[str, Description]]:
    for place in places:
        for i, value in enumerate(WRONG):
            if not any(_same(value, right) for right in FITTING.get(place, ())):
                yield f"{place} {i}", changed(meta, place, value)


MODEL_PLACES = ["algorithm", "env_id", "observation_space", "action_space", "network", "config", "counters"]
MODEL_PLACES += [f"{space}_space/{part}" for space in ("observation", "action") for part in ("type", "shape", "dtype")]
MODEL_PLACES += ["observation_space/low", "observation_space/high", "action_space/n", "action_space/start"]
MODEL_PLACES += [f"counters/{name}" for name in ("timesteps", "updates", "seed")]
MODEL_PLACES += ["env_arguments", "env_arguments/frame_stack", "env_arguments/reward_scale", "env_arguments/pixels"]
MODEL_PLACES += ["policy_only"]
RUN_PLACES = ["timesteps", "score", "milestone", "pair", "logs", "settings"]
RUN_PLACES += [f"settings/{name}" for name in ("alg", "env", "network", "num_env", "seed")]

LARGE = {
    "hidden layers of 20,000": ("config/hidden_sizes", [20_000, 20_000]),
    "a hidden layer of 2^31": ("config/hidden_sizes", [2**31]),
    "100,000 layers": ("config/hidden_sizes", [4] * 100_000),
    "other layers": ("config/hidden_sizes", [5]),
    "no layers": ("config/hidden_sizes", []),
    "layers as text": ("config/hidden_sizes", "4"),
    "layers of text": ("config/hidden_sizes", ["4"]),
    "a layer of 0": ("config/hidden_sizes", [0]),
    "a layer of 10^400": ("config/hidden_sizes", [10**400]),
    "observations of 1e9": ("observation_space/shape", [10**9]),
    "observations of 1e18": ("observation_space/shape", [10**9, 10**9]),
    "observations of nothing": ("observation_space/shape", [0]),
    "observations of many ranks": ("observation_space/shape", [1] * 64),
    "other observations": ("observation_space/shape", [5]),
    "limits of another length": ("observation_space/low", [0.0] * 3),
    "limits as text": ("observation_space/low", "low"),
    "limits that are nested": ("observation_space/low", [[0.0]] * 4),
    "a billion actions": ("action_space/n", 10**9),
    "other actions": ("action_space/n", 3),
    "no actions": ("action_space/n", 0),
    "actions of text": ("action_space/type", "Text"),
    "a structured type": ("observation_space/dtype", "f8,f8"),
    "objects": ("observation_space/dtype", "object"),
    "a type of a million numbers": ("observation_space/dtype", "(1000000,)f8"),
    "a stack of 10^9 frames": ("env_arguments/frame_stack", 10**9),
    "the cnn for vectors": ("network", "cnn"),
    "an unknown rate": ("config/lr", "fast"),
    "a rate that is not finite": ("config/lr", float("inf")),
    "an endless rate": ("config/lr", 10**400),
    "a negative rate": ("config/lr", -1.0),
    "an activation": ("config/activation", TEXT),
    "a form": ("config/inverse_form", ["eigen"]),
    "convolutions of different numbers": ("config/conv_filters", [1]),
    "another algorithm": ("algorithm", "ppo"),
    "an endless seed": ("counters/seed", 2**31),
    "an id of an escape code": ("env_id", "\x1b[2J"),
    "an environment of an escape code": ("env_arguments/env_id", "\x1b[2J"),
    "an environment of a megabyte": ("env_arguments/env_id", "A" * 2**20),
}


def hostile_models() -> Iterator[tuple[str, Content]]:
    """(name, content) of models of which none can be made."""
    arrays, meta = small_model()
    for name, wrong in _wrong_at(meta, MODEL_PLACES):
        yield name, (arrays, wrong)
    for name, (place, value) in LARGE.items():
        yield name, (arrays, changed(meta, place, value))
    images = {"shape": [2**14, 2**14, 1], "dtype": "uint8", "low": 0, "high": 255}
    yield "a huge image", (arrays, meta | {"network": "cnn", "observation_space": meta["observation_space"] | images})
    many = {"type": "MultiDiscrete", "shape": [10**6], "dtype": "int64", "nvec": 2**20, "start": 0}
    yield "many choices", (arrays, meta | {"action_space": many})
    yield "boxed actions", (arrays, meta | {"action_space": meta["observation_space"]})
    for name, array in arrays.items():
        for value in (np.nan, np.inf):
            yield f"{name} {value}", (arrays | {name: np.full_like(array, value)}, meta)
    for name in ("parameters/0", "parameters/2"):
        yield f"{name} is missing", ({key: array for key, array in arrays.items() if key != name}, meta)
        yield f"{name} is flat", (arrays | {name: arrays[name].ravel()}, meta)
    yield "no arrays", ({}, meta)
    wide = {"parameters/0": np.zeros((4, 20_000), np.float32), "parameters/1": np.zeros(20_000, np.float32)}
    wide["parameters/2"] = np.zeros((20_000, 2), np.float32)
    config = {"hidden_sizes": [20_000]}
    yield "layers whose optimizer is not there", (arrays | wide, meta | {"config": config})
    alone = meta | {"config": config, "policy_only": True}
    yield "a policy alone whose optimizer would be huge", (arrays | wide, alone)


def hostile_runs() -> Iterator[tuple[str, Content]]:
    """(name, content) of runs that cannot be gone on with."""
    arrays, meta = small_run()
    for name, wrong in _wrong_at(meta, RUN_PLACES):
        yield name, (arrays, wrong)
    for value in (10**9, 2**63, 3, True, "2"):
        yield f"{value} environments", (arrays, changed(meta, "settings/num_env", value))
    for value in ([None], [[]], [{"csv": -1}], [{"csv": "0"}], {"csv": 0}):
        yield f"logs {value}", (arrays, changed(meta, "logs", value))
    yield "no arrays", ({}, meta)
    for name, value in {
        "keep": -1,
        "num_timesteps": "1e9",
        "log_format": 7,
        "greedy": "yes",
        "keep_every": 1.5,
    }.items():
        yield f"settings {name}", (arrays, changed(meta, f"settings/{name}", value))


def npy(descr: str, shape: Any, data: bytes, version: int = 1) -> bytes:
    """A `.npy` file with an arbitrary header."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2, "little") + header + data


def hostile_archives(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of archives that are no checkpoint."""
    number = 0

    def write(entries: list[tuple[Any, bytes]], compress: int = zipfile.ZIP_STORED, comment: bytes = b"0" * 64) -> Path:
        nonlocal number
        number += 1
        path = folder / f"archive-{number}"
        with path.open("wb+") as file:
            with zipfile.ZipFile(file, "w", compress) as archive:
                for name, data in entries:
                    archive.writestr(name, data)
                archive.comment = comment
            if len(comment) == 64:
                array_file._append_digest(file)
        return path

    def described(arrays: Any = None, meta: Any = None, version: Any = 1) -> bytes:
        return json.dumps({"format_version": version, "arrays": arrays or {}, "meta": meta or {}}).encode()

    one = {"a": {"shape": [1], "dtype": "<f8"}}
    good = npy("<f8", (1,), bytes(8))
    headers: list[tuple[Any, Any, bytes]] = [(d, (1,), bytes(8)) for d in ("O", "|O", "<U2", "|S8", "<M8[s]", "<m8[s]")]
    headers += [
        (d, (1,), bytes(8)) for d in ("|V8", "f8,f8", "<f9", "", "(2,)<f4", "evil", "__import__('os')", "\x1b[2J")
    ]
    shapes: list[Any] = [
        (-1,),
        (2,),
        (0,),
        (2**62,),
        (2**62, 2**62),
        (1,) * 80,
        "1",
        None,
        1.5,
        (1.5,),
        ("1",),
        [1],
        (),
    ]
    headers += [("<f8", shape, bytes(8)) for shape in shapes]
    headers += [("<f8", (1,), b""), ("<f8", (1,), bytes(7)), ("<f8", (1,), bytes(9)), ("<f8", (1,), bytes(2**20))]
    for header in headers:
        if header[1] != [1]:
            yield f"header {header[:2]}", write([("meta.json", described(one)), ("a.npy", npy(*header))])
    for version in (0, 2, 3, 255):
        yield f"npy {version}", write([("meta.json", described(one)), ("a.npy", npy("<f8", (1,), bytes(8), version))])
    for data in (b"", b"\x93NUMPY", good[:50], b"A" * 200, good[:8] + b"\xff\xff" + good[10:]):
        yield f"bytes {data[:12]!r}", write([("meta.json", described(one)), ("a.npy", data)])
    texts = [
        "",
        "{",
        "[]",
        "null",
        "1",
        '"a"',
        "[" * 10_000,
        '{"a":' * 10_000,
        "{}",
        "\xff\xfe",
        '{"format_version": 1}',
    ]
    texts += ['{"format_version": 1, "arrays": null, "meta": {}}', '{"format_version": 1, "arrays": {}, "meta": []}']
    texts += ['{"format_version": 1, "arrays": [], "meta": {}}', '{"format_version": 1, "meta": {}}']
    texts += [f'{{"format_version": {"9" * 5000}, "arrays": {{}}, "meta": {{}}}}', " " * (5 * 2**20)]
    for text in texts:
        yield f"description {text[:40]}", write([("meta.json", text.encode("latin-1"))])
    for version in (0, 2, -1, None, "1", [], {}, 1e300, TEXT):
        yield f"version {str(version)[:20]!r}", write([("meta.json", described(version=version))])
    for name in (
        "../a",
        "/tmp/a",
        "a\\b",
        "",
        "a/",
        "..",
        "a//b",
        "\x1b[2J",
        "A" * 60_000,
        "ä",
        "a b",
        "a/../b",
        "a\nb",
    ):
        declared = {name: one["a"]}
        yield f"name {name[:20]!r}", write([("meta.json", described(declared)), (f"{name}.npy", good)])
    for promise in (
        None,
        [],
        {},
        {"shape": [1]},
        {"shape": [2], "dtype": "<f8"},
        {"shape": [1], "dtype": "<f4"},
        7,
        TEXT,
    ):
        yield f"promise {str(promise)[:20]!r}", write([("meta.json", described({"a": promise})), ("a.npy", good)])
    yield "an entry that is not declared", write([("meta.json", described()), ("b.npy", good)])
    yield "an entry that is missing", write([("meta.json", described(one))])
    yield "an entry that is no array", write([("meta.json", described(one)), ("a.npy", good), ("run.py", b"import os")])
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        bomb = npy("|u1", (2**24,), bytes(2**24))
        declared = {"a": {"shape": [2**24], "dtype": "|u1"}}
        yield f"compressed {method}", write([("meta.json", described(declared)), ("a.npy", bomb)], method)
    for comment in (b"", b"0" * 63, b"0" * 65, b"0" * 60_000):
        yield f"comment of {len(comment)}", write([("meta.json", described())], comment=comment)
    yield "another first entry", write([("a.npy", good), ("meta.json", described(one))])
    for size in (100, 1000):
        path = write(
            [
                ("meta.json", described({"a": {"shape": [100], "dtype": "<f8"}})),
                ("a.npy", npy("<f8", (100,), bytes(800))),
            ]
        )
        path.write_bytes(path.read_bytes()[:-size])
        yield f"cut off by {size}", path
