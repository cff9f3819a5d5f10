"""What the paper measures in a run, from its monitor files, and statistics of several runs with their uncertainty."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.errors import UserError

_RESAMPLES = 2000


def load_monitor(folder: str | Path) -> pd.DataFrame:
    """Returns the games of all environments of a run, in the order in which they ended.

    Args:
      folder: with `*.monitor.csv` files.

    Returns:
      Columns `score`, `length`, and, at the end of each game: `episodes` (1, 2, ...), `timesteps` (sum of the lengths
      so far) and `seconds` since the start of the run.

    Raises:
      UserError: there is no monitor file, or one is not in the format of Baselines.
    """
    folder = Path(folder).expanduser()
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder")
    paths = sorted(folder.glob("*.monitor.csv"))
    if not paths:
        below = sorted({path.parent.name for path in folder.glob("*/*.monitor.csv")})
        hint = f"; {len(below)} folders in it have some, such as {folder / below[0]}" if below else ""
        raise UserError(f"{folder}: has no monitor files (*.monitor.csv){hint}")
    games = pd.concat([_read_monitor(path) for path in paths], ignore_index=True)
    games = games.sort_values("ended", kind="stable", ignore_index=True)
    start = games["started"].min()
    return pd.DataFrame(
        {
            "score": games["r"].astype(float),
            "length": games["l"].astype(int),
            "episodes": np.arange(1, len(games) + 1),
            "timesteps": games["l"].cumsum().astype(int),
            "seconds": games["ended"] - start,
        }
    )


def window_means(scores: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """Means of every `window` successive scores, [M - window + 1]; empty for fewer scores than that."""
    scores = np.asarray(scores, float)
    if len(scores) < window:
        return np.empty(0)
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    return (sums[window:] - sums[:-window]) / window


def first_episode_above(scores: Sequence[float] | np.ndarray, threshold: float, window: int = 100) -> int | None:
    """Returns the first episode N, counted from 1, from which on `window` episodes average at least `threshold`.

    Episodes N ... N + window - 1 are averaged (Wu et al. 2017, table 1). None if there is no such N.
    """
    above = np.flatnonzero(window_means(scores, window) >= threshold)
    return int(above[0]) + 1 if len(above) else None


def best_mean(scores: Sequence[float] | np.ndarray, window: int = 10) -> float:
    """The best mean of `window` successive episodes (Wu et al. 2017, table 2); nan for fewer episodes than that."""
    return float(window_means(scores, window).max(initial=-np.inf)) if len(scores) >= window else float("nan")


def interquartile_mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half of all samples together (Agarwal et al. 2021)."""
    from scipy import stats  # late: it takes a second

    return stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)


def mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of all samples together."""
    return np.concatenate(samples, axis=axis).mean(axis=axis)


def interval(
    samples: Sequence[Sequence[float] | np.ndarray], statistic: Callable[..., np.ndarray] = mean
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic of samples, each drawn anew from its own values.

    Args:
      samples: one sequence of values (the seeds) for each task.
      statistic: `mean` or `interquartile_mean`.

    Returns:
      Lower and upper end; nan where a task has fewer than two values.
    """
    from scipy import stats

    if min(map(len, samples), default=0) < 2:
        return float("nan"), float("nan")
    result = stats.bootstrap(
        [np.asarray(sample, float) for sample in samples],
        statistic,
        n_resamples=_RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _read_monitor(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8") as file:
            start = re.search(r'"t_start":\s*([0-9.eE+-]+)', file.readline())
            if start is None:
                raise ValueError("no t_start")
            started = float(start.group(1))
            games = pd.read_csv(file)[["r", "l", "t"]].astype(float).dropna()  # a crash may cut off the last row
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a monitor file") from error
    return games.assign(started=started, ended=started + games["t"])
