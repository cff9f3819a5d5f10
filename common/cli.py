"""Command-line flags generated from dataclasses whose fields are declared with `common.options.option`.

Flags are written `--name=value` or `--name value`; dashes and underscores are the same; there are no abbreviations and
no positional arguments. Values are converted by the type of the field, never evaluated.
"""

from __future__ import annotations

import argparse
import dataclasses
import decimal
import math
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from common import flag_help
from common.errors import UserError, closest
from common.flag_help import inner
from common.options import Option

HELP_FLAGS = ("-h", "--help")
_MAX_INT = 2**63 - 1
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether a command line has a flag that asks for help."""
    return any(flag in argv for flag in HELP_FLAGS)


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `UserError` where the original prints its usage and exits."""

    def error(self, message: str) -> typing.NoReturn:
        raise UserError(message.removeprefix("argument "))


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags of a program, by group; groups may share a flag, which then has the same type in each.

    Attributes:
      groups: title of each group -> the dataclass whose fields are its flags.
      synonyms: names that other programs have for them -> what to write here, for the hint behind an unknown flag.
      foreign: names of flags that other programs have and this one does not -> a sentence on what to do here.
      hint_for_word: returns a sentence on a word that belongs to no flag, or "".
    """

    groups: Mapping[str, type]
    synonyms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    foreign: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hint_for_word: Callable[[str], str] = lambda word: ""

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """Returns {flag: converted value} of the flags that were typed; the last of a repeated flag counts.

        Raises:
          UserError: an unknown flag (with the closest known one), a missing value, a value of the wrong type, or a word
            that is no flag.
        """
        words, typed = self.parse_with_words(argv)
        if words:
            word = words[0]
            hint = self.hint_for_word(word) or self._hint(word) or "--help lists the flags."
            raise UserError(f"{_show(word)}: not a flag; flags are written --name=value. {hint.strip()}")
        return typed

    def parse_with_words(self, argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """Returns the words that belong to no flag, and what `parse` returns."""
        kinds, fields = self._kinds(), self._fields()
        words, flags = self._normalise(argv)
        typed = vars(_parser(fields).parse_args(flags))
        return words, {name: _convert_typed(fields[name], text, kinds[name]) for name, text in typed.items()}

    def help(self, prog: str, usage: str, description: str, topic: str = "") -> str:
        """Returns the whole help text: one entry per flag and group with its unit, default, limits and source.

        Args:
          prog, usage, description: of the program.
          topic: name of the only flag that is asked for, as `help_topic` returns it; "": all of them.

        Raises:
          UserError: there is no such flag.
        """
        wanted = self._known(f"--{topic.lstrip('-')}") if topic else None
        groups = {}
        for title, group in self.groups.items():
            fields = [field for field in dataclasses.fields(group) if wanted in (None, field.name)]
            if fields:
                groups[title] = fields

        text = flag_help.details(groups, self._kinds(), prog)
        return text if topic else f"usage: {prog} {usage}\n\n{description}\n\n{text}"

    def overview(self, prog: str, usage: str, titles: Sequence[str]) -> str:
        """Returns a help text for one screen: the flags of the first group by topic, those of others in short.

        Args:
          prog, usage: of the program.
          titles: of the groups to show. Their flags are named with their defaults.
        """
        first, *_ = self.groups
        topics = flag_help.by_topic(dataclasses.fields(self.groups[first]), first)
        short = {title: dataclasses.fields(self.groups[title]) for title in titles}
        return f"usage: {prog} {usage}\n{flag_help.overview(topics)}\n{flag_help.names_and_defaults(short)}"

    def _normalise(self, argv: Sequence[str]) -> tuple[list[str], list[str]]:
        """Returns the words that belong to no flag, and every flag as one known `--name=value`."""
        words, flags, kinds = [], [], self._kinds()
        tokens = list(argv)
        while tokens:
            token = tokens.pop(0)
            if not token.startswith("-"):
                words.append(token)
                continue
            name, equals, value = token.partition("=")
            flag = self._known(name)
            if not equals:
                value = _detached_value(flag, tokens, inner(kinds[flag]) is bool)
            flags.append(f"--{flag}={value}")
        return words, flags

    def _known(self, token: str) -> str:
        name = token.removeprefix("--").replace("-", "_")
        if token.startswith("--") and name in self._kinds():
            return name
        raise UserError(f"{_show(token)}: unknown flag.{self._hint(token) or ' --help lists the flags.'}")

    def _hint(self, token: str) -> str:
        name = token.partition("=")[0].lstrip("-").replace("-", "_")
        if name in self.foreign:
            return f" {self.foreign[name]}"
        if name in self.synonyms:
            return f" Did you mean --{self.synonyms[name]}?"
        if name.startswith("no_") and (hint := self._hint_of_negation(name.removeprefix("no_"))):
            return hint
        return closest(name, self._kinds(), cutoff=0.65).replace("mean ", "mean --")

    def _hint_of_negation(self, name: str) -> str:
        """Returns the hint for `--no-NAME`, as other programs switch a flag off; "" where it is not known."""
        known = self.synonyms.get(name, name)
        if inner(self._kinds().get(known)) is bool:
            return f" Leave it out: --{known} is off unless it is given."
        return f" {self.foreign[name]}" if name in self.foreign else ""

    def _kinds(self) -> dict[str, Any]:
        return {name: kind for group in self.groups.values() for name, kind in _kinds(group).items()}

    def _fields(self) -> dict[str, dataclasses.Field[Any]]:
        return {field.name: field for group in self.groups.values() for field in dataclasses.fields(group)}


def help_topic(argv: Sequence[str]) -> str | None:
    """Returns the flag that `--help=FLAG` asks about, "" for `--help` or `-h` alone, None where no help is wanted."""
    for word in argv:
        flag, _, topic = word.partition("=")
        if flag in HELP_FLAGS:
            return topic
    return None


def _kinds(group: type) -> dict[str, Any]:
    """Returns {name of a flag: its type}."""
    hints = typing.get_type_hints(group)
    return {field.name: hints[field.name] for field in dataclasses.fields(group)}


def _parser(names: Iterable[str]) -> argparse.ArgumentParser:
    parser = _Parser(argument_default=argparse.SUPPRESS, allow_abbrev=False, add_help=False)
    for name in names:
        parser.add_argument(f"--{name}")
    return parser


def only(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of `values` that are fields of the dataclass `cls`."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if name in names}


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `values` with tuples for lists, which JSON makes of them."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def resolve(*layers: tuple[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Merges layers of settings, of which later ones win.

    Args:
      *layers: (origin, {name: value}), such as ("default", ...), ("checkpoint", ...), ("command line", ...).

    Returns:
      {name: value} and {name: origin of that value}.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    return values, origins


def _convert_typed(field: dataclasses.Field[Any], text: str, kind: Any) -> Any:
    """Returns what was typed as a value of the field; the message of a mistake ends with the field's hint."""
    option: Option = field.metadata["option"]
    try:
        return convert(field.name, "0" if text.strip().lower() == option.zero else text, kind)
    except UserError as error:
        raise UserError(f"{error}; {option.hint}") if option.hint else error from None


