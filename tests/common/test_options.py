"""Claims about fields of configuration dataclasses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from common.errors import UserError
from common.options import changed, none_for_zero, option, validate, values_in_files


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


@dataclasses.dataclass(frozen=True)
class Sizes:
    sizes: tuple[int, ...] = option((), "of layers", minimum=1)

    def __post_init__(self) -> None:
        validate(self)


def test_what_numpy_gives_becomes_pythons():
    derived = Derived(rate=np.float32(0.5), steps=np.int64(7))
    assert (type(derived.rate), type(derived.steps)) == (float, int)
    for given in ([8, 4], np.array([8, 4]), (np.int32(8), np.int64(4))):
        assert Sizes(given).sizes == (8, 4) and {type(size) for size in Sizes(given).sizes} == {int}


@pytest.mark.parametrize("wrong", [{"rate": np.float32(0)}, {"steps": np.int64(0)}, {"rate": np.array([0.1, 0.2])}])
def test_what_numpy_gives_is_held_to_the_limits(wrong):
    with pytest.raises(UserError, match="must be"):
        Derived(**wrong)


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"steps": 0}])
def test_a_changed_field_keeps_its_limits(wrong):
    with pytest.raises(UserError, match="must be"):
        Derived(**wrong)


def test_a_field_that_is_not_there_cannot_be_changed():
    with pytest.raises(KeyError):
        changed(Base, "nothing", 1)


@dataclasses.dataclass(frozen=True)
class Limited:
    rows: int | None = option(None, "how many rows", minimum=0, zero="all")
    level: float | None = option(0.5, "how much", minimum=0, zero="off")
    start: float | None = option(0.0, "where it starts")
    keep: int = option(3, "how many are kept", minimum=0, zero="off")

    def __post_init__(self) -> None:
        validate(self)
        none_for_zero(self)


def test_zero_and_none_say_the_same_where_a_word_stands_for_both():
    assert Limited(rows=0, level=0.0) == Limited(rows=None, level=None)
    assert Limited(rows=0).rows is None


def test_zero_stays_where_no_word_or_no_none_is_taken_for_it():
    assert (Limited().start, Limited(keep=0).keep) == (0.0, 0)


@pytest.mark.parametrize("wrong", [{"rows": False}, {"rows": 0.0}, {"rows": -1}, {"level": "off"}])
def test_what_is_no_number_is_not_taken_for_zero(wrong):
    with pytest.raises(UserError, match="must be"):
        Limited(**wrong)


def test_files_have_zero_as_before_and_bring_none_back():
    values = values_in_files(Limited(rows=None, level=None, start=None))
    assert values == {"rows": 0, "level": 0, "start": None, "keep": 3}
    assert Limited(**values) == Limited(rows=None, level=None, start=None)
