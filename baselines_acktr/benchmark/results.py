"""The results of the benchmark as a file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UserError

LIBRARIES = ("tensorflow", "keras", "gymnasium", "numpy")


def require_folder(flag: str, path: str) -> None:
    """Checks that a file can be written, before anything is measured.

    Raises:
      UserError: it is a folder, or its folder is missing or cannot be written to.
    """
    file = Path(path).resolve()
    if file.is_dir():
        raise UserError(f"{flag}={path}: is a folder; must be a file")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UserError(f"{flag}={path}: {file.parent} is not a folder that can be written to")


def json_text(
    settings: Mapping[str, Any],
    ratios: pd.DataFrame,
    speeds: pd.DataFrame,
    rates: pd.DataFrame,
    parts: Mapping[str, Mapping[str, pd.DataFrame]],
) -> str:
    """All results as JSON.

    Args:
      settings: {flag: value}.
      ratios: as `loop.ratios_of` returns them.
      speeds: as `loop.speeds` returns them.
      rates: timesteps per second [rounds, loops].
      parts: {algorithm: {how they were measured: a table as `loop.table_of` returns it}}.
    """
    results = {
        "settings": settings,
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "libraries": {name: version(name) for name in LIBRARIES},
        "ratios": ratios.to_dict("records"),
        "speeds": speeds.to_dict("records"),
        "rounds": rates.to_dict("list"),
        "parts": {alg: {how: table.to_dict("records") for how, table in each.items()} for alg, each in parts.items()},
    }
    return json.dumps(results, indent=2, allow_nan=False) + "\n"
