"""Claims about arrays by name."""

from __future__ import annotations

import numpy as np

from common.named_arrays import with_prefix, without_prefix


def test_arrays_get_a_prefix_and_one_without_a_name_gets_that_of_its_part():
    arrays = with_prefix("actor", {"rng": np.ones(1), "": np.zeros(2)})
    assert sorted(arrays) == ["actor", "actor/rng"]


def test_a_part_gets_its_own_arrays_back_and_no_others():
    own = {"rng": np.ones(1), "": np.zeros(2), "filter/mean": np.ones(3)}
    others = {"actors": np.ones(4), "actors/rng": np.ones(5), "vf/actor": np.ones(6)}
    found = without_prefix("actor", with_prefix("actor", own) | others)
    assert found.keys() == own.keys()
    assert all(found[name] is array for name, array in own.items())
    assert without_prefix("critic", others) == {}
