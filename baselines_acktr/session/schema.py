"""What the files of a run may say, and which names from files may be used.

They may come from anybody: see `agent.schema`. Names that would import a module are used only where the user typed or
allowed them (`require_trust`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from baselines_acktr.agent import schema
from baselines_acktr.session.learners import ALGORITHMS, CONTINUOUS, DISCRETE, LEARNERS
from common import array_file
from common.atomic_file import StrPath
from common.errors import UserError, brief
from common.fields import BOOL, OBJECT, Field, check_fields, is_number, printable_text, whole_number
from common.options import one_of

_RUN_JSON_LIMIT = 2**20  # bytes

Arrays = Mapping[str, np.ndarray]


def check_model(path: StrPath, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Raises `UserError`, in one line with the file's name, unless a model can be made of a file's arrays and meta.

    A value of its description is not allowed; its declared sizes are not those of its arrays; or one of these is not
    finite.
    """
    schema.check_description(path, meta)
    kind = CONTINUOUS if meta["action_space"]["type"] == "Box" else DISCRETE
    if meta["algorithm"] not in ALGORITHMS:
        raise UserError(
            f"checkpoint {path}: has no model that can be made here: algorithm: {brief(meta['algorithm'])}: "
            f"must be {one_of(ALGORITHMS)}"
        )
    schema.check_content(path, arrays, meta, LEARNERS[meta["algorithm"], kind].config_class)


def check_run(path: StrPath, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Raises `UserError` unless a file's arrays and meta are of a run that can be gone on with."""
    check_facts(path, meta)
    try:
        check_fields({"logs": Field(lambda value: isinstance(value, list), "a list")}, meta)
        for part in meta["logs"]:
            check_fields(dict.fromkeys(part, whole_number(0)) if isinstance(part, dict) else {}, part, "logs: ")
        check_fields(_SETTINGS, meta["settings"], "settings: ")
        seen = arrays.get("rank0/runner/observations")
        if seen is None or seen.ndim == 0 or len(seen) != meta["settings"]["num_env"]:
            raise ValueError("it is not of as many environments as it declares")
    except ValueError as error:
        raise UserError(f"checkpoint {path}: damaged: {brief(error, 300)}") from error


def check_facts(path: StrPath, meta: Mapping[str, Any]) -> None:
    """Raises `UserError` unless the meta of a run's file has what `checkpoints.CheckpointManager` adds to it."""
    try:
        check_fields(_FACTS, meta)
    except ValueError as error:
        raise UserError(f"checkpoint {path}: damaged: {brief(error, 300)}") from error


def timesteps_of(path: StrPath) -> int:
    """How many timesteps a model's file says that it is trained; raises UserError."""
    meta = array_file.load_meta(path)
    try:
        check_fields({"counters": OBJECT}, meta)
        check_fields({"timesteps": schema.COUNTERS["timesteps"]}, meta["counters"], "counters: ")
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
        check_fields({"settings": OBJECT}, content)
        for name, setting in content["settings"].items():
            check_fields(
                {"value": Field(lambda value: True, ""), "from": printable_text()}, setting, f"{brief(name)}: "
            )
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {brief(error, 300)}") from error
    return content["settings"]


def require_trust(path: StrPath, what: str, name: str, flag: str) -> None:
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


_FACTS = {
    "timesteps": whole_number(0),
    "score": Field(lambda value: value is None or is_number(value), "a finite number or null"),
    "milestone": BOOL,
    "pair": printable_text(),
    "settings": OBJECT,
}
_SETTINGS = {
    "alg": printable_text(),
    "env": printable_text(),
    "network": printable_text(),
    "num_env": whole_number(1),
    "seed": whole_number(0, 2**31 - 1),
}
