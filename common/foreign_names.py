"""Names and arguments of other libraries: a user who writes one is told what to write here instead."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from common.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


def missing(module: str, name: str, instead: Mapping[str, str]) -> Exception:
    """Returns the error of a name that a module does not have, for its `__getattr__` to raise.

    Args:
      module: name of the module.
      name: what was looked for.
      instead: {name of another library: what to write here, in a sentence}.
    """
    if name in instead:
        return ImportError(f"{module} has no {name}. {instead[name]}", name=module)
    return AttributeError(f"module {module!r} has no attribute {name!r}")


def answers(instead: Mapping[str, str], name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function answer keyword arguments of other libraries with a `UserError` that says what to write.

    Args:
      instead: {name of an argument that the function does not have: what to write here, in a sentence}.
      name: what the function is called in the answer; None: by its own name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for argument in kwargs:
                if argument in instead:
                    raise UserError(f"{name or function.__name__}: has no argument {argument}. {instead[argument]}")
            return function(*args, **kwargs)

        return call

    return decorate
