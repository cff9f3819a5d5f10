"""Claims about names and arguments of other libraries."""

import inspect

import pytest

from common.errors import UserError
from common.foreign_names import answers, missing


def test_a_name_of_another_library_is_answered_with_what_to_write():
    error = missing("mine", "Theirs", {"Theirs": "Write ours."})
    assert isinstance(error, ImportError) and str(error) == "mine has no Theirs. Write ours."
    assert isinstance(missing("mine", "anything", {"Theirs": "Write ours."}), AttributeError)


def test_an_argument_of_another_library_is_answered_and_all_else_is_as_without():
    def double(number: int, times: int = 2) -> int:
        """Multiplies."""
        return number * times

    answering = answers({"factor": "Write times=."})(double)
    assert answering(3) == 6 and answering(number=3, times=4) == 12
    assert inspect.signature(answering) == inspect.signature(double) and answering.__doc__ == "Multiplies."
    with pytest.raises(UserError, match=r"^double: has no argument factor\. Write times=\.$"):
        answering(3, factor=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        answering(3, other=4)
    with pytest.raises(UserError, match=r"^Doubling: has no argument factor\."):
        answers({"factor": "Write times=."}, "Doubling")(double)(3, factor=4)
