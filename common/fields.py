"""What the values of an object from a JSON file may be, whoever has written it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from common.errors import brief

MAX_TEXT = 1000  # characters of a name


class Field(NamedTuple):
    """What a value may be: a test, and the same in words."""

    fits: Callable[[Any], bool]
    allowed: str
    required: bool = True


def check_fields(fields: Mapping[str, Field], found: Any, where: str = "") -> None:
    """Raises ValueError unless `found` is an object whose values are what the fields say.

    Args:
      fields: {name: what its value may be}; other names are not looked at.
      found: what was read.
      where: it was, for the message, such as "counters: ".
    """
    if not isinstance(found, dict):
        raise ValueError(f"{where}{brief(found)}: must be an object")
    for name, field in fields.items():
        if name not in found:
            if field.required:
                raise ValueError(f"{where}{brief(name)}: missing")
        elif not field.fits(found[name]):
            raise ValueError(f"{where}{brief(name)}: {brief(found[name])}: must be {field.allowed}")


def is_whole(value: Any, least: int = -(2**63), most: int = 2**64 - 1) -> bool:
    """Whether a value is a whole number within the limits."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def is_text(value: Any) -> bool:
    """Whether a value is printable text of the length of a name."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def whole_number(least: int, most: int = 2**63 - 1, required: bool = True) -> Field:
    """A whole number within the limits."""
    return Field(lambda value: is_whole(value, least, most), f"a whole number from {least} to {most}", required)


def printable_text(required: bool = True) -> Field:
    """A name."""
    return Field(is_text, f"printable text of at most {MAX_TEXT} characters", required)


OBJECT = Field(lambda value: isinstance(value, dict), "an object")
BOOL = Field(lambda value: isinstance(value, bool), "true or false")
