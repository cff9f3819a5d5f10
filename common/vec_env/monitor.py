"""Monitor files in the format of Baselines: one CSV row per finished game."""

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

    The first line is `# ` and a JSON object with `t_start` (seconds since the epoch) and `env_id`, the second is the
    header `r,l,t`. Opening an existing file appends to it, with `t` still counted from its own `t_start`.
    """

    def __init__(self, path: Path, env_id: str) -> None:
        """Opens or creates the file.

        Raises:
          UserError: the file cannot be written, or an existing file is not a monitor file.
        """
        try:
            require_regular(path)
            started = _start_time(path)
            self._start = time.time() if started is None else started
            self._file = AppendedFile(path)
            if started is not None:
                self._file.write("" if path.read_bytes().endswith(b"\n") else "\n")  # a crash may have cut off a row
            else:
                self._file.write("# " + json.dumps({"t_start": self._start, "env_id": env_id}) + "\nr,l,t\n")
        except OSError as error:
            raise UserError(f"{path}: cannot write the monitor file ({error.strerror})") from error

    def add(self, score: float, length: int) -> None:
        """Appends one finished game: its score, and its length in steps; raises OSError if there is no room for it."""
        self._file.write(f"{round(float(score), 6)},{int(length)},{round(time.time() - self._start, 6)}\n")

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    def cut(self, size: int) -> None:
        """Drops what lies beyond `size` bytes."""
        self._file.cut(size)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Monitor(ResumableWrapper):
    """Writes every game that ends to the monitor file of its environment; where it cannot, it warns and goes on."""

    def __init__(self, env: VectorEnv, log_dir: str | Path, env_id: str, rank: int = 0) -> None:
        """Creates the folder where it is missing, and opens one file per environment.

        Args:
          env: an environment with the contract of `common.vec_env`.
          log_dir: folder for the files.
          env_id: the id written to their first line.
          rank: MPI rank, the first part of their names.

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
        """Steps, and writes the games that ended."""
        result = self.env.step(actions)
        infos = result[-1]
        for i in np.flatnonzero(infos.get("_episode", ())).tolist():
            self._add(i, infos["episode"]["r"][i], infos["episode"]["l"][i])
        return result

    def get_state(self) -> Arrays:
        """Returns the state of the environments and the sizes of the files."""
        sizes = np.array([file.size for file in self._files], np.int64)
        return with_prefix("games", super().get_state()) | {"file_sizes": sizes}

    def set_state(self, state: Arrays) -> None:
        """Continues from a state, and drops the rows that were written after it."""
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
    """Returns `t_start` of an existing monitor file, or None where there is none yet."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    try:
        return float(json.loads(first.removeprefix("# "))["t_start"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: exists and is not a monitor file; move it away") from error
