"""K-FAC with default settings against tuned optimizers: `python -m baselines_acktr.examples.compare --out=compare.csv`.

The learning rate of each other optimizer is tuned over a grid. The comparison counts the updates and the processor
seconds until a problem is solved, as medians over seeds. The output file has one row per run.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from common import cli
from common.errors import UserError, exit_code
from common.options import one_of, option, validate
from common.process import quiet_tensorflow

if TYPE_CHECKING:
    from baselines_acktr.examples.race import RaceResult

PROGRAM = "python -m baselines_acktr.examples.compare"
ROW = "{:12s} {:9s} {:>8s} {:>8s} {:>8s} {:>8s}   {}"
HEADING = ROW.format("problem", "optimizer", "rate", "updates", "seconds", "ms each", "updates by seed")
ALL_PROBLEMS = "digits", "images", "autoencoder", "regression", "text", "lstm"
ALL_OPTIMIZERS = "K-FAC", "Adam", "AdamW", "SGD", "Muon"


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Flags of `python -m baselines_acktr.examples.compare`."""

    problems: tuple[str, ...] = option(ALL_PROBLEMS, "problems to solve")
    optimizers: tuple[str, ...] = option(ALL_OPTIMIZERS, "optimizers to compare")
    seeds: tuple[int, ...] = option((0, 1, 2), "seeds of initial weights and batches", minimum=0)
    out: str = option("", "csv file to write, with one row per run; by default none")

    def __post_init__(self) -> None:
        validate(self)
        for name, known in (("problems", ALL_PROBLEMS), ("optimizers", ALL_OPTIMIZERS), ("seeds", None)):
            values = getattr(self, name)
            if not values:
                raise UserError(f"--{name}: must name at least one")

            for value in values:
                if known and value not in known:
                    raise UserError(f"--{name}={value}: must be {one_of(known)}")


FLAGS = cli.Flags({"options": CompareOptions})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, or 2 for a mistake of the user."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if cli.asks_for_help(argv):
        print(FLAGS.help(PROGRAM, "[--flag=value ...]", "Updates and processor seconds to the target of each problem."))
        return 0
    return exit_code("compare", lambda: compare(CompareOptions(**FLAGS.parse(argv))))


def compare(options: CompareOptions) -> None:
    """Runs the comparison, prints each row as soon as it is known, and writes all runs to `options.out`."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # for networks this small, two threads are slower than one
    with quiet_tensorflow():
        from baselines_acktr.examples.problems import PROBLEMS
        from baselines_acktr.examples.race import median_updates, tune
        from baselines_acktr.examples.sequences import SEQUENCES

    problems = PROBLEMS | SEQUENCES
    print(HEADING)
    all_runs: list[RaceResult] = []
    for name in options.problems:
        for optimizer in options.optimizers:
            found = tune(problems[name](), optimizer, options.seeds)
            print(line(found[0], median_updates(found[0])), flush=True)
            all_runs += [run for runs in found for run in runs]
            if options.out:
                pd.DataFrame(all_runs).round({"seconds": 3}).to_csv(options.out, index=False)


def line(runs: Sequence[RaceResult], updates: float) -> str:
    """Formats a row of the table.

    Args:
      runs: runs of one optimizer, one per seed.
      updates: median of their updates.
    """
    first = runs[0]
    rate = "default" if np.isnan(first.learning_rate) else f"{first.learning_rate:g}"
    by_seed = " ".join(str(run.updates) if run.solved else f">{run.updates}" for run in runs)
    seconds = float(np.median([run.seconds for run in runs]))
    each = 1e3 * float(np.median([run.seconds / run.updates for run in runs]))

    numbers = (f"{updates:.0f}", f"{seconds:.2f}", f"{each:.2f}")
    return ROW.format(first.problem, first.optimizer, rate, *numbers, by_seed)


if __name__ == "__main__":
    sys.exit(main())
