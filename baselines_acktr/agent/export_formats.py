"""The formats that a model is exported in: their names, what they need, and where they may be written."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path

from common.errors import UserError, brief, closest
from common.options import one_of


@dataclasses.dataclass(frozen=True)
class Format:
    """What is known of a format.

    Attributes:
      name: of the format, by which it is asked for.
      ending: of its files; "" where it is a folder.
      packages: those that only this format needs.
    """

    name: str
    ending: str
    packages: tuple[str, ...] = ()


FORMATS = {
    format.name: format
    for format in (Format("saved_model", ""), Format("tflite", ".tflite"), Format("onnx", ".onnx", ("onnx", "tf2onnx")))
}
# What TensorFlow and Keras write into the folder of a SavedModel.
_OF_SAVED_MODELS = {"saved_model.pb", "fingerprint.pb", "keras_metadata.pb", "variables", "assets", "assets.extra"}


def find_format(path: str, name: str | None, argument: str = "path") -> Format:
    """The format that a model is to be written in.

    Args:
      path: where to; its ending says the format where `name` is None.
      name: of the format.
      argument: what `path` was given by, for messages.

    Raises:
      UserError: there is no such format, the ending says none, or the two do not agree.
    """
    if name is not None and (not isinstance(name, str) or name not in FORMATS):
        raise UserError(f"format={brief(name)}: must be {one_of(tuple(FORMATS))}.{closest(str(name), FORMATS)}")
    ending = Path(path).suffix
    by_ending = next((format for format in FORMATS.values() if format.ending == ending.lower()), None)
    if name is None:
        if by_ending is None:
            raise UserError(
                f"{argument}={brief(path)}: the ending {brief(ending)} says no format; must be .tflite, .onnx, or "
                "none, which is a SavedModel"
            )
        return by_ending
    if by_ending is not None and by_ending.ending and by_ending.name != name:
        raise UserError(f"{argument}={brief(path)}: has the ending of {by_ending.name}, but the format is {name}")
    return FORMATS[name]


def check_export(path: str, format: Format, argument: str = "path") -> None:
    """Raises `UserError` where a format is not installed, or what lies at `path` must not be replaced."""
    missing = [name for name in format.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{argument}={brief(path)}: {format.name} needs {' and '.join(missing)}; pip install {' '.join(missing)}, "
            "or this project with its extra: pip install '.[export]'"
        )
    there = os.path.lexists(path)
    if format.ending and (path.endswith(os.sep) or (there and not os.path.isfile(path))):
        raise UserError(f"{argument}={brief(path)}: is not a regular file; {format.name} is a file")
    if not format.ending and there and not _is_replaceable(path):
        raise UserError(
            f"{argument}={brief(path)}: is there and holds more than a SavedModel, so it stays; name another folder"
        )


def _is_replaceable(path: str) -> bool:
    """Whether a folder holds a SavedModel and nothing else, or nothing at all; never the one this process works in."""
    if not os.path.isdir(path) or os.path.samefile(path, os.curdir):
        return False
    found = set(os.listdir(path))
    return not found or ("saved_model.pb" in found and found <= _OF_SAVED_MODELS)
