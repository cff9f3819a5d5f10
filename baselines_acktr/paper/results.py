"""What an item's runs came to, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from baselines_acktr.paper import published
from baselines_acktr.paper.items import Item
from baselines_acktr.paper.plan import Run
from common.measures import (
    best_mean,
    first_episode_above,
    interquartile_mean,
    interval,
    load_monitor,
)

START = 10  # first episodes whose mean stands for the untrained policy
NAN = float("nan")
Games = Mapping[str, pd.DataFrame]


def load_games(runs: Sequence[Run], folder: Path) -> dict[str, pd.DataFrame]:
    """{name of a run: its games} of those that have ended any."""
    present = [run for run in runs if any((folder / run.name).glob("*.monitor.csv"))]
    games = {run.name: load_monitor(folder / run.name) for run in present}
    return {name: table for name, table in games.items() if len(table)}


def measure(item: Item, runs: Sequence[Run], games: Games) -> pd.DataFrame:
    """One row per run: its score, and the first episode N from which on `window` episodes reach the threshold."""
    rows = []
    for run in runs:
        if run.name not in games:
            continue
        table = games[run.name]
        scores = table["score"].to_numpy()
        first = _first_above(item, run.task, scores)
        rows.append(
            {
                "task": run.task,
                "env": run.env,
                "line": run.line.label,
                "alg": run.line.alg,
                "seed": run.seed,
                "timesteps": int(table["timesteps"].iloc[-1]),
                "episodes": len(table),
                "score": best_mean(scores, item.window) if item.best else float(scores[-item.window :].mean()),
                "start": float(scores[:START].mean()),
                "N": NAN if first is None else first,
                "timesteps at N": NAN if first is None else int(table["timesteps"].iloc[first - 1]),
                "seconds": float(table["seconds"].iloc[-1]),
            }
        )
    return pd.DataFrame(rows)


def compare(item: Item, name: str, measured: pd.DataFrame) -> pd.DataFrame:
    """One row per environment and line: the seeds' mean with its interval and range, beside the paper's figure.

    `timesteps` is the length of the shortest run, so that one which has not ended is seen; then comes the paper's.
    `ratio` is the gain over the untrained policy as part of the paper's: (ours - start) / (paper - start).
    """
    rows = []
    for (task, line), group in measured.groupby(["task", "line"], sort=False):
        scores, alg = group["score"], group["alg"].iloc[0]
        paper = published.reward(name, task, alg) if line == alg else NAN
        start, (low, high) = measured[measured["task"] == task]["start"].mean(), interval([scores])
        row = {
            "env": group["env"].iloc[0],
            "line": line,
            "seeds": len(group),
            "timesteps": int(group["timesteps"].min()),
            "paper timesteps": published.timesteps(name, task, alg),
            "score": scores.mean(),
            "95% low": low,
            "95% high": high,
            "lowest seed": scores.min(),
            "highest seed": scores.max(),
            "paper": paper,
            "ratio": (scores.mean() - start) / (paper - start) if paper > start else NAN,
        }
        rows.append(row | _reached(item, group))
    return pd.DataFrame(rows)


def _first_above(item: Item, task: str, scores: np.ndarray) -> int | None:
    """N; None where it was not reached or is not measured."""
    if item.threshold is None:
        return None
    return first_episode_above(scores, published.threshold(item.threshold, task), item.window)


def _reached(item: Item, group: pd.DataFrame) -> dict[str, object]:
    """When the threshold was reached, if the item has one: median over the seeds that reached it."""
    if item.threshold is None:
        return {}
    task, line, alg = group.iloc[0][["task", "line", "alg"]]
    return {
        "threshold": published.threshold(item.threshold, task),
        "reached": f"{group['N'].notna().sum()} of {len(group)}",
        "N": group["N"].median(),
        "N paper": published.episode(item.threshold, task, alg) if line == alg else NAN,
        "timesteps at N": group["timesteps at N"].median(),
    }


def summarise(name: str, measured: pd.DataFrame) -> pd.DataFrame:
    """One row per line: interquartile mean over all tasks and seeds, and on how many tasks ACKTR is ahead of it.

    Scores are normalised so that 0 is the untrained policy and 1 the paper's ACKTR. ACKTR is ahead where its mean is
    higher, and clearly ahead where its lowest seed is above the other's highest.
    """
    rows = []
    for line, group in measured.groupby("line", sort=False):
        samples = [
            normalised for task, runs in group.groupby("task") if len(normalised := _normal(name, task, runs, measured))
        ]
        low, high = interval(samples, interquartile_mean)
        rows.append(
            {
                "line": line,
                "tasks": len(samples),
                "interquartile mean": float(interquartile_mean(*samples)) if samples else NAN,
                "95% low": low,
                "95% high": high,
            }
            | (_duel(measured, line) if line != "acktr" and "acktr" in set(measured["line"]) else {})
        )
    return pd.DataFrame(rows)


def _normal(name: str, task: str, runs: pd.DataFrame, measured: pd.DataFrame) -> np.ndarray:
    start, paper = measured[measured["task"] == task]["start"].mean(), published.reward(name, task, "acktr")
    return (runs["score"].to_numpy() - start) / (paper - start) if paper > start else np.empty(0)


def _duel(measured: pd.DataFrame, line: str) -> dict[str, str]:
    two = measured[measured["line"].isin(["acktr", line])]
    scores = two.groupby(["task", "line"])["score"].agg(["mean", "min", "max"]).unstack("line")
    shared = scores.dropna()
    ahead = (shared["mean", "acktr"] > shared["mean", line]).sum()
    clearly = (shared["min", "acktr"] > shared["max", line]).sum()
    return {"acktr ahead": f"{ahead} of {len(shared)}", "clearly": f"{clearly} of {len(shared)}"}
