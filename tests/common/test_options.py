"""Claims about fields of configuration dataclasses."""

from __future__ import annotations

import dataclasses

import pytest

from common.errors import UserError
from common.options import changed, option, validate


@dataclasses.dataclass(frozen=True)
class Base:
    rate: float = option(0.1, "how fast", unit="1/s", source="a book", above=0)
    steps: int = option(3, "how many", minimum=1)

    def __post_init__(self) -> None:
        validate(self)


@dataclasses.dataclass(frozen=True)
class Derived(Base):
    rate: float = changed(Base, "rate", 0.2, source="measured")
    steps: int = changed(Base, "steps", 4, help="how many at most")


def spec(name: str):
    return {field.name: field.metadata["option"] for field in dataclasses.fields(Derived)}[name]


def test_a_changed_field_has_its_own_default_and_source_and_else_what_it_inherits():
    assert (Derived().rate, Base().rate) == (0.2, 0.1)
    assert (spec("rate").help, spec("rate").unit, spec("rate").source) == ("how fast", "1/s", "measured")


def test_a_changed_help_text_leaves_the_source_empty():
    assert (spec("steps").help, spec("steps").source) == ("how many at most", None)


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"steps": 0}])
def test_a_changed_field_keeps_its_limits(wrong):
    with pytest.raises(UserError, match="must be"):
        Derived(**wrong)


def test_a_field_that_is_not_there_cannot_be_changed():
    with pytest.raises(KeyError):
        changed(Base, "nothing", 1)
