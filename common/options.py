"""Fields of configuration dataclasses that carry their own documentation and limits."""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from typing import Any

from common.errors import UserError, brief, closest


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
    zero: str | None = None
    topic: str | None = None
    hint: str | None = None


def option(default: Any, help: str, **details: Any) -> Any:
    """Declares a dataclass field with its help text and limits.

    Args:
      default: the default value.
      help: one sentence.
      **details: the other fields of `Option`: `unit`, `source` (paper section or code it comes from), `choices`,
        the limits `above` and `below` (exclusive), `minimum` and `maximum` (inclusive), `zero`, the word that the
        command line takes for 0, such as "off" or "all", `topic`, the title of the part of the help that begins
        with this field, and `hint`, what the command line adds where the type of a value is wrong. A field that has the
        word `zero` and may be None takes None for 0 in Python (see `none_for_zero`).
    """
    return dataclasses.field(default=default, metadata={"option": Option(help, **details)})


def changed(base: type, name: str, default: Any, source: str | None = None, help: str | None = None) -> Any:
    """Declares a field again whose default differs from the one of the class that it is inherited from.

    Unit, choices, limits and, unless another is given, the help text are those of the field there.

    Args:
      base: the dataclass that has the field.
      name: of the field.
      default: the new default value.
      source: where it comes from; None: nowhere in particular.
      help: one sentence, where the field means something else here.
    """
    fields = {field.name: field for field in dataclasses.fields(base)}
    inherited: Option = fields[name].metadata["option"]
    spec = dataclasses.replace(inherited, source=source, help=help or inherited.help)
    return dataclasses.field(default=default, metadata={"option": spec})


def limits(spec: Option) -> str:
    """The limits of a number in words, such as "at least 0 and below 1"; "" where there are none."""
    bounds = (("above", spec.above), ("at least", spec.minimum), ("at most", spec.maximum), ("below", spec.below))
    return " and ".join(f"{word} {_plain(bound)}" for word, bound in bounds if bound is not None)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def one_of(choices: tuple[str, ...]) -> str:
    """The choices in words; an empty one, which stands for a default, is not among them."""
    return f"one of {', '.join(filter(None, choices))}"


def _check_number(name: str, value: float, spec: Option) -> None:
    inside = (
        abs(value) < 2**63  # larger ones, which a file may have, overflow
        and math.isfinite(value)
        and (spec.above is None or value > spec.above)
        and (spec.below is None or value < spec.below)
        and (spec.minimum is None or value >= spec.minimum)
        and (spec.maximum is None or value <= spec.maximum)
    )
    if not inside:
        raise UserError(f"--{name}={brief(value)}: must be {limits(spec) or 'a finite number'}")


_TYPES: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
}


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Raises UserError for a value that is not of the type, which is one of `_TYPES`, a tuple of it, or it or None."""
    if isinstance(kind, types.UnionType):
        if value is None:
            return
        kind = typing.get_args(kind)[0]
    several = typing.get_origin(kind) is tuple
    expected, words = _TYPES[typing.get_args(kind)[0] if several else kind]
    if several and not isinstance(value, tuple):
        raise UserError(f"--{name}={brief(repr(value))}: must be a sequence, each of it {words}")
    for part in value if several else (value,):
        if not isinstance(part, expected) or (isinstance(part, bool) and expected is not bool):
            each = "a sequence, each of it " if several else ""
            raise UserError(f"--{name}={brief(repr(value))}: must be {each}{words}")


def none_for_zero(config: Any) -> None:
    """Replaces 0 by None in the fields of a frozen dataclass where both stand for the same word, such as "all".

    Files and scripts may say 0. Call it behind `validate`, so that only a number can be 0.
    """
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        spec: Option = field.metadata["option"]
        if spec.zero and may_be_none(kinds[field.name]) and getattr(config, field.name) == 0:
            object.__setattr__(config, field.name, None)


def values_in_files(config: Any) -> dict[str, Any]:
    """{name: value} of a dataclass for a file, which has 0 where `none_for_zero` puts None."""
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        spec: Option | None = field.metadata.get("option")
        if values[field.name] is None and spec is not None and spec.zero:
            values[field.name] = 0
    return values


def may_be_none(kind: Any) -> bool:
    """Whether a type is `X | None`."""
    return isinstance(kind, types.UnionType) and types.NoneType in typing.get_args(kind)


def _as_python(value: Any) -> Any:
    """A value without NumPy's types, which Keras and JSON do not take everywhere."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return tuple(_as_python(part) for part in plain) if isinstance(plain, list | tuple) else plain


def validate(config: Any) -> None:
    """Checks the values of all fields of a dataclass instance whose fields are declared with `option`.

    Numbers and arrays of NumPy become Python's, sequences become tuples.

    Raises:
      UserError: naming the first field whose value is of another type than declared, not among its choices or beyond
        its limits, and what is allowed. An int is a float too; a bool is no number.
    """
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        spec: Option = field.metadata["option"]
        value = _as_python(getattr(config, field.name))
        object.__setattr__(config, field.name, value)
        _check_type(field.name, value, kinds[field.name])
        if spec.choices is not None and value not in spec.choices:
            hint = closest(str(value), spec.choices)
            allowed = one_of(spec.choices) + (f".{hint}" if hint else "")
            raise UserError(f"--{field.name}={brief(value)}: must be {allowed}")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(field.name, number, spec)
