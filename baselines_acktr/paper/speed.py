"""Table 3: timesteps per second of the algorithms for several batch sizes, and the duration of an update's parts."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from baselines_acktr.benchmark.probe import spaces_of
from baselines_acktr.paper import published
from baselines_acktr.paper.items import ATARI, MUJOCO
from baselines_acktr.paper.plan import Run
from common.atomic_file import write_text
from common.plots import figure
from common.process import quiet_tensorflow

if TYPE_CHECKING:
    from baselines_acktr.benchmark.loop import Loop

ROUNDS = 5
BASE = "a2c"
# {batch size: environments}, the same for all algorithms. On Atari, 80 = 16 x 5 is A2C's batch in the paper, and
# 640 = 32 x 20 is ACKTR's.
BATCHES = {ATARI: {80: 16, 160: 32, 640: 32}, MUJOCO: {1000: 20, 2500: 20, 25000: 20}}
SUITES = {ATARI: "Atari", MUJOCO: "MuJoCo"}  # as the paper's table calls them


def commands(runs: Sequence[Run]) -> list[str]:
    """Returns a command line for each environment and batch size."""
    names = dict.fromkeys(run.line.alg for run in runs)
    algs = ",".join(sorted(names, key=BASE.__eq__))  # BASE is last, as ratios are to the last one

    return [
        f"python -m baselines_acktr.benchmark --env={run.env} --algs={algs} --num_env={num_env} --batch={batch} "
        f"--rounds={ROUNDS} --updates={updates_of(run, batch)}"
        for run in {run.env: run for run in runs}.values()
        for batch, num_env in BATCHES[run.suite].items()
    ]


def updates_of(run: Run, batch: int) -> int:
    """Returns the number of updates per round."""
    return max(1, run.timesteps // batch)


def measure(runs: Sequence[Run], folder: Path) -> None:
    """Measures all batch sizes, and writes `results.csv` and `parts.csv` after each of them.

    Rows of other environments and batch sizes in these files are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for run in {run.env: run for run in runs}.values():
        algs = [other.line.alg for other in runs if other.env == run.env]
        for batch, num_env in BATCHES[run.suite].items():
            print(f"measuring {run.env}, batch {batch} = {num_env} x {batch // num_env}: {', '.join(algs)}", flush=True)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                speeds, shares = process.submit(_measure, run, algs, batch, num_env).result()
            _replace(folder / "results.csv", speeds, "%.6g")
            _replace(folder / "parts.csv", shares, "%.1f")


def _replace(path: Path, table: pd.DataFrame, numbers: str) -> None:
    """Writes the rows of one batch size into a file, and replaces older rows of the same environment and batch size."""
    if path.exists():
        old = pd.read_csv(path)
        same = (old["env"] == table["env"].iloc[0]) & (old["batch"] == table["batch"].iloc[0])
        table = pd.concat([old[~same], table]).sort_values(["env", "batch"], kind="stable")
    write_text(path, table.to_csv(index=False, float_format=numbers))


def _measure(run: Run, algs: Sequence[str], batch: int, num_env: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measures one batch size.

    It runs in a process of its own, because TensorFlow can be configured (by `spaces_of`) only once per process.

    Returns:
      Speeds next to those of the paper, and milliseconds of each part of an update.
    """
    spaces_of(run.env)  # before TensorFlow is imported
    with quiet_tensorflow():
        from baselines_acktr.benchmark.loop import Loop, speeds, take_turns, warm_up

    updates = updates_of(run, batch)
    with contextlib.ExitStack() as stack:
        loops: dict[str, Loop] = {}
        for alg in algs:
            loops[alg] = Loop(alg, run.env, num_env, batch)
            stack.callback(loops[alg].close)
        warm_up(loops)
        table = speeds(take_turns(loops, ROUNDS, dict.fromkeys(loops, updates)), BASE)
        parts = {f"{alg} ms": loop.parts(updates).set_index("part")["ms"] for alg, loop in loops.items()}

    setting = {"env": run.env, "batch": batch, "environments": num_env, "steps": batch // num_env}
    paper = {alg: published.speed(SUITES[run.suite], batch, alg) for alg in (*algs, BASE)}
    table["paper"] = table["alg"].map(paper)
    table[f"paper to {BASE}"] = table["paper"] / paper[BASE]
    table["cores"] = len(os.sched_getaffinity(0))

    shares = pd.DataFrame(parts).rename_axis("part").reset_index()
    return _led_by(setting, table), _led_by(setting, shares)


def _led_by(setting: Mapping[str, object], table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**setting)[[*setting, *table.columns]]


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draws speed against batch size. The paper's values are dashed."""
    envs = list(dict.fromkeys(table["env"]))
    with figure(path, len(envs), "table3: timesteps/s, the paper's dashed") as all_axes:
        for axes, env in zip(all_axes, envs, strict=True):
            by_alg = table[table["env"] == env].groupby("alg", sort=False)
            for i, (alg, rows) in enumerate(by_alg):
                axes.plot(rows["batch"], rows["timesteps/s"], "o-", color=f"C{i}", label=alg)
                axes.plot(rows["batch"], rows["paper"], "--", color=f"C{i}", linewidth=0.8)
            axes.set(title=env, xlabel="batch", ylabel="timesteps/s", xscale="log", yscale="log")
            axes.grid(alpha=0.3)
            axes.legend()
