"""The help texts of a program's flags: an overview that fits on a screen, and every detail of each flag."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.options import Option, limits, one_of

_METAVARS = {int: "INTEGER", float: "NUMBER", str: "TEXT", bool: "true|false"}
_WIDTH = 100  # columns where the output is no terminal
_NARROWEST, _WIDEST = 40, 120
_NAME_COLUMN = 26


def inner(kind: Any) -> Any:
    """Returns X for the type `X | None`, any other type as it is."""
    if isinstance(kind, types.UnionType):
        return next(option for option in typing.get_args(kind) if option is not type(None))
    return kind


def details(groups: Mapping[str, Sequence[dataclasses.Field[Any]]], kinds: Mapping[str, Any], prog: str = "") -> str:
    """Returns one entry per flag with its unit, default, limits and source.

    Args:
      groups: {title: fields whose names are flags}.
      kinds: {name of a flag: its type}.
      prog: name of the program.
    """
    formatter = argparse.HelpFormatter(prog, max_help_position=30, width=terminal_width())
    for title, fields in groups.items():
        parser = argparse.ArgumentParser(add_help=False)
        for field in fields:
            parser.add_argument(f"--{field.name}", metavar=_metavar(kinds[field.name]), help=_describe(field))

        formatter.start_section(title)
        formatter.add_arguments(parser._actions)
        formatter.end_section()
    return formatter.format_help()


def overview(groups: Mapping[str, Sequence[dataclasses.Field[Any]]]) -> str:
    """Returns each flag with its default and the first clause of its help text, under the title of its group."""
    width = terminal_width()
    lines = []
    for title, fields in groups.items():
        lines += ["", f"{title}:"]
        for field in fields:
            name = f"  --{field.name}".ljust(_NAME_COLUMN)
            lines += textwrap.wrap(
                _first_clause(field), width, initial_indent=f"{name} ", subsequent_indent=" " * (_NAME_COLUMN + 1)
            )
    return "\n".join(lines)


def names_and_defaults(groups: Mapping[str, Sequence[dataclasses.Field[Any]]]) -> str:
    """Returns the flags as `--name=default`, as many in a line as there is room for, under the title of their group."""
    lines = []
    for title, fields in groups.items():
        words = " ".join(f"--{field.name}{_equals(field)}" for field in fields)
        wrapped = textwrap.wrap(
            words,
            terminal_width(),
            initial_indent="  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += ["", f"{title}:", *wrapped]
    return "\n".join(lines)


def by_topic(fields: Sequence[dataclasses.Field[Any]], title: str) -> dict[str, list[dataclasses.Field[Any]]]:
    """Returns the fields under the topic that begins with one of them, or under `title` before the first topic."""
    topics: dict[str, list[dataclasses.Field[Any]]] = {}
    for field in fields:
        title = field.metadata["option"].topic or title
        topics.setdefault(title, []).append(field)
    return topics


def terminal_width() -> int:
    """Returns the columns of a help text: those of the terminal, or of the variable COLUMNS, within reason."""
    return min(max(shutil.get_terminal_size((_WIDTH, 24)).columns, _NARROWEST), _WIDEST)


def _first_clause(field: dataclasses.Field[Any]) -> str:
    spec: Option = field.metadata["option"]
    text = spec.help.partition(";")[0]
    if spec.choices:
        text += f": {', '.join(filter(None, spec.choices))}"
    default = _default(field)
    return f"{text} [{default}]" if default and field.default is not False else text


def _equals(field: dataclasses.Field[Any]) -> str:
    text = _default(field)
    return f"={text}" if text else ""


def _metavar(kind: Any) -> str:
    kind = inner(kind)
    if typing.get_origin(kind) is tuple:
        return "A,B,..." if typing.get_args(kind)[0] is str else "N,N,..."
    return _METAVARS[kind]


def _describe(field: dataclasses.Field[Any]) -> str:
    spec: Option = field.metadata["option"]
    facts = "; ".join(_facts(spec, _default(field)))
    text = f"{spec.help} [{facts}]" if facts else spec.help
    return text.replace("%", "%%")


def _facts(spec: Option, default: str) -> Iterator[str]:
    if spec.unit:
        yield f"unit: {spec.unit}"
    if default:
        yield f"default {default}"
    if allowed := _allowed(spec):
        yield allowed
    if spec.source:
        yield spec.source


def _default(field: dataclasses.Field[Any]) -> str:
    """Returns a field's default as it would be typed, such as "all" for 0 or None; "" where there is none."""
    spec: Option = field.metadata["option"]
    return spec.zero if spec.zero and field.default in (None, 0) else _plain(field.default)


def _plain(value: Any) -> str:
    if value is None or value in ((), ""):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _allowed(spec: Option) -> str:
    if spec.choices is not None:
        return one_of(spec.choices)
    return f"{limits(spec)}; 0 is {spec.zero}" if spec.zero else limits(spec)
