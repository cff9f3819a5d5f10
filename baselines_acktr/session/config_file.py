"""Settings from a file: a YAML mapping of flags, or the run.json of another run (`--config`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import assignments, cli
from common.errors import UserError, brief

_LIMIT = 2**20  # bytes
# Said on the command line alone: where files are read and written, and whose code is run.
TYPED_ONLY = ("config", "export", "load_path", "log_path", "resume", "save_path", "trust", "video")
# Left out of a run.json: what was done with the model afterwards, and kfac_clip, of which delta is half.
_RUN_ONLY = (*TYPED_ONLY, "export_format", "export_sample", "kfac_clip", "play", "play_episodes")


def read(path: str, flags: cli.Flags) -> dict[str, Any]:
    """Returns {name of a flag: its value} of a file.

    In YAML each flag is written as on the command line, without the dashes: `lr: 0.5`, `hidden_sizes: [64, 64]`. Of a
    run.json all settings are taken that make up the training, the seed included.

    Args:
      path: of the file; one whose name ends in .json is a run.json.
      flags: what a flag may be called, and the type of its value.

    Raises:
      UserError: in one line with the file's name, where it cannot be read, is no such file, or has a flag or a value
        that is not allowed.
    """
    file = Path(path)
    try:
        if file.suffix == ".json":
            return _of_run(file, flags)
        return _of_mapping(_yaml(file), flags)
    except UserError as error:
        raise UserError(f"--config={brief(path)}: {error}") from error


def _of_run(path: Path, flags: cli.Flags) -> dict[str, Any]:
    from baselines_acktr.session import schema  # late: NumPy

    settings = schema.settings_in_run_json(path)
    values = {name: setting["value"] for name, setting in settings.items() if name not in _RUN_ONLY}
    return _of_mapping(values, flags)


def _of_mapping(values: Mapping[str, Any], flags: cli.Flags) -> dict[str, Any]:
    words = []
    for name, value in values.items():
        flag = str(name).replace("-", "_")
        if flag in TYPED_ONLY:
            raise UserError(f"{flag}: where files are, and whose code is run, is said on the command line alone")
        if value is not None and value != "":  # what run.json has where nothing was chosen
            words.append(f"--{flag}={_text(flag, value)}")
    return flags.parse(words)


def _text(flag: str, value: Any) -> str:
    """Returns a value as it would be typed."""
    if isinstance(value, dict) and flag == "env_kwargs":
        return assignments.unparse(value)
    if isinstance(value, list) and all(isinstance(part, int | float | str) for part in value):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return str(value)
    raise UserError(f"{brief(flag)}: {brief(value)}: must be a number, text, true, false or a list of numbers")


def _yaml(path: Path) -> dict[Any, Any]:
    import yaml  # late: --help is instant

    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT + 1)
        if len(text) > _LIMIT:
            raise UserError("is too large")
        found = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UserError("must be flags with their values, one a line, such as lr: 0.5")
    return found
