"""Writes the results of an item to its folder: tables, figure and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from baselines_acktr.paper import figures, kl, results, speed
from baselines_acktr.paper.items import KL, SPEED, Item
from baselines_acktr.paper.plan import Run, command


def write(item: Item, name: str, runs: Sequence[Run], out: Path) -> list[pd.DataFrame]:
    """Writes the results of an item to `out/<name>`, from the runs in `out/runs`.

    Every item gets `results.csv`, `<name>.png` and `commands.txt`. Items that compare scores also get `summary.csv`
    (one row per line of the figure) and `runs.csv` (one row per run). Items that measure speed also get `parts.csv`.

    Returns:
      The tables to show. The list is empty if nothing has been measured yet.
    """
    write_item = {KL: _write_kl, SPEED: _write_speed}.get(item.kind, _write_scores)
    tables = write_item(item, name, runs, out)
    if tables:
        lines = _commands(item, runs, out)
        (out / name / "commands.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tables


def _commands(item: Item, runs: Sequence[Run], out: Path) -> list[str]:
    if item.kind == SPEED:
        return speed.commands(runs)
    return [command(run, out / "runs" / run.name) for run in runs]


def _write_scores(item: Item, name: str, runs: Sequence[Run], out: Path) -> list[pd.DataFrame]:
    games = results.load_games(runs, out / "runs")
    if not games:
        return []

    measured = results.measure(item, runs, games)
    tables = {
        "results": results.compare(item, name, measured),
        "summary": results.summarise(name, measured),
    }
    _save({"runs": measured} | tables, out / name)
    figures.draw(item, name, runs, games, out / name / f"{name}.png")

    return list(tables.values())


def _write_kl(item: Item, name: str, runs: Sequence[Run], out: Path) -> list[pd.DataFrame]:
    updates = kl.load_updates(runs, out / "runs")
    if not updates:
        return []

    table = kl.compare(runs, updates)
    _save({"results": table}, out / name)
    kl.draw(runs, updates, out / name / f"{name}.png")

    return [table]


def _write_speed(item: Item, name: str, runs: Sequence[Run], out: Path) -> list[pd.DataFrame]:
    path = out / name / "results.csv"
    if not path.exists():
        return []

    table = pd.read_csv(path)
    speed.draw(table, out / name / f"{name}.png")
    return [table]


def _save(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, table in tables.items():
        table.to_csv(folder / f"{stem}.csv", index=False, float_format="%.6g")
