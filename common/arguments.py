"""Arguments of functions for users in Python, checked: a mistake is one line that names the argument."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from common.errors import UserError, brief

_TOO_LARGE = 2**63  # for counters and for files


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Returns an argument that must be a whole number; a float such as 1e6 is one, a bool is none.

    Args:
      name: of the argument.
      value: what was given.
      least, most: its limits, inclusive; None: no upper one.

    Raises:
      UserError: it is something else.
    """
    number = real_number(name, value, _whole_words(least, most))
    if not number.is_integer() or value < least or (most is not None and value > most):
        raise UserError(f"{name}={brief(value)}: must be {_whole_words(least, most)}")
    return int(value)


def _whole_words(least: int, most: int | None) -> str:
    return f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")


def real_number(name: str, value: Any, allowed: str = "a finite number") -> float:
    """Returns an argument that must be a finite number; a bool is none.

    Args:
      name: of the argument.
      value: what was given.
      allowed: what it must be, for the message.

    Raises:
      UserError: it is something else.
    """
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    if not is_real or not abs(value) < _TOO_LARGE or not math.isfinite(value):
        shown = repr(value) if isinstance(value, str) else value
        raise UserError(f"{name}={brief(shown)}: must be {allowed}")
    return float(value)


def misfit(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """Says why a function cannot be called with such arguments; "" where it can, or where it does not tell."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # as of some functions that are written in C
        return ""

    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        return str(error)
    return ""


def called(function: Any) -> str:
    """The name of a function or class, for a message."""
    return brief(getattr(function, "__name__", function))
