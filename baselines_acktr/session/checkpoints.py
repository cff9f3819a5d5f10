"""The checkpoints that a run can be resumed from: which are written, kept and found again.

Each is two files in one folder, named after the number of updates: `00000020.model`, what `--load_path` and `--play`
take, and `00000020.run`, all else that the run's future depends on (environments, unfinished episodes, sizes of the
log files, settings), which only resuming opens. The model is written last: a checkpoint without one is not there.
"""

from __future__ import annotations

import math
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from baselines_acktr.callbacks import BEST
from baselines_acktr.session import ready_made, schema
from common import array_file
from common.errors import UserError, one_line

FOLDER = "checkpoints"
SECONDS = 300.0  # between two checkpoints where no number of updates is given
_MODEL, _RUN = ".model", ".run"

T = TypeVar("T")
Content = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays and meta, as for `array_file.save`


class RunState(NamedTuple):
    """A copy of all that the rest of a run depends on.

    Attributes:
      updates, timesteps: how far the run is.
      score: mean of its last 100 episodes, not a number before there are as many.
      model: content of the model's file.
      run: content of the other one.
    """

    updates: int
    timesteps: int
    score: float
    model: Content
    run: Content


class Checkpoint(NamedTuple):
    """A checkpoint that was read and found whole.

    Attributes:
      model: path of the model's file.
      arrays, meta: of the model.
      run: content of the other file.
    """

    model: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    run: Content

    @property
    def settings(self) -> dict[str, Any]:
        """{name of a flag: value} of the run that wrote it."""
        return self.run[1]["settings"]


class SavedModel(NamedTuple):
    """A model's file that was read and found whole, as `Agent.restore` takes it."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    path: str

    def checked(self, argument: str) -> SavedModel:
        """Itself, if a model can be made of it; else raises UserError, naming `argument`."""
        if "milestone" in self.meta:
            raise UserError(
                f"{argument}={self.path}: the part of a checkpoint that --resume needs; the model ends in .model"
            )
        try:
            schema.check_model(self.path, self.arrays, self.meta)
        except UserError as error:
            raise UserError(f"{argument}: {error}") from error
        return self


class _Kept(NamedTuple):
    updates: int
    timesteps: int
    score: float
    milestone: bool


class CheckpointManager:
    """Writes checkpoints on another thread, and removes those that are no longer kept. A context manager.

    Kept are the last ones, the best one (by the mean of its last 100 training episodes) and the milestones. A
    checkpoint that cannot be written is reported and left out: the ones before it stay, and the run goes on.

    Args:
      folder: where they go; it is created.
      keep: how many of the last ones are kept.
      every: timesteps from one milestone to the next; 0: there are none.
      interval: updates between two checkpoints; 0: 5 minutes.
      settings: {name of a flag: value}, written into each.
      best: file that the model of the best checkpoint so far is written to as well; None: nowhere.
      start: updates of the checkpoint in the folder that the run goes on from. Later checkpoints, which can only be
        damaged ones, are renamed. With None the run is a new one, and a folder that an earlier run has left is renamed
        by its time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 3,
        every: int = 0,
        interval: int = 0,
        settings: Mapping[str, Any] | None = None,
        best: Path | None = None,
        start: int | None = None,
    ) -> None:
        self.folder, self._keep, self._every, self._interval = folder, keep, every, interval
        self._settings = dict(settings or {})
        self._best = best
        self._kept: list[_Kept] = []
        self._last = time.monotonic()
        self._thread: threading.Thread | None = None
        if start is None:
            _set_aside(folder)
            return
        try:
            self._take_over(start)
        except OSError as error:
            raise UserError(f"{error.filename or folder}: cannot be gone on with: {error.strerror}") from error

    def due(self, updates: int) -> bool:
        """Whether a checkpoint is due after so many updates."""
        if self._interval:
            return updates % self._interval == 0
        return time.monotonic() - self._last >= SECONDS

    def save(self, snapshot: RunState, wait: bool = False) -> None:
        """Writes a checkpoint, on another thread unless `wait`; waits for the one before it."""
        self.close()
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint", daemon=True)
        self._thread.start()
        if wait:
            self.close()

    def close(self) -> None:
        """Waits for the checkpoint that is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _take_over(self, start: int) -> None:
        """Looks at what an earlier run, which this one goes on from, has left in the folder."""
        orphans = [path for path in self.folder.glob(f"*{_RUN}") if not path.with_suffix(_MODEL).exists()]
        for path in [*orphans, *self.folder.glob(".*.tmp")]:  # of a process that was killed
            path.unlink()
        for updates in _numbers(self.folder):
            if updates > start:
                for path in _paths(self.folder, updates):
                    if path.exists():
                        path.rename(path.with_name(path.name + ".damaged"))
                continue
            try:
                run = _paths(self.folder, updates)[1]
                meta = array_file.load_meta(run)
                schema.check_facts(run, meta)
                self._kept.append(_Kept(updates, meta["timesteps"], _score(meta["score"]), meta["milestone"]))
            except UserError:
                continue

    def _write(self, snapshot: RunState) -> None:
        before = self._kept[-1].timesteps if self._kept else 0
        milestone = bool(self._every) and snapshot.timesteps // self._every > before // self._every
        score = None if math.isnan(snapshot.score) else snapshot.score
        pair = secrets.token_hex(8)
        facts = {"timesteps": snapshot.timesteps, "score": score, "milestone": milestone, "settings": self._settings}
        model, run = _paths(self.folder, snapshot.updates)
        try:
            array_file.save(run, snapshot.run[0], snapshot.run[1] | facts | {"pair": pair})
            array_file.save(model, snapshot.model[0], snapshot.model[1] | {"pair": pair})
            if self._best is not None and self._is_best(snapshot):
                array_file.save(self._best, *snapshot.model)
        except (UserError, ValueError, OSError) as error:
            said = f"{one_line(error)}; the run goes on, the checkpoints before are as they were"
            print(said, file=sys.stderr, flush=True)
            return
        self._kept = [kept for kept in self._kept if kept.updates != snapshot.updates]
        self._kept.append(_Kept(snapshot.updates, snapshot.timesteps, snapshot.score, milestone))
        self._prune()

    def _is_best(self, snapshot: RunState) -> bool:
        before = [kept.score for kept in self._kept if not math.isnan(kept.score)]
        return not math.isnan(snapshot.score) and snapshot.score > max(before, default=-math.inf)

    def _prune(self) -> None:
        scored = [kept for kept in self._kept if not math.isnan(kept.score)]
        best = max(scored, key=lambda kept: kept.score, default=None)
        for kept in self._kept[: -self._keep]:
            if not kept.milestone and kept is not best:
                self._kept.remove(kept)
                try:
                    for path in _paths(self.folder, kept.updates):
                        path.unlink(missing_ok=True)
                except OSError as error:
                    print(f"{path}: cannot be deleted, so it stays: {error.strerror}", file=sys.stderr, flush=True)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in `folder` that is whole, or None if there is none at all; names the damaged ones.

    Raises:
      UserError: all of them are damaged.
    """
    return _newest(folder, _whole_checkpoint, "--resume")


