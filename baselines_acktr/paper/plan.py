"""The runs of an item: their settings, names and command lines."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baselines_acktr.paper.items import ATARI, PIXELS, SPEED, Group, Item, Line
from baselines_acktr.session.learners import CONTINUOUS, DISCRETE, LEARNERS
from common.errors import UserError, closest
from common.options import values_in_files

ATARI_SCHEDULE = 10_000_000  # shortest schedule of the learning rate on Atari, in timesteps
REPORTS = 200  # rows of progress.csv per run


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which runs of an item to make, and how long.

    Attributes:
      scale: factor by which the lengths of the runs are multiplied.
      num_timesteps: length of the runs; None for that of the item.
      envs: chosen environments; empty for all of the item.
      algs: chosen algorithms; empty for all of the item.
      seeds: chosen seeds; empty for those of the item.
      mujoco_version: version of the MuJoCo tasks.
    """

    scale: float = 1.0
    num_timesteps: int | None = None
    envs: tuple[str, ...] = ()
    algs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    mujoco_version: str = "v4"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      env: id of the environment.
      task: name of the environment in the paper's tables.
      line: algorithm and variant.
      timesteps: steps of all environments together.
      seed: random seed.
      suite: ATARI, MUJOCO or PIXELS.
    """

    env: str
    task: str
    line: Line
    timesteps: int
    seed: int
    suite: str

    @property
    def name(self) -> str:
        """`<alg>-<env>[-<variant>]-<timesteps>-<seed>`. `common.plots` groups names that differ only in the seed."""
        parts = [self.line.alg, self.env]
        if self.suite == PIXELS:
            parts.append("pixels")
        if self.line.variant:
            parts.append(self.line.variant)
        return "-".join([*parts, brief(self.timesteps), str(self.seed)])

    @property
    def defaults(self) -> dict[str, Any]:
        """Defaults of the learner's hyperparameters as files have them, without the presets for images."""
        return values_in_files(self._config_class())

    @property
    def _config_class(self) -> Any:
        kind = DISCRETE if self.suite == ATARI else CONTINUOUS
        return LEARNERS[self.line.alg, kind].config_class

    @functools.cached_property
    def batch(self) -> int:
        """Timesteps per batch."""
        options = dict(self.line.options)
        if self.suite == PIXELS and self.line.alg != "a2c":
            options.setdefault("timesteps_per_batch", 8000)  # the preset for images

        hyperparameters = {name: value for name, value in options.items() if name in self.defaults}
        config = self._config_class(**hyperparameters)
        num_env = config.default_num_env(self.suite == ATARI)
        return config.batch_size(self.line.options.get("num_env", num_env))

    @property
    def settings(self) -> dict[str, Any]:
        """The flags that determine the result."""
        settings = {
            "alg": self.line.alg,
            "env": self.env,
            "num_timesteps": self.timesteps,
            "seed": self.seed,
        }
        if self.suite == ATARI and self.line.alg != "trpo":  # TRPO has no schedule
            settings["schedule_timesteps"] = max(self.timesteps, ATARI_SCHEDULE)
        if self.suite == PIXELS:
            settings["pixels"] = True
        return settings | dict(self.line.options)

    def arguments(self, folder: Path, resume: bool = False) -> dict[str, Any]:
        """Returns all flags of `run.py` that train the run in `folder`, or resume it there."""
        updates = self.timesteps // self.batch
        reports = {"log_interval": self.settings.get("log_interval", max(1, updates // REPORTS))}
        files = {
            "log_format": "csv",
            "log_path": folder,
            "save_path": model_of(folder),
            "keep": 1,
        }

        arguments = self.settings | reports | files
        if resume:
            arguments["resume"] = True
        return arguments


def model_of(folder: Path) -> Path:
    """Returns the path at which the run in `folder` saves its model at the end."""
    return folder / "model"


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Returns the arguments as words of a command line."""
    words = []
    for name, value in arguments.items():
        word = str(value).lower() if isinstance(value, bool) else value
        words.append(f"--{name}={word}")
    return words


def command(run: Run, folder: Path, resume: bool = False) -> str:
    """Returns the command line that trains the run in `folder`, or resumes it there."""
    return shlex.join(["python", "run.py", *flags(run.arguments(folder, resume))])


def plan(item: Item, selection: Selection) -> list[Run]:
    """Returns the chosen runs of an item, ordered by seed.

    Raises:
      UserError: the item does not have a chosen environment or algorithm, or a run is shorter than one batch.
    """
    _check(item, selection)
    seeds = dict.fromkeys(selection.seeds or item.seeds)

    runs = [run for seed in seeds for group in item.groups for run in _runs(group, selection, seed)]
    for run in runs:
        if item.kind != SPEED and run.timesteps < run.batch:
            total = selection.num_timesteps
            flag = f"--num_timesteps={total}" if total else f"--scale={selection.scale:g}"
            raise UserError(f"{flag}: {run.name} would have less than one batch of {run.batch}")

    return runs


def _runs(group: Group, selection: Selection, seed: int) -> list[Run]:
    return [
        Run(
            env if group.suite == ATARI else f"{env}-{selection.mujoco_version}",
            env,
            line,
            selection.num_timesteps or round((line.timesteps or group.timesteps) * selection.scale),
            seed,
            group.suite,
        )
        for env in group.envs
        if not selection.envs or short(env) in map(short, selection.envs)
        for line in group.lines
        if not selection.algs or line.alg in selection.algs
    ]


def short(env: str) -> str:
    """Returns the name of an environment in lower case, without its version: pong, halfcheetah."""
    return env.lower().partition("-v")[0].removesuffix("noframeskip")


def brief(timesteps: int) -> str:
    """Abbreviates a number of timesteps: 1000000 becomes 1M, 150000 becomes 150k."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if timesteps >= size and timesteps % size == 0:
            return f"{timesteps // size}{unit}"
    return str(timesteps)


def _check(item: Item, selection: Selection) -> None:
    envs = [short(env) for group in item.groups for env in group.envs]
    algs = [line.alg for group in item.groups for line in group.lines]
    _check_known("envs", [short(env) for env in selection.envs], envs)
    _check_known("algs", selection.algs, algs)

    if item.kind == SPEED and selection.seeds:
        raise UserError("--seeds: measurements of speed have no seeds")


def _check_known(flag: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    for name in chosen:
        if name not in known:
            allowed = ", ".join(dict.fromkeys(known))
            raise UserError(f"--{flag}={name}: this item has {allowed}.{closest(name, known)}")
