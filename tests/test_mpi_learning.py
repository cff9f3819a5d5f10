"""Claims about learning on several ranks: N ranks with 1/N of the rows each are one process with all of them."""

from __future__ import annotations

import json

import pytest
from mpi_helpers import finish, start
from mpi_learning import CASES

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
RANKS = {2: ("float32", "float64"), 4: ("float64",)}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{ranks: what the program found}, each started when it is first asked for."""
    found: dict[int, dict] = {}

    def of(ranks: int) -> dict:
        if ranks not in found:
            path = tmp_path_factory.mktemp("learning") / "results.json"
            code, _, errors = finish(start(ranks, "tests/mpi_learning.py", str(path), *RANKS[ranks]))
            assert code == 0, errors
            found[ranks] = json.loads(path.read_text())
        return found[ranks]

    return of


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("ranks", "floats"), [(ranks, floats) for ranks in RANKS for floats in RANKS[ranks]])
def test_twenty_updates_of_several_ranks_are_those_of_one_process(results, ranks, floats, name):
    assert results(ranks)[f"{name} {floats}"] < TOLERANCE[floats]


@pytest.mark.parametrize("ranks", RANKS)
def test_background_inverses_are_taken_over_by_all_ranks_in_the_same_update(results, ranks):
    assert 0 <= results(ranks)["background"] < 20


@pytest.mark.parametrize("ranks", RANKS)
def test_ranks_that_differ_in_one_tensor_name_it(results, ranks):
    assert results(ranks)["mismatch"] == "after update 0 the ranks differ in parameters/1"
