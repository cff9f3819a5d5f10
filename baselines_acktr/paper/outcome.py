"""Writes what came out of an item's runs to its folder: tables, figure, commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from baselines_acktr.paper import figures, results
from baselines_acktr.paper.items import Item
from baselines_acktr.paper.plan import Run, command


def write(item: Item, name: str, runs: Sequence[Run], out: Path) -> list[pd.DataFrame]:
    """Writes the item's files to `out/<name>` from the runs in `out/runs`; returns the tables, none without a run.

    The files: `results.csv` (a row per environment and line), `summary.csv` (a row per line), `runs.csv` (a row per
    run), `<name>.png` and `commands.txt`.
    """
    games = results.load_games(runs, out / "runs")
    if not games:
        return []
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    commands = [command(run, out / "runs" / run.name) for run in runs]
    (folder / "commands.txt").write_text("\n".join(commands) + "\n", encoding="utf-8")
    measured = results.measure(item, name, runs, games)
    tables = {"results": results.compare(item, name, measured), "summary": results.summarise(name, measured)}
    for stem, table in {"runs": measured, **tables}.items():
        table.to_csv(folder / f"{stem}.csv", index=False, float_format="%.6g")
    figures.draw(item, name, runs, games, folder / f"{name}.png")
    return list(tables.values())
