"""The code of README and docs: fenced blocks, and the commands in them and in the text."""

from __future__ import annotations

import re
from pathlib import Path

from repository import ROOT

PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
PROGRAMS = ("acktr", "python", "python3.11", "mpirun", "pip", "mkdocs", "curl")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PLACEHOLDER = re.compile(r"\.\.\.|\b(FOLDER|FILE|ITEM|LOGDIR|NAME|N)\b")
_TESTED_TABLE = re.compile(r"^\| `(zoo:|acktr).*$", re.MULTILINE)  # of ready-made agents, and of mistakes


def blocks(page: Path | str, language: str = "python") -> list[str]:
    """The fenced blocks of a page (a path, or its name below the repository) in a language; "" for those without."""
    return [text for found, text in _FENCE.findall((ROOT / page).read_text()) if found == language]


def languages(page: Path) -> set[str]:
    """The languages that the fenced blocks of a page name; "" for none."""
    return {found for found, _ in _FENCE.findall(page.read_text())}


def commands(page: Path) -> list[str]:
    """The commands of a page, without comments: lines of its blocks that begin with a program, and code in its text.

    Left out are those with a placeholder, such as FILE.
    """
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    text = _TESTED_TABLE.sub("", _FENCE.sub("", page.read_text()))
    quoted = re.findall(r"`([^`\n]+)`", text)
    found = [without_comment(line) for line in (*lines, *quoted)]
    named = [command for command in found if command.split(" ")[0] in PROGRAMS and " " in command]
    return [command for command in named if not _PLACEHOLDER.search(command)]


def without_comment(line: str) -> str:
    """A line of a shell without its comment, which may be all of it."""
    return re.split(r"(?:^|\s+)#", line)[0].strip()
