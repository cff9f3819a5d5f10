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

ATARI_SCHEDULE = 10_000_000  # timesteps that the rate of shorter runs on Atari falls over
REPORTS = 200  # lines in the progress of a run


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which of an item's runs, and how long.

    Attributes:
      scale: factor of their lengths.
      num_timesteps: their length, in place of the item's; None: the item's.
      envs, algs, seeds: those chosen; empty: all of the item's.
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
    """One training.

    Attributes:
      env: id of the environment.
      task: its name in the paper's tables.
      line: algorithm and variant.
      timesteps: steps of all environments together.
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
        """`<alg>-<env>[-<variant>]-<timesteps>-<seed>`: `common.plots` takes those that differ in the seed together."""
        parts = [self.line.alg, self.env, "pixels" if self.suite == PIXELS else "", self.line.variant]
        return "-".join([part for part in parts if part] + [brief(self.timesteps), str(self.seed)])

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of the learner's hyperparameters, whatever images preset."""
        return {field.name: field.default for field in dataclasses.fields(self._config_class)}

    @property
    def _config_class(self) -> Any:
        return LEARNERS[self.line.alg, DISCRETE if self.suite == ATARI else CONTINUOUS].config_class

    @functools.cached_property
    def batch(self) -> int:
        """Timesteps in a batch."""
        preset = {"timesteps_per_batch": 8000} if self.suite == PIXELS and self.line.alg != "a2c" else {}
        options = (preset | dict(self.line.options)).items()
        config = self._config_class(**{name: value for name, value in options if name in self.defaults})
        num_env = config.default_num_env(self.suite == ATARI)
        return config.batch_size(self.line.options.get("num_env", num_env))

    @property
    def settings(self) -> dict[str, Any]:
        """The flags that decide what comes out."""
        settings = {"alg": self.line.alg, "env": self.env, "num_timesteps": self.timesteps, "seed": self.seed}
        if self.suite == ATARI and self.line.alg != "trpo":  # whose trust region has no schedule
            settings["schedule_timesteps"] = max(self.timesteps, ATARI_SCHEDULE)
        if self.suite == PIXELS:
            settings["pixels"] = True
        return settings | dict(self.line.options)

    def arguments(self, folder: Path, resume: bool = False) -> dict[str, Any]:
        """All flags of the run in its folder, or of going on with it there."""
        updates = self.timesteps // self.batch
        reports = {"log_interval": self.settings.get("log_interval", max(1, updates // REPORTS))}
        files = {"log_format": "csv", "log_path": folder, "save_path": model_of(folder), "keep": 1}
        return self.settings | reports | files | ({"resume": True} if resume else {})


def model_of(folder: Path) -> Path:
    """Where the model of the run in `folder` is saved at its end."""
    return folder / "model"


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """The arguments as words of a command line."""
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in arguments.items()]


def command(run: Run, folder: Path, resume: bool = False) -> str:
    """What a user would type for the run, or to go on with it."""
    return shlex.join(["python", "run.py", *flags(run.arguments(folder, resume))])


def plan(item: Item, selection: Selection) -> list[Run]:
    """The chosen runs of an item, seed by seed.

    Raises:
      UserError: a chosen environment or algorithm that the item does not have, or runs shorter than a batch.
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
    """The name of an environment without its version, in small letters: pong, halfcheetah."""
    return env.lower().partition("-v")[0].removesuffix("noframeskip")


def brief(timesteps: int) -> str:
    """1000000 as 1M, 150000 as 150k."""
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
        raise UserError("--seeds: a measurement of speed has none")


def _check_known(flag: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    for name in chosen:
        if name not in known:
            allowed = ", ".join(dict.fromkeys(known))
            raise UserError(f"--{flag}={name}: this item has {allowed}.{closest(name, known)}")
