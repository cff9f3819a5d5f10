"""Training a run in a process of its own."""

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
from typing import Any

import baselines_acktr
from baselines_acktr.paper.plan import Run, command, flags, model_of
from baselines_acktr.session import checkpoints, schema
from common.errors import UserError, brief

FINISHED = "finished"
INTERRUPTED = "interrupted"
MISSING = "missing"


def state_of(run: Run, folder: Path) -> str:
    """Returns FINISHED, INTERRUPTED (it can be resumed from a checkpoint) or MISSING.

    Raises:
      UserError: the folder holds a run with other settings, or its model is damaged. A default that has changed since
        then counts as another setting.
    """
    saved = model_of(folder).exists()
    resumable = saved or checkpoints.has_checkpoint(folder / checkpoints.FOLDER)
    if not (folder / "run.json").exists() or not resumable:
        return MISSING

    try:
        made = schema.settings_in_run_json(folder / "run.json")
    except UserError as error:
        raise UserError(f"{error}; move the folder away or choose another --out") from error

    missing = {"value": "nothing", "from": "default"}  # for a setting that an older version did not have
    expected: dict[str, Any] = {}
    for name, value in run.defaults.items():
        if made.get(name, missing).get("from") == "default":  # nobody chose it, so the default must be the same
            expected[name] = value
    expected |= run.settings

    for name, value in json.loads(json.dumps(expected)).items():
        was = made.get(name, missing).get("value")
        if was != value:
            raise UserError(
                f"{folder}: was made with {name}={brief(was)}, now {value}; move it away or choose another --out"
            )

    timesteps = schema.timesteps_of(model_of(folder)) if saved else 0
    return FINISHED if timesteps + run.batch > run.timesteps else INTERRUPTED


class Job:
    """A run that has been started or resumed, on cores of its own.

    The process of the run inherits the lock on its folder. So the folder stays locked for as long as the run lasts,
    even if this process ends earlier.

    Args:
      run: the run.
      folder: folder of the run.
      cores: numbers of the cores that it may use.

    Raises:
      UserError: another process is training this run, or `state_of` raises it.
    """

    def __init__(self, run: Run, folder: Path, cores: Sequence[int]) -> None:
        self.run = run
        self.folder = folder

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
        arguments = self.run.arguments(self.folder, resume=state == INTERRUPTED)
        with (self.folder / "output.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, _run_py(), *flags(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C on the terminal reaches it only through `stop`
                pass_fds=(self._lock.fileno(),),
            )

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Asks the run to save and end. A second call asks it to end at once."""
        if not self.ended:
            self.process.send_signal(signal.SIGINT)

    def kill(self, patience: float) -> None:
        """Ends the run, and after `patience` seconds kills it with all processes that it has started."""
        self.stop()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def close(self) -> str | None:
        """Releases the lock.

        Returns:
          None if the run succeeded, otherwise the last line that it has printed.
        """
        self._lock.close()
        if self.process.returncode == 0:
            return None

        log = self.folder / "output.log"
        for line in reversed(log.read_text(encoding="utf-8", errors="replace").split("\n")):
            if line.strip():
                return line.strip()
        return f"exit {self.process.returncode}"


def _lock(folder: Path):
    """Opens and locks the lock file of a run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UserError(f"{folder}: another process is training this run") from error
    except OSError as error:
        raise UserError(f"--out: {folder}: cannot be written: {error.strerror}") from error

    return file


def _clear(folder: Path) -> None:
    """Removes the files of an attempt that left no checkpoint. Its games would otherwise be counted twice."""
    for pattern in ("*.monitor.csv", "progress.csv", "run*.json", "output.log", "model"):
        for path in folder.glob(pattern):
            path.unlink()


def _run_py() -> Path:
    """Returns the path of this project's `run.py`, even if another one lies in the current folder."""
    return Path(baselines_acktr.__file__).resolve().parents[1] / "run.py"
