"""The figures of items: learning curves, with one panel per environment and axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from baselines_acktr.paper import published
from baselines_acktr.paper.items import Item
from baselines_acktr.paper.plan import Run
from baselines_acktr.paper.results import Games
from common.plots import curve, draw_curves, draw_level, figure

if TYPE_CHECKING:  # matplotlib is only imported where a figure is drawn
    from matplotlib.axes import Axes


def draw(item: Item, name: str, runs: Sequence[Run], games: Games, path: Path) -> None:
    """Draws the learning curves of an item. The paper's scores are dashed, in the colour of their algorithm.

    Args:
      item: the item.
      name: its name.
      runs: its runs.
      games: {run: its games}.
      path: image file to write.
    """
    played = [run for run in runs if run.name in games]
    panels = []
    for group in item.groups:
        for task in group.envs:
            chosen = [run for run in played if run.task == task and run.line in group.lines]
            if chosen:
                panels += [(axis, task, chosen) for axis in group.axes]

    if not panels:
        return

    with figure(path, len(panels), f"{name} ({item.section})") as all_axes:
        for axes, (axis, task, chosen) in zip(all_axes, panels, strict=True):
            _draw_panel(axes, item, name, axis, task, chosen, games)


def _draw_panel(axes: Axes, item: Item, name: str, axis: str, task: str, runs: Sequence[Run], games: Games) -> None:
    for i, line in enumerate(dict.fromkeys(run.line.label for run in runs)):
        seeds = [run for run in runs if run.line.label == line]
        curves = [along(axis, run, games[run.name], item.window) for run in seeds]
        draw_curves(axes, line, curves, color=f"C{i}")

        paper = published.reward(name, task, line)
        if not math.isnan(paper):
            draw_level(axes, paper, f"{line}, the paper", color=f"C{i}")

    axes.set(title=runs[0].env, xlabel=axis, ylabel=f"score, mean of {item.window} episodes")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def along(axis: str, run: Run, games: pd.DataFrame, window: int) -> pd.Series:
    """Returns the running mean of the score along an axis: "timesteps", "episodes", "seconds" or "updates"."""
    if axis == "updates":
        by_timesteps = curve(games, "timesteps", window)
        return by_timesteps.set_axis(by_timesteps.index / run.batch)
    return curve(games, axis, window)
