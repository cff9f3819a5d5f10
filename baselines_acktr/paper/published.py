"""The numbers that the paper reports: its tables as CSV files, and values read off its figures."""

from __future__ import annotations

import functools
import importlib.resources

import pandas as pd

FIGURES_OF = {"fig5": ("fig1", "fig3"), "fig6": ("fig1",), "fig7": ("fig3",)}  # figures that show the same runs
LENGTHS = {"table1": 5e7, "table2": 3e7, "table4": 5e7}  # timesteps of a run; TRPO's on Atari are 1e7
THRESHOLDS = {"human": "table1", "threshold": "table2"}  # the table that holds each column


@functools.cache
def table(name: str) -> pd.DataFrame:
    """Returns table1, table2, table3 or table4 of the paper, or `figures` with values that were read off by eye.

    The columns of `figures` are `item, env, alg, timesteps, reward`.
    """
    package = importlib.resources.files("baselines_acktr.paper")
    with package.joinpath("data", f"{name}.csv").open() as file:
        return pd.read_csv(file)


def atari_games() -> tuple[str, ...]:
    """Returns the ids of the games in table 4."""
    return tuple(table("table4")["env"])


def reward(item: str, env: str, alg: str) -> float:
    """Returns the paper's score of an algorithm with its default settings, or NaN if the paper reports none.

    Args:
      item: name of the table or figure.
      env: name of the environment in the tables: the id of a game, or a MuJoCo task without its version.
      alg: acktr, a2c or trpo.
    """
    if item.startswith("table"):
        return _cell(item, env, (f"{alg}_reward", f"{alg}10m_reward", alg))
    found = _points(item, env, alg)["reward"]
    return float(found.iloc[0]) if len(found) else float("nan")


def timesteps(item: str, env: str, alg: str) -> float:
    """Returns after how many timesteps the paper reports the score of `reward`, or NaN if it reports none."""
    if item in LENGTHS:
        return float(LENGTHS[item]) if item != "table1" or alg != "trpo" else 1e7
    found = _points(item, env, alg)["timesteps"]
    return float(found.iloc[0]) if len(found) else float("nan")


def _points(item: str, env: str, alg: str) -> pd.DataFrame:
    points = table("figures")
    chosen = points[points["item"].isin((item, *FIGURES_OF.get(item, ()))) & (points["env"] == env)]
    return chosen[chosen["alg"] == alg]


def episode(column: str, env: str, alg: str) -> float:
    """Returns the first episode N at which the paper's run reached the threshold, or NaN if it never did.

    Args:
      column: name of the threshold, as for `threshold`.
      env: name of the environment in the tables.
      alg: acktr, a2c or trpo.
    """
    return _cell(THRESHOLDS[column], env, (f"{alg}_episode", f"{alg}10m_episode"))


def threshold(column: str, env: str) -> float:
    """Returns the score to reach.

    Args:
      column: "human" of table 1, or "threshold" of table 2.
      env: name of the environment in the tables.
    """
    return _cell(THRESHOLDS[column], env, (column,))


def speed(suite: str, batch: int, alg: str) -> float:
    """Returns the timesteps per second that table 3 reports, or NaN if it reports none."""
    rows = table("table3")
    chosen = rows[(rows["suite"] == suite) & (rows["batch_size"] == batch)]
    found = chosen[f"{alg}_timesteps_per_s"]
    return float(found.iloc[0]) if len(found) else float("nan")


def _cell(name: str, env: str, columns: tuple[str, ...]) -> float:
    rows = table(name)
    row = rows[rows["env"] == env]

    for column in columns:
        if column in rows and len(row):
            return float(row[column].iloc[0])

    return float("nan")
