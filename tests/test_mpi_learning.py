"""Claims about learning on several ranks: N ranks with 1/N of the rows each are one process with all of them."""

from __future__ import annotations

import json

import pytest
from mpi_helpers import finish, start
from mpi_learning import CASES

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module", params=[2, 4])
def results(request, tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("learning") / "results.json"
    code, _, errors = finish(start(request.param, "tests/mpi_learning.py", str(path)))
    assert code == 0, errors
    return json.loads(path.read_text())


@pytest.mark.parametrize("floats", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_twenty_updates_of_several_ranks_are_those_of_one_process(results, name, floats):
    assert results[f"{name} {floats}"] < TOLERANCE[floats]


def test_background_inverses_are_taken_over_by_all_ranks_in_the_same_update(results):
    assert 0 <= results["background"] < 20


def test_ranks_that_differ_in_one_tensor_name_it(results):
    assert results["mismatch"] == "after update 0 the ranks differ in parameters/1"
