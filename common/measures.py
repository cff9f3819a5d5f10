"""Scores of a run, read from its monitor files as the paper measures them, and statistics over several runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.errors import UserError, brief

_RESAMPLES = 2000


def load_monitor(folder: str | Path) -> pd.DataFrame:
    """Returns the games of all environments of a run, in the order in which they ended.

    Args:
      folder: log folder that holds `*.monitor.csv` files.

    Returns:
      One row per game. `score` and `length` (steps) describe the game itself. Three columns describe the moment at
      which it ended: `episodes` counts games from 1, `timesteps` is the sum of all lengths so far, and `seconds` is the
      time since the start of the run.

    Raises:
      UserError: there is no monitor file, or one is not in the format of Baselines.
    """
    folder = Path(folder).expanduser()
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder")

    paths = sorted(folder.glob("*.monitor.csv"))
    if not paths:
        below = sorted({path.parent.name for path in folder.glob("*/*.monitor.csv")})
        hint = ""
        if below:
            hint = f"; {len(below)} folders in it have some, such as {folder / below[0]}"
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
    """Returns the mean of every `window` successive scores, [M - window + 1] for M scores.

    The result is empty when there are fewer scores than `window`.
    """
    scores = np.asarray(scores, float)  # [M]
    if len(scores) < window:
        return np.empty(0)

    sums = np.concatenate([[0.0], np.cumsum(scores)])  # [M + 1]
    return (sums[window:] - sums[:-window]) / window


def first_episode_above(scores: Sequence[float] | np.ndarray, threshold: float, window: int = 100) -> int | None:
    """Returns the first episode N such that episodes N to N + window - 1 average at least `threshold`.

    Episodes are counted from 1 (Wu et al. 2017, table 1). The result is None if there is no such N.
    """
    above = np.flatnonzero(window_means(scores, window) >= threshold)
    return int(above[0]) + 1 if len(above) else None


def best_mean(scores: Sequence[float] | np.ndarray, window: int = 10) -> float:
    """Returns the best mean of `window` successive episodes (Wu et al. 2017, table 2).

    The result is NaN when there are fewer episodes than `window`.
    """
    if len(scores) < window:
        return float("nan")
    return float(window_means(scores, window).max(initial=-np.inf))


def interquartile_mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the mean of the middle half of all samples taken together (Agarwal et al. 2021)."""
    from scipy import stats  # imported here because the import takes a second

    return stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)


def mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the mean of all samples taken together."""
    return np.concatenate(samples, axis=axis).mean(axis=axis)


def interval(
    samples: Sequence[Sequence[float] | np.ndarray], statistic: Callable[..., np.ndarray] = mean
) -> tuple[float, float]:
    """Returns the 95 % bootstrap confidence interval of a statistic over several tasks.

    Each bootstrap sample redraws the values of every task separately (stratified bootstrap, Agarwal et al. 2021).

    Args:
      samples: for each task, its values (one per seed).
      statistic: `mean` or `interquartile_mean`.

    Returns:
      Lower and upper end of the interval. Both are NaN if a task has fewer than two values.
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


def pointwise_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the 95 % bootstrap confidence interval of the mean over several runs at each point, as `interval` does.

    Args:
      values: [runs, points], of at least two runs.

    Returns:
      Lower and upper ends, [points] each. Of two runs these are the runs themselves, and of few runs the interval is
      too narrow: resampling knows nothing of runs that were not made.
    """
    chosen = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))  # [resamples, runs]
    times = np.stack([np.bincount(runs, minlength=len(values)) for runs in chosen])  # [resamples, runs]
    means = times @ values / len(values)  # [resamples, points]
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return low, high


def environment_of(folder: str | Path) -> str:
    """Returns the id of the environment of a run as its first monitor file has it, "" where that says none."""
    for path in sorted(Path(folder).expanduser().glob("*.monitor.csv"))[:1]:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = re.search(r'"env_id":\s*"([^"]*)"', file.readline())
        return brief(found[1]) if found else ""
    return ""


def _read_monitor(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8") as file:
            start = re.search(r'"t_start":\s*([0-9.eE+-]+)', file.readline())
            if start is None:
                raise ValueError("no t_start")
            started = float(start.group(1))
            games = pd.read_csv(file)[["r", "l", "t"]].astype(float).dropna()  # a crash can truncate the last row
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a monitor file") from error

    return games.assign(started=started, ended=started + games["t"])
