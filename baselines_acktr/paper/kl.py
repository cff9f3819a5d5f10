"""Figure 9: the exact KL of every update against the quadratic model's and the radius delta of the trust region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from baselines_acktr.paper.plan import Run
from common.plots import figure

COLUMNS = {"kl": "exact KL", "quadratic_kl": "quadratic model"}
FACTOR = 2.0
SMOOTHED = 20  # updates that the lines of the figure are medians of


def load_updates(runs: Sequence[Run], folder: Path) -> dict[str, pd.DataFrame]:
    """{name of a run: a row per update} of those that have reported any."""
    paths = {run.name: folder / run.name / "progress.csv" for run in runs}
    tables = {name: pd.read_csv(path) for name, path in paths.items() if path.exists()}
    return {name: table for name, table in tables.items() if set(COLUMNS) <= set(table)}


def share_within(values: Sequence[float] | np.ndarray, targets: Sequence[float] | np.ndarray | float) -> float:
    """Part of the values that lie within a factor FACTOR of their targets."""
    values, targets = np.asarray(values, float), np.asarray(targets, float)
    return float(np.mean((values <= FACTOR * targets) & (values >= targets / FACTOR)))


def compare(runs: Sequence[Run], updates: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per run: how far its updates keep to delta, and to the quadratic model."""
    rows = []
    for run in runs:
        if run.name not in updates:
            continue
        table, delta = updates[run.name], run.line.options["delta"]
        rows.append(
            {
                "env": run.env,
                "line": run.line.label,
                "seed": run.seed,
                "updates": len(table),
                "delta": delta,
                "median exact KL": table["kl"].median(),
                "median quadratic": table["quadratic_kl"].median(),
                "exact within factor 2 of delta": share_within(table["kl"], delta),
                "quadratic within factor 2 of delta": share_within(table["quadratic_kl"], delta),
                "exact within factor 2 of quadratic": share_within(table["kl"], table["quadratic_kl"]),
            }
        )
    return pd.DataFrame(rows)


def draw(runs: Sequence[Run], updates: dict[str, pd.DataFrame], path: Path) -> None:
    """Writes both KLs along each run, with delta."""
    shown = [run for run in runs if run.name in updates]
    with figure(path, len(shown), "fig9: KL of an update, nats") as all_axes:
        for axes, run in zip(all_axes, shown, strict=True):
            table = updates[run.name]
            for i, (column, label) in enumerate(COLUMNS.items()):
                axes.plot(table["total_timesteps"], table[column], ".", markersize=1, color=f"C{i}", alpha=0.4)
                median = table[column].rolling(SMOOTHED, min_periods=1).median()
                axes.plot(table["total_timesteps"], median, color=f"C{i}", label=label)
            axes.axhline(run.line.options["delta"], color="k", linestyle="--", label="delta")
            axes.set(title=f"{run.env}, {run.line.label}", xlabel="timesteps", ylabel="KL", yscale="log")
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")
