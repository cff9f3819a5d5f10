"""The paper's own numbers: its tables as CSV files, and what can be read off its figures."""

from __future__ import annotations

import functools
import importlib.resources

import pandas as pd

FIGURES_OF = {"fig5": ("fig1", "fig3"), "fig6": ("fig1",), "fig7": ("fig3",)}  # the same runs in another figure
LENGTHS = {"table1": 5e7, "table2": 3e7, "table4": 5e7}  # timesteps; of TRPO on Atari 1e7
THRESHOLDS = {"human": "table1", "threshold": "table2"}  # column: its table


@functools.cache
def table(name: str) -> pd.DataFrame:
    """The rows of table1 to table4, or of `figures`: `item, env, alg, timesteps, reward`, read off by eye."""
    with importlib.resources.files("baselines_acktr.paper").joinpath("data", f"{name}.csv").open() as file:
        return pd.read_csv(file)


def atari_games() -> tuple[str, ...]:
    """The games of table 4."""
    return tuple(table("table4")["env"])


def reward(item: str, env: str, alg: str) -> float:
    """The paper's score of an algorithm with its own settings; nan where it gives none.

    Args:
      item: table or figure.
      env: as in the tables: a game's id, a MuJoCo task without its version.
      alg: acktr, a2c or trpo.
    """
    if item.startswith("table"):
        return _cell(item, env, (f"{alg}_reward", f"{alg}10m_reward", alg))
    found = _points(item, env, alg)["reward"]
    return float(found.iloc[0]) if len(found) else float("nan")


def timesteps(item: str, env: str, alg: str) -> float:
    """After how many timesteps the paper has the score that `reward` gives; nan where it gives none."""
    if item in LENGTHS:
        return float(LENGTHS[item]) if item != "table1" or alg != "trpo" else 1e7
    found = _points(item, env, alg)["timesteps"]
    return float(found.iloc[0]) if len(found) else float("nan")


def _points(item: str, env: str, alg: str) -> pd.DataFrame:
    points = table("figures")
    chosen = points[points["item"].isin((item, *FIGURES_OF.get(item, ()))) & (points["env"] == env)]
    return chosen[chosen["alg"] == alg]


def episode(column: str, env: str, alg: str) -> float:
    """The paper's first episode N to reach the threshold `column` (see `threshold`); nan where it never did."""
    return _cell(THRESHOLDS[column], env, (f"{alg}_episode", f"{alg}10m_episode"))


def threshold(column: str, env: str) -> float:
    """The score to be reached: `human` of table 1 or `threshold` of table 2."""
    return _cell(THRESHOLDS[column], env, (column,))


def speed(suite: str, batch: int, alg: str) -> float:
    """Timesteps per second of table 3."""
    rows = table("table3")
    found = rows[(rows["suite"] == suite) & (rows["batch_size"] == batch)][f"{alg}_timesteps_per_s"]
    return float(found.iloc[0]) if len(found) else float("nan")


def _cell(name: str, env: str, columns: tuple[str, ...]) -> float:
    rows = table(name)
    row = rows[rows["env"] == env]
    for column in columns:
        if column in rows and len(row):
            return float(row[column].iloc[0])
    return float("nan")
