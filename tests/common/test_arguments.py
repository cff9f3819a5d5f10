"""Claims about arguments of functions for users in Python."""

from __future__ import annotations

import numpy as np
import pytest

from common.arguments import misfit, whole_number
from common.errors import UserError


@pytest.mark.parametrize("given", [20, 20.0, 2e1, np.int64(20), np.float32(20)])
def test_a_whole_number_may_be_of_any_type_of_numbers(given):
    number = whole_number("n", given, 1)
    assert number == 20 and type(number) is int


@pytest.mark.parametrize("given", [0, 31, 2.5, np.nan, -np.inf, True, np.True_, "20", None, [20], 2**63, 10**400])
def test_anything_else_is_one_line_with_the_limits(given):
    with pytest.raises(UserError, match=r"^n=.*: must be a whole number of at least 1 and at most 30$"):
        whole_number("n", given, 1, 30)


def test_what_a_function_lacks_is_said_unless_it_does_not_tell():
    assert misfit(lambda a, b=1: 0, 3) == ""
    assert misfit(lambda a: 0, 3, b=4) == "got an unexpected keyword argument 'b'"
    assert misfit(int, 3) == misfit(dict, 1, 2, 3) == ""  # written in C, without a signature
