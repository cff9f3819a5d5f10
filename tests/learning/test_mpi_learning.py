"""Claims about learning on several ranks: N ranks with 1/N of the rows each are one process with all of them."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
from mpi_helpers import finish, start
from mpi_learning import CASES

pytestmark = pytest.mark.long
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
# With their own damping conjugate gradient multiplies float32's rounding by the condition of the Fisher.
ILL_CONDITIONED = {f"{name}:float32" for name in ("trpo", "acktr-discrete", "acktr-images", "acktr-limited")}
ALL = [case for floats in TOLERANCE for name in CASES if (case := f"{name}:{floats}") not in ILL_CONDITIONED]
# The damped ones differ from the others in their condition alone, which only float32 asks about.
DAMPED = [name for name in CASES if name.endswith("-damped")]
QUICK = {
    2: [f"{name}:float64" for name in CASES if name not in DAMPED]
    + ["acktr-damped:float32", "acktr-continuous:float32"],
    4: ["acktr-continuous:float64"],  # policy and critic; those of "background" are of acktr-discrete
}


def differences(ranks: int, folder: Path, cases: list[str]) -> dict:
    """What the program finds for some cases."""
    path = folder / "results.json"
    code, _, errors = finish(start(ranks, "tests/helpers/mpi_learning.py", str(path), *cases), timeout=900)
    assert code == 0, errors
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Starts the program on so many ranks when it is first asked for them."""
    return functools.cache(lambda ranks: differences(ranks, tmp_path_factory.mktemp("learning"), QUICK[ranks]))


@pytest.mark.parametrize(("ranks", "case"), [(ranks, case) for ranks, cases in QUICK.items() for case in cases])
def test_twenty_updates_of_several_ranks_are_those_of_one_process(results, ranks, case):
    assert results(ranks)[case] < TOLERANCE[case.split(":")[1]]


@pytest.mark.reliability
@pytest.mark.parametrize("ranks", [2, 4])
def test_that_holds_for_every_learner_in_both_types(tmp_path, ranks):
    found = differences(ranks, tmp_path, ALL)
    assert {case: found[case] for case in ALL if found[case] >= TOLERANCE[case.split(":")[1]]} == {}


@pytest.mark.parametrize("ranks", QUICK)
def test_background_inverses_are_taken_over_by_all_ranks_in_the_same_update(results, ranks):
    """Not the first ones alone, whose age would be 19."""
    assert 0 <= results(ranks)["background"] < 19


@pytest.mark.parametrize("ranks", QUICK)
def test_ranks_that_differ_in_one_tensor_name_it(results, ranks):
    assert results(ranks)["mismatch"] == "after update 0 the ranks differ in parameters/1"
