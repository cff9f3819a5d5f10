"""Keeps the ready-made agents: `python -m baselines_acktr.zoo add logs/hopper` adds one, and `table` shows them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from common import cli
from common.errors import UserError, exit_code
from common.options import option, validate
from common.process import quiet_tensorflow

PROGRAM = "python -m baselines_acktr.zoo"
USAGE = "add RUN_FOLDER [--flag=value ...]\n       python -m baselines_acktr.zoo table"
DESCRIPTION = "Adds the policy of a run to the ready-made agents, or writes the table of these into docs/zoo.md."


@dataclasses.dataclass(frozen=True)
class AddOptions:
    """Flags of `python -m baselines_acktr.zoo add`."""

    best: bool = option(False, "take best.model of the run; instead of its newest checkpoint")
    games: int = option(100, "games that it is measured by, with sampled and with the most likely actions", minimum=2)
    num_env: int = option(10, "environments that they are played in", minimum=1)

    def __post_init__(self) -> None:
        validate(self)


FLAGS = cli.Flags({"options of add": AddOptions})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, or 2 after a mistake of the user."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or cli.asks_for_help(argv):
        print(FLAGS.help(PROGRAM, USAGE, DESCRIPTION))
        return 0 if argv else 2
    return exit_code("zoo", lambda: run(argv))


def run(argv: Sequence[str]) -> None:
    """Adds an agent, or writes the table; raises UserError."""
    words, typed = FLAGS.parse_with_words(argv)
    options = AddOptions(**typed)
    match words:
        case ["add", folder]:
            with quiet_tensorflow():
                from baselines_acktr.zoo.adding import add

            print(f"added {add(folder, options.best, options.games, options.num_env)}")
        case ["table"] if not typed:
            from baselines_acktr.zoo import table

            print(f"wrote {table.write()}")
        case _:
            raise UserError(f"{' '.join(argv)}: must be add RUN_FOLDER, with --best, --games or --num_env, or table")


if __name__ == "__main__":
    sys.exit(main())
