"""Figure 9: the exact KL of every update, against that of the quadratic model and the trust region's radius delta."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from baselines_acktr.paper.plan import Run
from common.plots import figure

COLUMNS = {"kl": "exact KL", "quadratic_kl": "quadratic model"}
FACTOR = 2.0
SMOOTHED = 20  # number of updates over which the lines of the figure are medians


def load_updates(runs: Sequence[Run], folder: Path) -> dict[str, pd.DataFrame]:
    """Returns {name of the run: table with one row per update}. Runs without reports are left out."""
    paths = {run.name: folder / run.name / "progress.csv" for run in runs}
    tables = {name: pd.read_csv(path) for name, path in paths.items() if path.exists()}
    return {name: table for name, table in tables.items() if set(COLUMNS) <= set(table)}


def share_within(values: Sequence[float] | np.ndarray, targets: Sequence[float] | np.ndarray | float) -> float:
    """Returns the fraction of the values that are within a factor of FACTOR of their targets."""
    values = np.asarray(values, float)
    targets = np.asarray(targets, float)
    within = (values <= FACTOR * targets) & (values >= targets / FACTOR)  # [M]
    return float(np.mean(within))


def compare(runs: Sequence[Run], updates: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Returns a table with one row per run: how close the KL of its updates is to delta and to the quadratic model."""
    rows = []
    for run in runs:
        if run.name not in updates:
            continue

        table = updates[run.name]
        delta = run.line.options["delta"]
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
    """Draws both KLs and delta against timesteps, one panel per run."""
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
