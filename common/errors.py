"""The errors that `run.py` turns into one line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import Any

_SHOWN = 100  # characters of a value in a message
_LINE = 2000  # characters of a message


class UserError(ValueError):
    """A mistake in what the user gave: names the argument, what was wrong and what is allowed, in one line.

    `run.py` prints it and exits with code 2; a library user sees an ordinary exception.

    Attributes:
      agreed: whether all ranks that train together raise it at the same point.
    """

    agreed = False


class RunFailedError(RuntimeError):
    """What stops a run that was started rightly, such as a number that is not finite, in one line.

    `run.py` prints it and exits with code 1; checkpoints written before stay as they are.

    Attributes:
      agreed: whether all ranks that train together raise it at the same point.
    """

    agreed = False


def brief(value: Any, limit: int = _SHOWN) -> str:
    """Returns a value as text fit for a message, whoever it comes from.

    Args:
      value: what was read or given.
      limit: characters after which it is cut off.

    Returns:
      One line in which whatever is not printable, such as an escape code, is written as in a Python string.
    """
    start = str(value)[: limit + 1]
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in start)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def one_line(error: BaseException) -> str:
    """Returns the message of an error in one line, without escape codes, of at most 2000 characters."""
    return brief(" ".join(str(error).split()), _LINE)


def closest(word: str, allowed: Iterable[str], cutoff: float = 0.6) -> str:
    """Returns " Did you mean X?" for the entry of `allowed` nearest to `word`, or "" where none is near.

    Capitals count as small letters.

    Args:
      word: what was given.
      allowed: what may be.
      cutoff: from 0 to 1, how similar is near (`difflib.get_close_matches`).
    """
    small = {name.lower(): name for name in allowed}
    matches = difflib.get_close_matches(word.lower(), small, n=1, cutoff=cutoff)
    return f" Did you mean {small[matches[0]]}?" if matches else ""


def exit_code(name: str, action: Callable[[], object]) -> int:
    """0 after an action; 2 where it raises a `UserError`, whose message goes to standard error after `name`."""
    try:
        action()
    except UserError as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return 2
    return 0
