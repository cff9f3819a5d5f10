"""Monitor files in the format of Baselines: one CSV row per finished game."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from common.errors import UserError


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
            started = _start_time(path)
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot write the monitor file ({error.strerror})") from error
        self._start = time.time() if started is None else started
        if started is not None:
            self._write("" if path.read_bytes().endswith(b"\n") else "\n")  # a crash may have cut off the last row
        else:
            self._write("# " + json.dumps({"t_start": self._start, "env_id": env_id}) + "\nr,l,t\n")

    def add(self, score: float, length: int) -> None:
        """Appends one finished game: its score, and its length in steps."""
        self._write(f"{round(float(score), 6)},{int(length)},{round(time.time() - self._start, 6)}\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


class Monitor(VectorWrapper):
    """Writes every game that ends to the monitor file of its environment."""

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
        folder = Path(log_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot create the folder ({error.strerror})") from error
        self._files = [MonitorFile(folder / f"{rank}.{i}.monitor.csv", env_id) for i in range(env.num_envs)]

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps, and writes the games that ended."""
        result = self.env.step(actions)
        infos = result[-1]
        for i in np.flatnonzero(infos.get("_episode", ())):
            self._files[i].add(infos["episode"]["r"][i], infos["episode"]["l"][i])
        return result

    def close(self, **kwargs: Any) -> None:
        """Closes the files and the environment."""
        for file in self._files:
            file.close()
        super().close(**kwargs)


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
