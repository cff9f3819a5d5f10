"""Claims about paths that users give."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from common.paths import given_path


def test_a_path_is_text_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert given_path("~/a b", "path") == given_path(Path("~/a b"), "path") == "/home/me/a b"


@pytest.mark.parametrize("wrong", [None, 3, b"x", ["x"], True])
def test_what_is_no_path_is_named(wrong):
    with pytest.raises(UserError, match=r"^save_path=.*: must be a path, as text or pathlib.Path$"):
        given_path(wrong, "save_path")


@pytest.mark.parametrize("wrong", ["", "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(wrong):
    with pytest.raises(UserError, match=r"^path='.*': must be the name of a file or folder$"):
        given_path(wrong, "path")
