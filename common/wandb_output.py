"""Scalars for Weights & Biases, which is optional: the extra `wandb` installs it."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from common.errors import UserError, one_line

_EXTRA = "is not installed; pip install wandb, or this project with its extra: pip install '.[wandb]'"


def require_wandb(argument: str) -> None:
    """Raises `UserError`, which begins with `argument`, where the package is missing."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError(f"{argument}=wandb: Weights & Biases {_EXTRA}")


class Tracker:
    """A run of Weights & Biases, by the variables WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE and others of its own.

    A run that goes on in the same folder goes on there, too.

    Args:
      folder: the log folder. Its name is the run's, and its run.json, once it is there, the run's configuration.

    Raises:
      UserError: it cannot be started, for example because nobody is logged in.
    """

    def __init__(self, folder: Path) -> None:
        require_wandb("log format")
        import wandb  # late: it is optional

        self._folder = folder
        self._described = False
        kept = folder / "wandb" / "id.txt"
        known = kept.read_text().strip() if kept.is_file() else None
        try:
            self._run = wandb.init(
                dir=folder,
                name=folder.resolve().name,
                project=os.environ.get("WANDB_PROJECT", "acktr"),
                id=known,
                resume="allow" if known else None,
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise UserError(f"log format wandb: {one_line(error)}; WANDB_MODE=offline needs no account") from error
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(f"{self._run.id}\n")

    def add(self, values: dict[str, float], step: int) -> None:
        """Writes {tag: number} at a step."""
        if not self._described:
            self._run.config.update(_settings(self._folder / "run.json"), allow_val_change=True)
            self._described = True
        self._run.log(values, step=step, commit=True)

    def close(self) -> None:
        """Ends the run, which sends what is left."""
        self._run.finish()


def _settings(path: Path) -> dict[str, Any]:
    """Returns {flag: value} of a run.json that this program has just written, {} where there is none."""
    if not path.is_file():
        return {}
    return {name: setting["value"] for name, setting in json.loads(path.read_text())["settings"].items()}
