"""Monitor files in the format of OpenAI Baselines: one CSV row per finished game."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from common.appended_file import AppendedFile, require_regular
from common.errors import UserError
from common.named_arrays import Arrays, with_prefix, without_prefix
from common.vec_env.wrappers import ResumableWrapper

_log = logging.getLogger(__name__)


class MonitorFile:
    """The file `<rank>.<index>.monitor.csv` of one environment.

    The first line is `# ` followed by a JSON object with `t_start` (seconds since the epoch) and `env_id`. The second
    line is the header `r,l,t`. An existing file is continued, and `t` still counts from its `t_start`.
    """

    def __init__(self, path: Path, env_id: str) -> None:
        """Opens or creates the file.

        Args:
          path: the file.
          env_id: id of the environment, written to the first line of a new file.

        Raises:
          UserError: the file cannot be written, or an existing file is not a monitor file.
        """
        try:
            require_regular(path)
            started = _start_time(path)
            self._start = time.time() if started is None else started
            self._file = AppendedFile(path)

            if started is not None:
                self._file.write("" if path.read_bytes().endswith(b"\n") else "\n")  # a crash can truncate the last row
            else:
                head = json.dumps({"t_start": self._start, "env_id": env_id})
                self._file.write(f"# {head}\nr,l,t\n")
        except OSError as error:
            raise UserError(f"{path}: cannot write the monitor file ({error.strerror})") from error

    def add(self, score: float, length: int) -> None:
        """Appends one finished game.

        Args:
          score: undiscounted sum of the rewards.
          length: number of steps.

        Raises:
          OSError: the row cannot be written, for example because the disk is full.
        """
        seconds = time.time() - self._start
        self._file.write(f"{round(float(score), 6)},{int(length)},{round(seconds, 6)}\n")

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self._file.size

    def cut(self, size: int) -> None:
        """Removes everything after the first `size` bytes."""
        self._file.cut(size)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Monitor(ResumableWrapper):
    """Writes every finished game to the monitor file of its environment.

    If a file cannot be written, it logs one warning and the run continues.
    """

    def __init__(self, env: VectorEnv, log_dir: str | Path, env_id: str, rank: int = 0) -> None:
        """Creates the folder if it is missing, and opens one file per environment.

        Args:
          env: an environment with the contract of `common.vec_env`.
          log_dir: folder for the files.
          env_id: id that is written to the first line of each file.
          rank: MPI rank, the first part of the file names.

        Raises:
          UserError: the folder or a file cannot be written.
        """
        super().__init__(env)
        folder = Path(log_dir).expanduser()

        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot create the folder ({error.strerror})") from error

        self._files = [MonitorFile(folder / f"{rank}.{i}.monitor.csv", env_id) for i in range(env.num_envs)]
        self._warned = False

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps the environments, and writes the games that ended."""
        result = self.env.step(actions)
        infos = result[-1]
        for i in np.flatnonzero(infos.get("_episode", ())).tolist():
            self._add(i, infos["episode"]["r"][i], infos["episode"]["l"][i])
        return result

    def get_state(self) -> Arrays:
        """Returns the state of the environments and the size of each file."""
        sizes = np.array([file.size for file in self._files], np.int64)
        return with_prefix("games", super().get_state()) | {"file_sizes": sizes}

    def set_state(self, state: Arrays) -> None:
        """Continues from a state, and removes the rows that were written after it."""
        for file, size in zip(self._files, state["file_sizes"].tolist(), strict=True):
            file.cut(size)
        super().set_state(without_prefix("games", state))

    def close(self, **kwargs: Any) -> None:
        """Closes the files and the environment."""
        for file in self._files:
            file.close()
        super().close(**kwargs)

    def _add(self, i: int, score: float, length: int) -> None:
        try:
            self._files[i].add(score, length)
        except OSError as error:
            if not self._warned:
                _log.warning("monitor files: games are missing from here on: %s", error.strerror)
            self._warned = True


def _start_time(path: Path) -> float | None:
    """Returns `t_start` of an existing monitor file, or None if the file is missing or empty."""
    if not path.exists() or path.stat().st_size == 0:
        return None

    with path.open(encoding="utf-8") as file:
        first = file.readline()

    try:
        return float(json.loads(first.removeprefix("# "))["t_start"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: exists and is not a monitor file; move it away") from error
