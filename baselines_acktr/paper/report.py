"""report.md: all results there are, ours beside the paper's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from baselines_acktr.paper.items import ITEMS, Item

HEAD = """# Results beside the paper's

The paper's MuJoCo tasks were Gym's v1, these are Gymnasium's. `95%` is the bootstrap interval of the mean over seeds;
`ratio` is the gain over the untrained policy (the mean of the first 10 episodes) as part of the paper's. In the
interquartile mean 0 is the untrained policy and 1 the paper's ACKTR; ACKTR is clearly ahead where its lowest seed is
above the other's highest."""


def write(out: Path) -> Path:
    """Writes `out/report.md` from the results in the items' folders and returns its path."""
    sections = [
        _section(name, item, out / name) for name, item in ITEMS.items() if (out / name / "results.csv").exists()
    ]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.md"
    path.write_text("\n\n".join([HEAD, *(sections or ["Nothing has been measured yet."])]) + "\n", encoding="utf-8")
    return path


def _section(name: str, item: Item, folder: Path) -> str:
    tables = [folder / f"{stem}.csv" for stem in ("results", "summary", "parts")]
    parts = [f"## {name}", f"{item.title[0].upper()}{item.title[1:]} ({item.section})."]
    parts += [markdown(pd.read_csv(path)) for path in tables if path.exists()]
    parts.append(f"![{name}]({name}/{name}.png)")
    parts.append(f"Commands: [{name}/commands.txt]({name}/commands.txt).")
    return "\n\n".join(parts)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; numbers in four figures, - for what there is none of."""
    rows = [list(table.columns), ["---"] * len(table.columns)]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: object) -> str:
    if pd.isna(value):
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
