"""Scores of an item's runs, next to those that the paper reports."""

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

START = 10  # number of first episodes whose mean stands for the untrained policy
NAN = float("nan")
Games = Mapping[str, pd.DataFrame]


def load_games(runs: Sequence[Run], folder: Path) -> dict[str, pd.DataFrame]:
    """Returns {name of the run: its games}. Runs in which no game has ended are left out."""
    present = [run for run in runs if any((folder / run.name).glob("*.monitor.csv"))]
    games = {run.name: load_monitor(folder / run.name) for run in present}
    return {name: table for name, table in games.items() if len(table)}


def measure(item: Item, runs: Sequence[Run], games: Games) -> pd.DataFrame:
    """Returns a table with one row per run: its score, and how soon it reached the threshold of the paper.

    `score` is the mean of the last `item.window` episodes, or of the best ones in succession where `item.best`. `N` is
    the number, counted from 1, of the first episode that begins `item.window` episodes whose mean is at least the
    threshold (tables 1 and 2 of the paper); NaN where there is none.

    Args:
      item: the table or figure of the paper.
      runs: those of it; one that has no games yet has no row.
      games: {name of the run: its episodes}.
    """
    rows = []
    for run in runs:
        if run.name not in games:
            continue

        table = games[run.name]
        scores = table["score"].to_numpy()
        score = float(scores[-item.window :].mean())
        if item.best:
            score = best_mean(scores, item.window)

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
                "score": score,
                "start": float(scores[:START].mean()),
                "N": NAN if first is None else first,
                "timesteps at N": NAN if first is None else int(table["timesteps"].iloc[first - 1]),
                "seconds": float(table["seconds"].iloc[-1]),
            }
        )

    return pd.DataFrame(rows)


def compare(item: Item, name: str, measured: pd.DataFrame) -> pd.DataFrame:
    """Returns a table with one row per environment and line: mean over seeds, confidence interval and range.

    `timesteps` is the length of the shortest run, so that unfinished runs can be seen. `paper timesteps` is that of the
    paper. `ratio` relates our improvement over the untrained policy to the paper's: (ours - start) / (paper - start).
    """
    rows = []
    for (task, line), group in measured.groupby(["task", "line"], sort=False):
        scores = group["score"]
        alg = group["alg"].iloc[0]
        paper = published.reward(name, task, alg) if line == alg else NAN
        start = measured[measured["task"] == task]["start"].mean()
        low, high = interval([scores])

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
    """Returns N, or None if it was not reached or is not measured."""
    if item.threshold is None:
        return None
    return first_episode_above(scores, published.threshold(item.threshold, task), item.window)


def _reached(item: Item, group: pd.DataFrame) -> dict[str, object]:
    """Returns when the threshold was reached: the median over the seeds that reached it. Empty if the item has none."""
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
    """Returns a table with one row per line: interquartile mean over all tasks and seeds, and a comparison with ACKTR.

    Scores are normalised such that 0 is the untrained policy and 1 the paper's ACKTR. ACKTR is ahead on a task if its
    mean is higher, and clearly ahead if its lowest seed is above the highest seed of the other.
    """
    rows = []
    for line, group in measured.groupby("line", sort=False):
        by_task = [_normal(name, task, runs, measured) for task, runs in group.groupby("task")]
        samples = [scores for scores in by_task if len(scores)]
        low, high = interval(samples, interquartile_mean)

        row = {
            "line": line,
            "tasks": len(samples),
            "interquartile mean": float(interquartile_mean(*samples)) if samples else NAN,
            "95% low": low,
            "95% high": high,
        }

        if line != "acktr" and "acktr" in set(measured["line"]):
            row |= _duel(measured, line)
        rows.append(row)

    return pd.DataFrame(rows)


def _normal(name: str, task: str, runs: pd.DataFrame, measured: pd.DataFrame) -> np.ndarray:
    start = measured[measured["task"] == task]["start"].mean()
    paper = published.reward(name, task, "acktr")
    if not paper > start:
        return np.empty(0)
    return (runs["score"].to_numpy() - start) / (paper - start)


def _duel(measured: pd.DataFrame, line: str) -> dict[str, str]:
    two = measured[measured["line"].isin(["acktr", line])]
    scores = two.groupby(["task", "line"])["score"].agg(["mean", "min", "max"]).unstack("line")
    shared = scores.dropna()
    ahead = (shared["mean", "acktr"] > shared["mean", line]).sum()
    clearly = (shared["min", "acktr"] > shared["max", line]).sum()
    return {"acktr ahead": f"{ahead} of {len(shared)}", "clearly": f"{clearly} of {len(shared)}"}
