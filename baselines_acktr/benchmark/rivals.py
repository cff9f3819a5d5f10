"""A2C and TRPO against stable-baselines3: `python -m baselines_acktr.benchmark.rivals --envs=CartPole-v1,Pendulum-v1`.

Each side trains with its own defaults on one thread, with the same number of environments, timesteps and seeds. Every
run is a process of its own, and adds a row to the csv when it ends. So the same command continues an interrupted
comparison.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from baselines_acktr.benchmark.peers import last_line, peer_command, require_peers
from baselines_acktr.benchmark.results import require_folder
from common import cli
from common.errors import UserError, exit_code
from common.options import one_of, option, validate
from common.process import Interruption, suit_tensorflow
from common.vec_env import make_vec_env

PROGRAM = "python -m baselines_acktr.benchmark.rivals"
ENVS = ("CartPole-v1", "Acrobot-v1", "LunarLander-v3", "Pendulum-v1", "Hopper-v5", "HalfCheetah-v5")
# For A2C this is the default of this project. For TRPO, sb3-contrib's default batch is 2048 steps of every environment,
# which is meant for a single environment.
NUM_ENV = {"a2c": 8, "trpo": 1}
OURS = "ours"
PEER = "peer"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
POLL_SECONDS = 0.2
RESULTS = ("mean", "episodes", "seconds")


@dataclasses.dataclass(frozen=True)
class RivalsOptions:
    """Flags of `python -m baselines_acktr.benchmark.rivals`."""

    envs: tuple[str, ...] = option(ENVS, "ids of the environments")
    algs: tuple[str, ...] = option(tuple(NUM_ENV), "a2c, trpo")
    seeds: tuple[int, ...] = option((0, 1, 2), "seeds of both sides", minimum=0)
    num_timesteps: int = option(150_000, "steps of all environments of a run together", unit="timesteps", minimum=1)
    num_env: int | None = option(None, "environments of a run; by default 8 for a2c, 1 for trpo", minimum=1)
    out: str = option("rivals.csv", "file of the results, one row per run; runs that it contains are not repeated")
    jobs: int = option(1, "number of runs at a time", minimum=1)
    peer_python: str = option(sys.executable, "Python that has stable-baselines3 and sb3-contrib; by default this one")

    def __post_init__(self) -> None:
        validate(self)
        for name in ("envs", "algs", "seeds"):
            if not getattr(self, name):
                raise UserError(f"--{name}: must name at least one")

        for alg in self.algs:
            if alg not in NUM_ENV:
                raise UserError(f"--algs={alg}: must be {one_of(tuple(NUM_ENV))}")


FLAGS = cli.Flags({"options": RivalsOptions})


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training run of the comparison.

    Attributes:
      env: id of the environment.
      alg: a2c or trpo.
      side: OURS or PEER.
      seed: random seed.
      num_timesteps: steps of all environments together.
      num_env: number of environments.
    """

    env: str
    alg: str
    side: str
    seed: int
    num_timesteps: int
    num_env: int

    def command(self, peer_python: str) -> list[str]:
        """Returns the command line that trains the run. The last line that it prints is its result as JSON."""
        arguments = [self.env, self.alg, *map(str, (self.seed, self.num_timesteps, self.num_env))]
        if self.side == PEER:
            return peer_command(peer_python, arguments)
        return [sys.executable, "-m", "baselines_acktr.benchmark.rivals_ours", *arguments]


KEYS = tuple(field.name for field in dataclasses.fields(Cell))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    0: done. 1: a run failed. 2: a mistake of the user. 130: interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if cli.asks_for_help(argv):
        print(FLAGS.help(PROGRAM, "[--flag=value ...]", "Scores beside those of stable-baselines3 and sb3-contrib."))
        return 0

    failures: list[str] = []
    try:
        with Interruption(quiet=True):
            code = exit_code("rivals", lambda: failures.extend(compare(RivalsOptions(**FLAGS.parse(argv)))))
    except KeyboardInterrupt:
        print("rivals: interrupted; run the same command to continue", file=sys.stderr)
        return 130

    return code or int(bool(failures))


