"""Claims about docs/mistakes.md: what is typed there is answered as the page says."""

from __future__ import annotations

import re
import shlex

import pytest
from repository import ROOT

import run

PAGE = (ROOT / "docs" / "mistakes.md").read_text()
ROWS = re.findall(r"^\| `acktr (.*)` \| `(.*)` \|$", PAGE, re.MULTILINE)


def test_the_table_is_read_whole_and_has_no_command_twice():
    assert len(ROWS) == PAGE.count("\n| `") >= 60
    assert len({typed for typed, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("typed", "answer"), ROWS, ids=[typed for typed, _ in ROWS])
def test_a_mistake_is_answered_as_the_page_says(tmp_path, monkeypatch, capfd, typed, answer):
    for name in ("OPENAI_LOGDIR", "OPENAI_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("notes\n")
    assert run.main(shlex.split(typed)) == 2
    assert capfd.readouterr() == ("", f"run.py: {answer}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
