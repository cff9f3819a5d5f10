"""Measures training speed: `python -m baselines_acktr.benchmark --env=BreakoutNoFrameskip-v4 --algs=acktr,a2c,trpo`.

The training loops of the algorithms take turns, round by round; with `--peers` those of stable-baselines3 and
sb3-contrib take theirs in between, each in a process of its own. Then the time of an update is divided among its parts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from baselines_acktr.benchmark.peers import ALGS as PEER_ALGS
from baselines_acktr.benchmark.peers import PeerLoop, require_peers
from baselines_acktr.benchmark.probe import spaces_of
from baselines_acktr.benchmark.results import json_text, require_folder
from common import cli
from common.atomic_file import write_text
from common.errors import RunFailedError, UserError, exit_code, one_line
from common.options import option, validate
from common.process import Interruption, quiet_tensorflow

if TYPE_CHECKING:
    from baselines_acktr.benchmark.loop import Loop

PROGRAM = "python -m baselines_acktr.benchmark"
say = functools.partial(print, flush=True)


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """Flags of `python -m baselines_acktr.benchmark`."""

    env: str = option("BreakoutNoFrameskip-v4", "id of the environment")
    algs: tuple[str, ...] = option(
        ("acktr",), "acktr, a2c, trpo, or sgd, which is acktr for discrete actions with plain gradient descent"
    )
    peers: bool = option(
        False,
        "also train A2C and PPO of stable-baselines3 and TRPO of sb3-contrib, with as many environments and as large "
        "batches as the first of algs",
    )
    peer_python: str = option(sys.executable, "Python that has stable-baselines3 and sb3-contrib; by default this one")
    num_env: int | None = option(None, "environments of each algorithm; by default as in run.py", minimum=1)
    batch: int | None = option(None, "timesteps per batch; by default as in run.py", minimum=1)
    pixels: bool = option(False, "observe a MuJoCo task through rendered frames")
    rounds: int = option(3, "rounds of each algorithm", minimum=1)
    updates: int = option(
        10, "updates per round; peers make as many as take as long as the first of algs", unit="updates", minimum=1
    )
    json: str = option("", "file to write the results to as well")

    def __post_init__(self) -> None:
        validate(self)
        if not self.algs:
            raise UserError("--algs: must name at least one of acktr, a2c, trpo, sgd")
        if self.peers and self.pixels:
            raise UserError("--peers: the other libraries do not train on rendered frames; leave --pixels out")


FLAGS = cli.Flags({"options": BenchmarkOptions})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    0: done. 1: a peer failed. 2: a mistake of the user. 130: interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if cli.asks_for_help(argv):
        print(FLAGS.help(PROGRAM, "[--flag=value ...]", "Timesteps per second of training, and their parts."))
        return 0

    try:
        with Interruption(quiet=True):
            return exit_code("benchmark", lambda: measure(BenchmarkOptions(**FLAGS.parse(argv))))
    except RunFailedError as error:
        print(f"benchmark: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark: interrupted", file=sys.stderr)
        return 130


def measure(options: BenchmarkOptions) -> None:
    """Measures all algorithms and prints the results."""
    if options.json:
        require_folder("--json", options.json)
    if options.peers:
        require_peers(options.peer_python, "benchmark")
    spaces_of(options.env, options.pixels)  # before TensorFlow is imported
    say("starting TensorFlow")
    with quiet_tensorflow():
        from baselines_acktr.benchmark.loop import Loop, ratios_of, speeds, take_turns, warm_up

    with contextlib.ExitStack() as stack:
        ours: dict[str, Loop] = {}
        for alg in options.algs:
            ours[alg] = Loop(alg, options.env, options.num_env, options.batch, options.pixels)
            stack.callback(ours[alg].close)
            say(f"{alg}: {options.env}, batch {ours[alg].batch} of {ours[alg].env.num_envs} environments")

        first = ours[options.algs[0]]
        peers: dict[str, PeerLoop] = {}
        for alg in PEER_ALGS if options.peers else ():
            peers[f"sb3-{alg}"] = loop = PeerLoop(
                alg, options.env, first.env.num_envs, first.batch, options.peer_python
            )
            stack.callback(loop.close)

        say("compiling and warming up, which takes about a minute")
        seconds = warm_up({**ours, **peers}, say)
        round_seconds = options.updates * seconds[options.algs[0]]
        updates = dict.fromkeys(ours, options.updates)
        updates |= {name: max(1, round(round_seconds / seconds[name])) for name in peers}
        whole = options.rounds * sum(seconds[name] * count for name, count in updates.items())
        say(f"{options.rounds} rounds of {options.updates} updates follow, which take about {whole:.0f} s")

        rates = take_turns({**ours, **peers}, options.rounds, updates, say)
        ratios, table = ratios_of(rates), speeds(rates, options.algs[-1])
        for part in (ratios, table):
            if len(part):
                say()
                show(part)

        parts = {alg: parts_of(alg, loop, options.updates) for alg, loop in ours.items()}
        if options.json:
            settings = dataclasses.asdict(options) | {"num_env": first.env.num_envs, "batch": first.batch}
            write_text(options.json, json_text(settings, ratios, table, rates, parts))
            say(f"\nwritten to {options.json}")


def parts_of(alg: str, loop: Loop, updates: int) -> dict[str, pd.DataFrame]:
    """Measures and prints how the time of an update is divided among its parts; {how it was measured: its table}."""
    from baselines_acktr import acktr_discrete
    from baselines_acktr.benchmark.acting import acting_to_network
    from baselines_acktr.benchmark.kfac_parts import kfac_parts
    from baselines_acktr.benchmark.loop import table_of

    parts = {}
    if type(loop.model) is acktr_discrete.Model:
        say(f"\n{alg}, parts of an update, each timed apart:")
        parts["apart"] = table_of(kfac_parts(loop.model, loop.runner))
        show(parts["apart"])
        ratio = acting_to_network(loop.model, loop.runner.run().observations[0])
        say(f"a call of acting takes {ratio:.2f} times as long as its network alone")
    say(f"\n{alg}, parts of an update in the loop:")
    parts["in the loop"] = loop.parts(updates)
    show(parts["in the loop"])
    return parts


def show(table: pd.DataFrame) -> None:
    """Prints a table."""
    formatters: Any = {
        "ms": "{:.1f}".format,
        "share": "{:.1%}".format,
        "timesteps/s": "{:.0f}".format,
    }
    if "timesteps/s" in table:
        formatters |= {"lowest": "{:.0f}".format, "highest": "{:.0f}".format}
    say(table.to_string(index=False, formatters=formatters, float_format="%.3f"))


if __name__ == "__main__":
    sys.exit(main())