def compare(options: RivalsOptions) -> list[str]:
    """Trains the runs that the csv does not have, prints the table of all, and returns one line per failed run."""
    check(options)
    path = Path(options.out)
    failures = []
    asked = plan(options)
    done = {tuple(row) for row in read(path)[list(KEYS)].itertuples(index=False)}

    missing = [cell for cell in asked if dataclasses.astuple(cell) not in done]
    for cell, outcome in outcomes(missing, options.peer_python, options.jobs):
        name = f"{cell.env} {cell.alg} {cell.side} seed {cell.seed}"
        if isinstance(outcome, str):
            failures.append(f"failed: {name}: {outcome}")
            print(failures[-1], file=sys.stderr, flush=True)
        else:
            append(path, cell, outcome)
            print(f"{name}: {outcome['mean']:.1f} in {outcome['seconds']:.0f} s", flush=True)

    made = read(path)
    table = table_of(made.merge(pd.DataFrame(map(dataclasses.asdict, asked)), on=list(KEYS)))
    print(table.to_string(index=False) if len(table) else "no run has ended")

    return failures


def check(options: RivalsOptions) -> None:
    """Checks the options before anything is trained.

    Raises:
      UserError: an environment is unknown, or a Python or a file cannot be used.
    """
    for env_id in options.envs:
        with make_vec_env(env_id, 1, seed=0) as env:
            suit_tensorflow(env.single_observation_space)

    require_folder("--out", options.out)
    require_peers(options.peer_python, "rivals")


def plan(options: RivalsOptions) -> list[Cell]:
    """Returns all runs that the options ask for, ordered by seed. Both sides of a task follow each other."""
    return [
        Cell(env, alg, side, seed, options.num_timesteps, options.num_env or NUM_ENV[alg])
        for seed in options.seeds
        for env in options.envs
        for alg in options.algs
        for side in (OURS, PEER)
    ]


class Job:
    """A command that has been started on one thread."""

    def __init__(self, command: Sequence[str]) -> None:
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`outcome` closes it)
        self._err = tempfile.TemporaryFile("w+")  # noqa: SIM115 (likewise)
        environment = {**os.environ, **ONE_THREAD}
        self.process = subprocess.Popen(
            command,
            stdout=self._out,
            stderr=self._err,
            env=environment,
        )

    def outcome(self) -> dict[str, float] | str:
        """Returns the result that a successful command has printed as its last line, else its last line of errors."""
        with self._out, self._err:
            if self.process.returncode:
                return last_line(self._err) or f"exit {self.process.returncode}"
            return json.loads(last_line(self._out))


def outcomes(cells: Sequence[Cell], peer_python: str, jobs: int) -> Iterator[tuple[Cell, dict[str, float] | str]]:
    """Trains the runs, `jobs` at a time, and yields each with its outcome as it ends.

    Yields:
      The run, and its results or the reason why it failed.
    """
    waiting = deque(cells)
    running = dict[Cell, Job]()

    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.popleft()
                running[cell] = Job(cell.command(peer_python))

            for cell in [cell for cell, job in running.items() if job.process.poll() is not None]:
                yield cell, running.pop(cell).outcome()
            time.sleep(POLL_SECONDS)
    finally:
        for job in running.values():
            job.process.kill()


def append(path: Path, cell: Cell, outcome: dict[str, float]) -> None:
    """Appends the row of a run to the csv, after the header if the file is new."""
    row = pd.DataFrame([dataclasses.asdict(cell) | {name: outcome[name] for name in RESULTS}])
    row.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.6g")


def read(path: Path) -> pd.DataFrame:
    """Returns the rows of the csv, or an empty table if there is no file.

    Raises:
      UserError: the file cannot be read or has other columns.
    """
    columns = [*KEYS, *RESULTS]
    if not path.exists():
        return pd.DataFrame(columns=columns)

    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--out={path}: cannot be read: {error}") from error

    if list(rows.columns) != columns:
        raise UserError(f"--out={path}: is not a file of this program; its columns must be {','.join(columns)}")

    return rows


def table_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns a table with one row per task and algorithm: for either side scores by seed, mean score and duration."""
    lines = []
    for (env, alg), cells in rows.groupby(["env", "alg"], sort=False):
        line = {"env": env, "alg": alg}
        for side in (OURS, PEER):
            mine = cells[cells["side"] == side].sort_values("seed")
            line[f"{side} by seed"] = ", ".join(f"{score:.1f}" for score in mine["mean"])
            line[side] = mine["mean"].mean().round(1)
            line[f"{side} s"] = mine["seconds"].mean().round()
        lines.append(line)

    return pd.DataFrame(lines)


if __name__ == "__main__":
    sys.exit(main())