def _newest(folder: Path, read: Callable[[Path], T], argument: str) -> T | None:
    """What `read` makes of the newest model in `folder` that it does not raise `UserError` for; None of no models."""
    numbers = _numbers(folder)
    for updates in reversed(numbers):
        try:
            return read(_paths(folder, updates)[0])
        except UserError as error:
            print(f"{one_line(error)}; trying the one before", file=sys.stderr, flush=True)
    if numbers:
        raise UserError(f"{argument}: no checkpoint in {folder} is whole")
    return None


def _whole_checkpoint(model: Path) -> Checkpoint:
    path = model.with_suffix(_RUN)
    (arrays, meta), run = array_file.load(model), array_file.load(path)
    schema.check_facts(path, run[1])
    if meta.get("pair") != run[1]["pair"]:
        raise UserError(f"checkpoint {model}: {path.name} is of another save")
    return Checkpoint(model, arrays, meta, run)


def _whole_model(model: Path) -> SavedModel:
    return SavedModel(*array_file.load(model), str(model))


def read_model(path: str, argument: str, best: bool = False) -> SavedModel:
    """Reads a model's file; of a log folder, or its folder of checkpoints, the newest that is whole, and says which.

    Of a checkpoint only the model is opened.

    Args:
      path: of a file or a folder, or `zoo:NAME` of a ready-made agent.
      argument: what asked for it, which messages begin with.
      best: of a log folder, take the best model instead.

    Raises:
      UserError: it is missing or damaged, or no model can be made of it, or the best is asked for of what is no log
        folder or has none yet.
    """
    path = _best_in(path, argument) if best else path
    file = ready_made.resolve(path, argument)
    for folder in (Path(file), Path(file) / FOLDER):
        if os.path.isdir(folder) and (found := _newest(folder, _whole_model, argument)):
            print(f"loading {found.path}", file=sys.stderr)
            return found.checked(argument)
    try:
        found = SavedModel(*array_file.load(file), path)
    except UserError as error:
        raise UserError(f"{argument}: {error}") from error
    return found.checked(argument)


def _best_in(path: str, argument: str) -> str:
    """The file of the best model in a log folder; raises UserError."""
    if not os.path.isdir(path):
        raise UserError(f"{argument}={path}: must be the log folder of a run, where its best model is asked for")
    found = os.path.join(path, BEST)
    if not os.path.lexists(found):
        raise UserError(
            f"{argument}={path}: has no {BEST} yet; a run writes it after an evaluation (--eval_interval), or at a "
            "checkpoint after 100 episodes"
        )
    print(f"loading {found}", file=sys.stderr)
    return found


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint in `folder`, whole or not."""
    return bool(_numbers(folder))


def load_run(model: Path) -> Content:
    """The arrays and the meta of the run that belongs to a model's file.

    Raises:
      UserError: as `array_file.load`, or no run can be gone on with from it.
    """
    path = model.with_suffix(_RUN)
    arrays, meta = array_file.load(path)
    schema.check_run(path, arrays, meta)
    return arrays, meta


def _set_aside(folder: Path) -> None:
    """Renames a folder of an earlier run by the time of its last change, where there is one."""
    if folder.exists():
        stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.localtime(folder.stat().st_mtime))
        names = (folder.with_name(f"{folder.name}-{stamp}{suffix}") for suffix in ("", *(f"-{k}" for k in range(1000))))
        target, full = next(name for name in names if not name.exists()), has_checkpoint(folder)
        try:
            folder.rename(target)
        except OSError as error:
            raise UserError(f"{folder}: an earlier run's checkpoints cannot be moved: {error.strerror}") from error
        if full:
            print(f"an earlier run's checkpoints are now in {target}", file=sys.stderr, flush=True)


def _numbers(folder: Path) -> list[int]:
    found = folder.glob(f"*{_MODEL}") if os.path.isdir(folder) else ()  # which may have a name that is too long
    return sorted(int(path.stem) for path in found if path.stem.isdecimal())


def _paths(folder: Path, updates: int) -> tuple[Path, Path]:
    """The files of the model and of the run."""
    return folder / f"{updates:08d}{_MODEL}", folder / f"{updates:08d}{_RUN}"


def _score(value: float | None) -> float:
    return math.nan if value is None else value
