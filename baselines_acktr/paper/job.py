"""A run in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import baselines_acktr
from baselines_acktr.paper.plan import Run, command, flags, model_of
from baselines_acktr.session import checkpoints, schema
from common.errors import UserError, brief

FINISHED, INTERRUPTED, MISSING = "finished", "interrupted", "missing"


def state_of(run: Run, folder: Path) -> str:
    """FINISHED, INTERRUPTED (there is a checkpoint to go on from) or MISSING.

    Raises:
      UserError: the folder holds a run with other settings, defaults of then among them, or its model is damaged.
    """
    saved = model_of(folder).exists()
    if not (folder / "run.json").exists() or not (saved or checkpoints.has_checkpoint(folder / checkpoints.FOLDER)):
        return MISSING
    try:
        made = schema.settings_in_run_json(folder / "run.json")
    except UserError as error:
        raise UserError(f"{error}; move the folder away or choose another --out") from error
    missing = {"value": "nothing", "from": "default"}  # of a version that did not have it
    unchosen = {name: value for name, value in run.defaults.items() if made.get(name, missing).get("from") == "default"}
    for name, value in json.loads(json.dumps(unchosen | run.settings)).items():
        was = made.get(name, missing).get("value")
        if was != value:
            raise UserError(
                f"{folder}: was made with {name}={brief(was)}, now {value}; move it away or choose another --out"
            )
    timesteps = schema.timesteps_of(model_of(folder)) if saved else 0
    return FINISHED if timesteps + run.batch > run.timesteps else INTERRUPTED


class Job:
    """A run that has been started, or gone on with, on its own cores.

    The lock on its folder is inherited by its process and lasts as long as that, whatever becomes of this one.

    Raises:
      UserError: another process is at this run, or as `state_of`.
    """

    def __init__(self, run: Run, folder: Path, cores: Sequence[int]) -> None:
        self.run, self.folder = run, folder
        with contextlib.ExitStack() as on_failure:
            self._lock = on_failure.enter_context(_lock(folder))
            state = state_of(run, folder)
            if state == MISSING:
                _clear(folder)
            (folder / "command.txt").write_text(command(run, folder) + "\n", encoding="utf-8")
            self.process = self._start(state)
            on_failure.pop_all()
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(self.process.pid, cores)

    def _start(self, state: str) -> subprocess.Popen[bytes]:
        with (self.folder / "output.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, _run_py(), *flags(self.run.arguments(self.folder, state == INTERRUPTED))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C on the terminal reaches it once, through `stop`
                pass_fds=(self._lock.fileno(),),
            )

    @property
    def ended(self) -> bool:
        """Whether its process has ended."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Asks the run to save and end; a second time, to end at once."""
        if not self.ended:
            self.process.send_signal(signal.SIGINT)

    def kill(self, patience: float) -> None:
        """Ends the run within so many seconds, with the processes that it has started."""
        self.stop()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def close(self) -> str | None:
        """Gives the lock back; returns the last line that a failed run has written, None for one that ended well."""
        self._lock.close()
        if self.process.returncode == 0:
            return None
        lines = (self.folder / "output.log").read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), f"exit {self.process.returncode}")


def _lock(folder: Path):
    """Opens the lock file of a run, locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UserError(f"{folder}: another process is at this run") from error
    except OSError as error:
        raise UserError(f"--out: {folder}: cannot be written: {error.strerror}") from error
    return file


def _clear(folder: Path) -> None:
    """Removes what an attempt without a checkpoint has left, whose games would count twice."""
    for pattern in ("*.monitor.csv", "progress.csv", "run*.json", "output.log", "model"):
        for path in folder.glob(pattern):
            path.unlink()


def _run_py() -> Path:
    """The `run.py` of this project, not one that happens to lie in the current folder."""
    return Path(baselines_acktr.__file__).resolve().parents[1] / "run.py"
