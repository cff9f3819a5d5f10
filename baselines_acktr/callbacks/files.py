"""What callbacks that write files share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError, one_line


def make_folder(folder: Path, argument: str) -> None:
    """Makes a folder, unless it is there; raises UserError, naming the argument, where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{argument}={folder}: cannot be made: {error.strerror}") from error


def report_failure(write: Callable[[], None]) -> None:
    """Calls what writes a file; says it in one line where that fails, since it is no reason to lose the training."""
    try:
        write()
    except (OSError, UserError) as error:
        print(f"{one_line(error)}; the run goes on", file=sys.stderr, flush=True)
