"""The command of one problem: K-FAC alone, or with `--compare` beside the other optimizers."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from baselines_acktr.examples.compare import ALL_OPTIMIZERS, CompareOptions, compare
from common import cli
from common.errors import exit_code
from common.options import option, validate


@dataclasses.dataclass(frozen=True)
class ExampleOptions:
    """Flags of the command of one problem."""

    compare: bool = option(False, "train all other optimizers, too, each with learning rates from a grid")
    optimizers: tuple[str, ...] = option(("K-FAC",), "optimizers to train, without --compare")
    seeds: tuple[int, ...] = option((0, 1, 2), "seeds of initial weights and batches", minimum=0)
    out: str = option("", "csv file to write, with one row per run; by default none")

    def __post_init__(self) -> None:
        validate(self)


FLAGS = cli.Flags({"options": ExampleOptions})


def main(problem: str, argv: Sequence[str] | None = None) -> int:
    """Runs a command line of a problem and returns its exit code: 0, or 2 for a mistake of the user."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if cli.asks_for_help(argv):
        program = f"python -m baselines_acktr.examples.{problem}"
        print(FLAGS.help(program, "[--flag=value ...]", f"Updates until the problem {problem!r} is solved."))
        return 0
    return exit_code(problem, lambda: _run(problem, ExampleOptions(**FLAGS.parse(argv))))


def _run(problem: str, options: ExampleOptions) -> None:
    optimizers = ALL_OPTIMIZERS if options.compare else options.optimizers
    compare(CompareOptions(problems=(problem,), optimizers=optimizers, seeds=options.seeds, out=options.out))
