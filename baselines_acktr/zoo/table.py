"""The table of the ready-made agents, in docs/zoo.md."""

from __future__ import annotations

import re
from pathlib import Path

from baselines_acktr.session import ready_made
from baselines_acktr.session.ready_made import Record, mean_and_deviation
from common.atomic_file import write_text
from common.errors import UserError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "zoo.md"
HEAD = "| agent | algorithm | score, sampled | score, greedy | timesteps | model | command |"


def table() -> str:
    """Returns the table in Markdown, a row for each ready-made agent."""
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for name, meta in ready_made.metas().items():
        record = Record.of(meta)
        cells = [
            f"`{ready_made.PREFIX}{name}`",
            meta["algorithm"],
            mean_and_deviation(record.sampled),
            mean_and_deviation(record.greedy),
            f"{meta['counters']['timesteps']:,}",
            record.chosen,
            f"`{record.command}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write(page: Path = PAGE) -> Path:
    """Puts the table in the place of the one on the page; returns the page.

    Raises:
      UserError: there is no such page, as in an installation without the documentation, or it has no such table.
    """
    if not page.exists():
        raise UserError(f"{page}: is not there; the table is written in a clone of the project")
    text = page.read_text()
    found = re.search(rf"^{re.escape(HEAD)}\n(\|.*\n)*", text, re.MULTILINE)
    if found is None:
        raise UserError(f"{page}: has no table that begins with {HEAD}")
    write_text(page, text[: found.start()] + table() + "\n" + text[found.end() :])
    return page
