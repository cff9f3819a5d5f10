"""Table 3: timesteps per second of the algorithms against the size of the batch, and where the time goes."""

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
# {batch: environments}: on Atari those of A2C (16 x 5) and ACKTR (32 x 20) in the paper; the same for all algorithms.
BATCHES = {ATARI: {80: 16, 160: 32, 640: 32}, MUJOCO: {1000: 20, 2500: 20, 25000: 20}}
SUITES = {ATARI: "Atari", MUJOCO: "MuJoCo"}  # as the paper's table calls them


def commands(runs: Sequence[Run]) -> list[str]:
    """What a user would type for each size of the batch."""
    algs = ",".join(sorted(dict.fromkeys(run.line.alg for run in runs), key=BASE.__eq__))  # ratios are to the last one
    return [
        f"python -m baselines_acktr.benchmark --env={run.env} --algs={algs} --num_env={num_env} --batch={batch} "
        f"--rounds={ROUNDS} --updates={updates_of(run, batch)}"
        for run in {run.env: run for run in runs}.values()
        for batch, num_env in BATCHES[run.suite].items()
    ]


def updates_of(run: Run, batch: int) -> int:
    """Updates in a round."""
    return max(1, run.timesteps // batch)


def measure(runs: Sequence[Run], folder: Path) -> None:
    """Measures, and writes `results.csv` and `parts.csv` after each size of the batch; others in them stay."""
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
    """Writes the rows of one size of the batch into a file, in place of those that it had of the same."""
    if path.exists():
        old = pd.read_csv(path)
        same = (old["env"] == table["env"].iloc[0]) & (old["batch"] == table["batch"].iloc[0])
        table = pd.concat([old[~same], table]).sort_values(["env", "batch"], kind="stable")
    write_text(path, table.to_csv(index=False, float_format=numbers))


def _measure(run: Run, algs: Sequence[str], batch: int, num_env: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Speeds beside the paper's, and milliseconds of each part of an update, for one size of the batch.

    In a process of its own, as how TensorFlow computes is settled once for a process.
    """
    spaces_of(run.env)  # before TensorFlow is imported
    with quiet_tensorflow():
        from baselines_acktr.benchmark.loop import Loop, speeds, take_turns

    updates = updates_of(run, batch)
    with contextlib.ExitStack() as stack:
        loops: dict[str, Loop] = {}
        for alg in algs:
            loops[alg] = Loop(alg, run.env, num_env, batch)
            stack.callback(loops[alg].close)
        table = speeds(take_turns(loops, ROUNDS, dict.fromkeys(loops, updates)), BASE)
        parts = {f"{alg} ms": loop.parts(updates).set_index("part")["ms"] for alg, loop in loops.items()}
    setting = {"env": run.env, "batch": batch, "environments": num_env, "steps": batch // num_env}
    paper = {alg: published.speed(SUITES[run.suite], batch, alg) for alg in (*algs, BASE)}
    table["paper"] = table["alg"].map(paper)
    table[f"paper to {BASE}"] = table["paper"] / paper[BASE]
    table["cores"] = len(os.sched_getaffinity(0))
    return _led_by(setting, table), _led_by(setting, pd.DataFrame(parts).rename_axis("part").reset_index())


def _led_by(setting: Mapping[str, object], table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**setting)[[*setting, *table.columns]]


def draw(table: pd.DataFrame, path: Path) -> None:
    """Writes the speeds against the size of the batch; the paper's are dashed."""
    envs = list(dict.fromkeys(table["env"]))
    with figure(path, len(envs), "table3: timesteps/s, the paper's dashed") as all_axes:
        for axes, env in zip(all_axes, envs, strict=True):
            for i, (alg, rows) in enumerate(table[table["env"] == env].groupby("alg", sort=False)):
                axes.plot(rows["batch"], rows["timesteps/s"], "o-", color=f"C{i}", label=alg)
                axes.plot(rows["batch"], rows["paper"], "--", color=f"C{i}", linewidth=0.8)
            axes.set(title=env, xlabel="batch", ylabel="timesteps/s", xscale="log", yscale="log")
            axes.grid(alpha=0.3)
            axes.legend()
