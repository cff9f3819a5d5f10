"""Reproduces the paper: `python -m baselines_acktr.paper fig3 --jobs=2`. Each table and figure is an item."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from baselines_acktr.paper import outcome, report, speed
from baselines_acktr.paper.display import Display
from baselines_acktr.paper.items import ITEMS, SPEED
from baselines_acktr.paper.job import INTERRUPTED, state_of
from baselines_acktr.paper.launcher import Launcher, unfinished
from baselines_acktr.paper.plan import Run, Selection, command, plan
from baselines_acktr.session.file_checks import check_folder
from baselines_acktr.session.learners import ALGORITHMS
from common import cli
from common.errors import RunFailedError, UserError, closest
from common.options import option, validate
from common.process import output_closed

PROGRAM = "python -m baselines_acktr.paper"
USAGE = "ITEM... [--flag=value ...]"


@dataclasses.dataclass(frozen=True)
class PaperOptions:
    """Flags of `python -m baselines_acktr.paper`."""

    scale: float = option(1.0, "factor by which the lengths of the runs are multiplied", above=0)
    num_timesteps: int | None = option(
        None, "length of the runs; by default that of the item", unit="timesteps", minimum=1
    )
    envs: tuple[str, ...] = option((), "only these environments, for example pong,breakout or Hopper,Ant")
    algs: tuple[str, ...] = option((), f"only these of {', '.join(ALGORITHMS)}")
    seeds: tuple[int, ...] = option((), "these seeds, for example 0,1,2", minimum=0)
    mujoco_version: str = option("v4", "version of the MuJoCo tasks; the paper used Gym's v1", choices=("v4", "v5"))
    jobs: int | None = option(
        None,
        "number of runs at a time, which share the cores; by default one per core; 0 trains nothing and only writes "
        "the results of finished runs",
        minimum=0,
    )
    out: str = option("results", "folder for runs, results and the report")
    report: bool = option(False, "write report.md with all available results")
    dry_run: bool = option(False, "only show the commands of missing runs")

    def __post_init__(self) -> None:
        validate(self)


FLAGS = cli.Flags({"options": PaperOptions})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    0: done. 1: a run failed. 2: a mistake of the user. 130: interrupted. 141: the reader of the output has closed it.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or cli.asks_for_help(argv):
        print(FLAGS.help(PROGRAM, USAGE, "Makes the tables and figures of the paper.") + f"\nitems:\n{listing()}")
        return 0 if argv else 2

    try:
        words, typed = FLAGS.parse_with_words(argv)
        return run(words, PaperOptions(**typed))
    except UserError as error:
        print(f"paper: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RunFailedError as error:
        print(f"paper: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("paper: interrupted; run the same command to continue", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return output_closed()


def listing() -> str:
    """Returns a text with one line per item."""
    return "\n".join(f"{name:8s} {item.title} ({item.section})" for name, item in ITEMS.items())


def run(names: Sequence[str], options: PaperOptions) -> int:
    """Makes the named items one after another, and writes their results.

    Returns:
      The exit code: 0, or 1 if a run failed.

    Raises:
      UserError: an item or an option is not allowed.
    """
    if "list" in names:
        print(listing(), flush=True)
        return 0

    for name in names:
        if name not in ITEMS:
            raise UserError(f"{name}: unknown item; allowed: list, {', '.join(ITEMS)}.{closest(name, ITEMS)}")

    if not names and not options.report:
        raise UserError(f"ITEM: missing; one or more of list, {', '.join(ITEMS)}")

    selection = Selection(**cli.only(Selection, dataclasses.asdict(options)))
    plans = {name: plan(ITEMS[name], selection) for name in names}
    out = Path(options.out).expanduser()

    if options.dry_run:
        lines = [line for name, runs in plans.items() for line in commands(name, runs, out)]
        print("\n".join(lines), flush=True)
        return 0

    check_folder("--out", options.out, str(out))
    trainings = [run for name, runs in plans.items() if ITEMS[name].kind != SPEED for run in runs]
    missing = unfinished(trainings, out / "runs")

    try:
        failures = carry_out(plans, missing, out, options)
    finally:
        for name, runs in plans.items():
            show(name, outcome.write(ITEMS[name], name, runs, out))

    if options.report:
        print(f"\n{report.write(out)}")

    return 1 if failures else 0


def commands(name: str, runs: Sequence[Run], out: Path) -> list[str]:
    """Returns the command lines that would make what is missing of an item."""
    if ITEMS[name].kind == SPEED:
        return speed.commands(runs)
    folders = {out / "runs" / run.name: run for run in unfinished(runs, out / "runs")}
    return [command(run, folder, state_of(run, folder) == INTERRUPTED) for folder, run in folders.items()]


def carry_out(
    plans: Mapping[str, Sequence[Run]], missing: Sequence[Run], out: Path, options: PaperOptions
) -> list[str]:
    """Makes the missing runs and measurements, and returns one line for each run that failed.

    Args:
      plans: {item: its runs}.
      missing: runs that are not finished.
      out: folder for runs and results.
      options: options of the command line.
    """
    if options.jobs == 0:
        return []

    failures = train(missing, out / "runs", options.jobs or len(os.sched_getaffinity(0)))
    for name in plans:
        if ITEMS[name].kind == SPEED:
            speed.measure(plans[name], out / name)

    return failures


def train(runs: Sequence[Run], folder: Path, jobs: int) -> list[str]:
    """Trains all runs, and returns one line for each that failed."""
    if not runs:
        return []
    launcher = Launcher(runs, folder, jobs, Display(len(runs)))
    launcher.run()
    return launcher.failures


def show(name: str, tables: Sequence[pd.DataFrame]) -> None:
    """Prints the tables of an item."""
    if not tables:
        print(f"\n{name}\nnothing has been measured yet")
    for table in tables:
        print(f"\n{name}\n{table.to_string(index=False, float_format='%.6g', na_rep='-')}")


if __name__ == "__main__":
    sys.exit(main())
