"""Fields of configuration dataclasses that carry their own documentation and limits."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Option:
    """What the command line and the docs need to know of one field (see `option`)."""

    help: str
    unit: str | None = None
    source: str | None = None
    choices: tuple[str, ...] | None = None
    above: float | None = None
    below: float | None = None
    minimum: float | None = None
    maximum: float | None = None


def option(default: Any, help: str, **details: Any) -> Any:
    """Declares a dataclass field with its help text and limits.

    Args:
      default: the default value.
      help: one sentence.
      **details: the other fields of `Option`: `unit`, `source` (paper section or code it comes from), `choices`,
        and the limits `above` and `below` (exclusive), `minimum` and `maximum` (inclusive).
    """
    return dataclasses.field(default=default, metadata={"option": Option(help, **details)})


def limits(spec: Option) -> str:
    """The limits of a number in words, such as "at least 0 and below 1"; "" where there are none."""
    bounds = (("above", spec.above), ("at least", spec.minimum), ("at most", spec.maximum), ("below", spec.below))
    return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _check_number(name: str, value: float, spec: Option) -> None:
    inside = (
        math.isfinite(value)
        and (spec.above is None or value > spec.above)
        and (spec.below is None or value < spec.below)
        and (spec.minimum is None or value >= spec.minimum)
        and (spec.maximum is None or value <= spec.maximum)
    )
    if not inside:
        raise UserError(f"--{name}={value}: must be {limits(spec) or 'a finite number'}")


def validate(config: Any) -> None:
    """Checks every field of a dataclass made with `option`.

    Raises:
      UserError: naming the first field whose value is outside its choices or limits, and what is allowed.
    """
    for field in dataclasses.fields(config):
        spec: Option = field.metadata["option"]
        value = getattr(config, field.name)
        if spec.choices is not None and value not in spec.choices:
            raise UserError(f"--{field.name}={value}: must be one of {', '.join(spec.choices)}")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(field.name, number, spec)
