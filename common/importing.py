"""Importing a module that the user has named."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from common.errors import UserError


def import_named(module: str, argument: str) -> ModuleType:
    """Imports a module, which may also lie in the current folder.

    Python itself looks there only where it is started with `-m` or `-c`. The folder comes last, so that nothing in it
    takes the place of an installed module, and stays, since the module may import its neighbours later.

    Args:
      module: its absolute name.
      argument: what the user gave it by, which messages begin with.

    Raises:
      UserError: it cannot be imported, whatever it raises itself.
    """
    if not module or module.startswith("."):
        raise UserError(
            f"{argument}: module {module or 'without a name'}: must be the whole name, such as package.module"
        )
    with contextlib.suppress(FileNotFoundError):
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{argument}: cannot import module {module} ({_reason(error)}){_taken(module)}") from error


def _taken(module: str) -> str:
    """Says where a package of the current folder has the name of one of this project's, which Python finds first."""
    package = module.partition(".")[0]
    here = Path(package).resolve()
    found = sys.modules.get(package)
    places = [Path(place).resolve() for place in getattr(found, "__path__", ())]
    if not places or here in places or not (here.is_dir() or here.with_suffix(".py").is_file()):
        return ""
    return f"; Python takes {package} from {places[0]}, so the one in this folder needs another name"


def _reason(error: BaseException) -> str:
    """Says what a module raised, and in which line."""
    if isinstance(error, ImportError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg}; {error.filename}, line {error.lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error}; {last.filename}, line {last.lineno}"
