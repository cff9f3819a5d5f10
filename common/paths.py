"""Paths that the user gives."""

from __future__ import annotations

import os
from typing import Any

from common.errors import UserError, brief


def given_path(path: Any, argument: str) -> str:
    """A path as text, with ~ for the home folder expanded.

    Args:
      path: text or an object with `__fspath__`, such as a `pathlib.Path`.
      argument: what the user gave it as, for the message.

    Raises:
      UserError: it is neither, empty, or has a zero byte in it.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise UserError(f"{argument}={brief(repr(path))}: must be a path, as text or pathlib.Path")
    text = os.path.expanduser(os.fspath(path))
    if not text or "\0" in text:
        raise UserError(f"{argument}={brief(repr(text))}: must be the name of a file or folder")
    return text
