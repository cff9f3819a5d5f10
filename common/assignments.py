"""Arguments written as text: `name=value,name=value`, or a JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.errors import UserError, brief


def parse(text: str, argument: str) -> dict[str, Any]:
    """Returns {name: value} of a text such as `gravity=-5,continuous=true` or `{"goal": [1, 2]}`.

    A value is a number, `true`, `false`, `null` or text. Lists are written in a JSON object alone, since a comma
    separates arguments.

    Args:
      text: what was typed.
      argument: what it was given by, which messages begin with.

    Raises:
      UserError: it is neither form, or a name is no name of a Python argument.
    """
    found = _from_json(text, argument) if text.lstrip().startswith("{") else _from_words(text, argument)
    for name in found:
        if not name.isidentifier():
            raise UserError(f"{argument}: {brief(name)}: must be the name of an argument, as in gravity=-5")
    return found


def unparse(values: Mapping[str, Any]) -> str:
    """Returns the one text for {name: value} that `parse` reads and that files and comparisons have."""
    return json.dumps(dict(values), sort_keys=True) if values else ""


def _from_json(text: str, argument: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{argument}={brief(text)}: is no JSON object: {brief(error)}") from error
    return found


def _from_words(text: str, argument: str) -> dict[str, Any]:
    found = {}
    for word in text.split(","):
        name, equals, value = word.strip().partition("=")
        if not equals:
            raise UserError(f"{argument}={brief(text)}: must be name=value,name=value or a JSON object")
        found[name.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON has")
