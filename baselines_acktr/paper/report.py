"""report.md: all available results, next to those of the paper."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from baselines_acktr.paper.items import ITEMS, Item

HEAD = """# Results beside the paper's

The paper used Gym's MuJoCo tasks v1; these are Gymnasium's. `95%` is the bootstrap interval of the mean over seeds.
`ratio` is the improvement over the untrained policy (the mean of the first 10 episodes), divided by that of the paper.
The interquartile mean is scaled such that 0 is the untrained policy and 1 the paper's ACKTR. ACKTR is clearly ahead
if its lowest seed is above the highest seed of the other."""


def write(out: Path) -> Path:
    """Writes `out/report.md` from the results in the folders of the items, and returns its path."""
    measured = {name: item for name, item in ITEMS.items() if (out / name / "results.csv").exists()}
    sections = [_section(name, item, out / name) for name, item in measured.items()]
    if not sections:
        sections = ["Nothing has been measured yet."]

    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.md"
    path.write_text("\n\n".join([HEAD, *sections]) + "\n", encoding="utf-8")

    return path


def _section(name: str, item: Item, folder: Path) -> str:
    tables = [folder / f"{stem}.csv" for stem in ("results", "summary", "parts")]
    parts = [f"## {name}", f"{item.title[0].upper()}{item.title[1:]} ({item.section})."]
    parts += [markdown(pd.read_csv(path)) for path in tables if path.exists()]
    parts.append(f"![{name}]({name}/{name}.png)")
    parts.append(f"Commands: [{name}/commands.txt]({name}/commands.txt).")
    return "\n\n".join(parts)


def markdown(table: pd.DataFrame) -> str:
    """Returns a table in Markdown. Numbers have four digits, and missing values are shown as "-"."""
    rows = [list(table.columns), ["---"] * len(table.columns)]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: object) -> str:
    if pd.isna(value):
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
