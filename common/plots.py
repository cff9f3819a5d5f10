"""Draws learning curves, and counts episodes as the paper does, from monitor files.

python -m common.plots logs/pong-1 logs/pong-2 --out=pong.png
python -m common.plots logs/pong-1 logs/pong-2 --threshold=9.3

Runs whose folders differ only in a trailing `-<seed>` or `-seed<k>` count as seeds of one experiment. Their curve is
the mean over the seeds, and the band around it is the 95 % interval of that mean (bootstrap over the seeds).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from common import cli
from common.errors import UserError
from common.measures import environment_of, first_episode_above, load_monitor, pointwise_interval
from common.options import option, validate

if TYPE_CHECKING:  # matplotlib is only imported where a figure is drawn
    from matplotlib.axes import Axes

AXES = ("timesteps", "episodes", "seconds")
_SEED = re.compile(r"[-_](seed)?\d+$")
_POINTS = 500
_TITLED = 3  # environments that a title has room for


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Flags of `python -m common.plots`."""

    out: str | None = option(None, "image file to write, for example curves.png")
    xaxis: str = option("timesteps", "horizontal axis", choices=AXES)
    window: int = option(100, "games in the running mean", unit="episodes", minimum=1)
    title: str | None = option(None, "title of the figure; by default the environments")
    panels: bool = option(False, "draw each experiment in a panel of its own")
    threshold: float | None = option(
        None, "print when the mean of the next games first reaches this score, and draw it dashed"
    )

    def __post_init__(self) -> None:
        validate(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, or 2 for a mistake of the user."""
    argv = list(sys.argv[1:] if argv is None else argv)
    flags = cli.Flags({"options": PlotOptions})

    if not argv or cli.asks_for_help(argv):
        print(
            flags.help(
                "python -m common.plots",
                "LOGDIR... [--flag=value ...]",
                "Learning curves and tables of runs. Folders that differ only in a trailing -<number> are seeds of "
                "one experiment.",
            )
        )
        return 0 if argv else 2

    try:
        words, typed = flags.parse_with_words(argv)
        _run([Path(word).expanduser() for word in words], PlotOptions(**typed))
    except UserError as error:
        print(f"plots: {error}", file=sys.stderr)
        return 2

    return 0


def group_runs(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Groups the folders of runs by experiment.

    Returns:
      {experiment: folders}. Folders whose names differ only in a trailing `-<seed>` or `-seed<k>` are one experiment.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        groups[_SEED.sub("", str(folder))].append(folder)
    return dict(groups)


def curve(games: pd.DataFrame, axis: str, window: int) -> pd.Series:
    """Returns the mean score of the last `window` games after each game, indexed by the column `axis`."""
    mean = games["score"].rolling(window, min_periods=1).mean()
    return pd.Series(mean.to_numpy(), index=games[axis].to_numpy(float))


def band(curves: Sequence[pd.Series]) -> pd.DataFrame:
    """Returns the mean over several curves and its 95 % interval.

    Args:
      curves: scores indexed by position on the axis, one curve per seed.

    Returns:
      Columns `mean`, `low` and `high` on the part of the axis that all curves cover.
    """
    left = max(c.index[0] for c in curves)
    right = min(c.index[-1] for c in curves)
    grid = np.linspace(left, max(left, right), _POINTS)
    values = np.stack([np.interp(grid, c.index, c.to_numpy()) for c in curves])  # [seeds, points]

    mean = values.mean(axis=0)  # [points]
    low, high = pointwise_interval(values) if len(values) > 1 else (mean, mean)
    return pd.DataFrame({"mean": mean, "low": low, "high": high}, index=grid)


@contextlib.contextmanager
def figure(path: str | Path, panels: int, title: str | None = None) -> Iterator[list[Axes]]:
    """A context manager that yields `panels` empty axes to draw in, and writes the image on exit.

    Args:
      path: image file; its suffix chooses the format.
      panels: number of axes.
      title: title of the whole figure.

    Raises:
      UserError: the file cannot be written, or its suffix is not an image format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(f"--out={path}: is a folder; must be a file")
    columns = min(4, panels)
    rows = math.ceil(panels / columns)
    size = (4 * columns, 3 * rows) if panels > 1 else (8, 5)
    canvas = Figure(figsize=size, layout="constrained")  # without pyplot, which would switch a notebook's backend
    FigureCanvasAgg(canvas)

    grid = canvas.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[:panels]:
        axes.ticklabel_format(axis="x", scilimits=(-4, 5))  # longer numbers would overlap

    for axes in grid.flat[panels:]:
        axes.remove()

    try:
        yield list(grid.flat[:panels])
        canvas.suptitle(title or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"--out={path}: {getattr(error, 'strerror', None) or error}") from error


def plot(runs: Mapping[str, Sequence[pd.DataFrame]], path: str | Path, options: PlotOptions) -> None:
    """Draws the learning curves of several experiments and writes them as an image.

    Args:
      runs: {experiment: games of each seed}, as `load_monitor` returns them.
      path: image file.
      options: what to draw.

    Raises:
      UserError: the image cannot be written.
    """
    short = [Path(name).name for name in runs]
    labels = [last if short.count(last) == 1 else name for last, name in zip(short, runs, strict=True)]

    with figure(path, len(runs) if options.panels else 1, options.title) as panels:
        for i, (label, seeds) in enumerate(zip(labels, runs.values(), strict=True)):
            axes = panels[i % len(panels)]
            draw_curves(axes, label, [curve(games, options.xaxis, options.window) for games in seeds])
            axes.set(xlabel=options.xaxis, ylabel=f"score, mean of {options.window} games")
            if options.panels:
                axes.set_title(label)

        for axes in panels:
            if options.threshold is not None:
                draw_level(axes, options.threshold, f"threshold {options.threshold:g}", color="black")
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")


def draw_curves(axes: Axes, label: str, curves: Sequence[pd.Series], **style: Any) -> None:
    """Draws one experiment: the mean over its curves, and its 95 % interval where there are several seeds."""
    lines = band(curves)
    several = len(curves) > 1
    if several:
        label = f"{label} ({len(curves)} seeds, 95 %)"

    (line,) = axes.plot(lines.index, lines["mean"], label=label, **style)
    if several:
        axes.fill_between(lines.index, lines["low"], lines["high"], color=line.get_color(), alpha=0.2)


def draw_level(axes: Axes, score: float, label: str, color: str) -> None:
    """Draws a score as a dashed line, which the legend names."""
    axes.axhline(score, color=color, linestyle="--", linewidth=0.8, label=label)


def summary(runs: Mapping[str, pd.DataFrame], threshold: float | None, window: int) -> pd.DataFrame:
    """Returns a table with one row per run: episodes, timesteps and the mean score of the last `window` games.

    With a `threshold`, the columns `N` and `timesteps at N` say when it was first reached (see `first_episode_above`).
    """
    rows = []
    for name, games in runs.items():
        row = {"run": name, "episodes": len(games), "timesteps": int(games["length"].sum())}
        row[f"mean of last {window}"] = round(float(games["score"].tail(window).mean()), 2)

        if threshold is not None:
            episode = first_episode_above(games["score"].to_numpy(), threshold, window)
            row["N"] = "-" if episode is None else episode
            row["timesteps at N"] = "-"
            if episode is not None:
                row["timesteps at N"] = int(games["length"].iloc[:episode].sum())

        rows.append(row)

    return pd.DataFrame(rows)


def _run(folders: Sequence[Path], options: PlotOptions) -> None:
    if not folders:
        raise UserError("LOGDIR: missing; name one or more log folders")

    folders = list(dict.fromkeys(folders))
    games = {folder: load_monitor(folder) for folder in folders}
    for folder, table in games.items():
        if table.empty:
            raise UserError(f"{folder}: no game has ended yet")

    if options.out is not None:
        groups = {}
        for name, group in group_runs(folders).items():
            groups[name] = [games[folder] for folder in group]
        environments = sorted({environment_of(folder) for folder in folders} - {""})
        title = options.title or (", ".join(environments) if len(environments) <= _TITLED else None)
        plot(groups, Path(options.out).expanduser(), dataclasses.replace(options, title=title))
        print(f"drawn in {options.out}", file=sys.stderr)

    table = summary({str(folder): games[folder] for folder in folders}, options.threshold, options.window)
    print(table.to_string(index=False))
    if options.threshold is not None:
        print(
            f"N: the first game whose next {options.window} have a mean score of at least {options.threshold:g}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