def convert(name: str, text: str, kind: Any) -> Any:
    """Returns `text` as a value of the type `kind`: int, float, bool, str, a tuple of them, or one of these or None.

    Integers may be written `1e6` or `2_000_000`, tuples `32,64,32` or in brackets, booleans `true` and `false`.

    Raises:
      UserError: naming the flag, the text and what is allowed.
    """
    kind = inner(kind)
    if typing.get_origin(kind) is tuple:
        convert_part = _CONVERTERS[typing.get_args(kind)[0]]
        listed = _without_brackets(text.strip())
        parts = [convert_part(part.strip()) if part.strip() else None for part in listed.split(",")] if listed else []
        if None in parts:
            expected = _EXPECTED[typing.get_args(kind)[0]]
            raise UserError(f"--{name}={_show(text)}: each of its parts, between commas, must be {expected}")
        return tuple(parts)
    if not text.strip():
        raise UserError(f"--{name}: its value is missing; write --{name}=VALUE")
    value = _CONVERTERS[kind](text.strip())
    if value is None:
        raise UserError(f"--{name}={_show(text)}: must be {_EXPECTED[kind]}")
    return value


def _without_brackets(text: str) -> str:
    """Returns what is inside of a pair of brackets, as Python writes lists and tuples, or the text as it is."""
    return text[1:-1].strip() if text[:1] + text[-1:] in ("[]", "()") else text


def _to_int(text: str) -> int | None:
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return None
    # The exponent is looked at first: int(Decimal("1e999999999")) would take all memory.
    if not number.is_finite() or number.adjusted() > 18 or number != number.to_integral_value():
        return None
    return int(number) if abs(number) <= _MAX_INT else None


def _to_float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _to_bool(text: str) -> bool | None:
    return _WORDS.get(text.lower())


def _to_str(text: str) -> str | None:
    return text if text.isprintable() else None


_CONVERTERS: dict[type, Callable[[str], Any]] = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str}
_EXPECTED = {
    int: "a whole number such as 20, 1e6 or 2_000_000, of at most 63 bits",
    float: "a finite number such as 0.25 or 1e-3",
    bool: "true or false",
    str: "printable text",
}


def _detached_value(name: str, tokens: list[str], is_bool: bool) -> str:
    """Takes the value of the flag `name` from the head of `tokens`; a boolean flag needs none."""
    follows = bool(tokens) and not tokens[0].startswith("--")
    if is_bool:
        return tokens.pop(0) if follows and tokens[0].lower() in _WORDS else "true"
    if not follows:
        raise UserError(f"--{name}: its value is missing; write --{name}=VALUE")
    return tokens.pop(0)


def _show(text: str) -> str:
    """Returns `text` fit for one line of a message."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 60 else f"{text[:57]}..."
