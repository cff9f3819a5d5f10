"""Measures training speed: `python -m baselines_acktr.benchmark --env=BreakoutNoFrameskip-v4 --algs=acktr,a2c,trpo`.

The training loops of the algorithms take turns in one process, round by round. Then the time of an update is divided
among its parts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence

import pandas as pd

from baselines_acktr.benchmark.probe import spaces_of
from common import cli
from common.errors import UserError, exit_code
from common.options import option, validate
from common.process import quiet_tensorflow

PROGRAM = "python -m baselines_acktr.benchmark"


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """Flags of `python -m baselines_acktr.benchmark`."""

    env: str = option("BreakoutNoFrameskip-v4", "id of the environment")
    algs: tuple[str, ...] = option(
        ("acktr",), "acktr, a2c, trpo, or sgd, which is acktr for discrete actions with plain gradient descent"
    )
    num_env: int | None = option(None, "environments of each algorithm; by default as in run.py", minimum=1)
    batch: int | None = option(None, "timesteps per batch; by default as in run.py", minimum=1)
    pixels: bool = option(False, "observe a MuJoCo task through rendered frames")
    rounds: int = option(5, "rounds of each algorithm", minimum=1)
    updates: int = option(15, "updates per round", unit="updates", minimum=1)

    def __post_init__(self) -> None:
        validate(self)
        if not self.algs:
            raise UserError("--algs: must name at least one of acktr, a2c, trpo, sgd")


FLAGS = cli.Flags({"options": BenchmarkOptions})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, or 2 for a mistake of the user."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if any(flag in argv for flag in cli.HELP_FLAGS):
        print(FLAGS.help(PROGRAM, "[--flag=value ...]", "Timesteps per second of training, and their parts."))
        return 0
    return exit_code("benchmark", lambda: measure(BenchmarkOptions(**FLAGS.parse(argv))))


def measure(options: BenchmarkOptions) -> None:
    """Measures all algorithms and prints the results."""
    spaces_of(options.env, options.pixels)  # before TensorFlow is imported
    with quiet_tensorflow():
        from baselines_acktr import acktr_discrete
        from baselines_acktr.benchmark.kfac_parts import kfac_parts
        from baselines_acktr.benchmark.loop import Loop, speeds, table_of, take_turns

    with contextlib.ExitStack() as stack:
        loops = {}
        for alg in options.algs:
            loops[alg] = Loop(alg, options.env, options.num_env, options.batch, options.pixels)
            stack.callback(loops[alg].close)
            print(f"{alg}: {options.env}, batch {loops[alg].batch} of {loops[alg].env.num_envs} environments")

        plan = f"{options.rounds} rounds of {options.updates} updates each follow"
        print(f"compiling and warming up, which takes about a minute; {plan}", flush=True)
        rates = take_turns(loops, options.rounds, dict.fromkeys(loops, options.updates))
        show(speeds(rates, options.algs[-1]))

        for alg, loop in loops.items():
            if type(loop.model) is acktr_discrete.Model:
                print(f"\n{alg}, parts of an update, each timed apart:")
                show(table_of(kfac_parts(loop.model, loop.runner)))
            print(f"\n{alg}, parts of an update in the loop:")
            show(loop.parts(options.updates))


def show(table: pd.DataFrame) -> None:
    """Prints a table."""
    formatters = {
        "ms": "{:.1f}".format,
        "share": "{:.1%}".format,
        "timesteps/s": "{:.0f}".format,
        "lowest": "{:.0f}".format,
        "highest": "{:.0f}".format,
    }
    print(table.to_string(index=False, formatters=formatters, float_format="%.3f"))


if __name__ == "__main__":
    sys.exit(main())
