"""Other libraries' algorithms, trained live in a process of their own: stable-baselines3's A2C and PPO, and
sb3-contrib's TRPO.

The process may be of another Python (`--peer_python`), which has these libraries.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from baselines_acktr.benchmark import rivals_peer
from common.errors import RunFailedError, UserError, brief

ALGS = ("a2c", "ppo", "trpo")
CLOSE_SECONDS = 5.0  # until a process that does not end is killed


def peer_command(python: str, arguments: Sequence[object]) -> list[str]:
    """The command line of `rivals_peer` with these arguments."""
    return [python, str(Path(rivals_peer.__file__).resolve()), *map(str, arguments)]


def require_peers(python: str, extra: str) -> None:
    """Checks that a Python has the libraries.

    Args:
      python: its program.
      extra: what of this package brings them.

    Raises:
      UserError: there is no such program, or it does not have them.
    """
    if shutil.which(python) is None:
        raise UserError(f"--peer_python={python}: no such program")
    if subprocess.run([python, "-c", "import stable_baselines3, sb3_contrib"], capture_output=True).returncode:
        raise UserError(
            f"--peer_python={python}: has no stable-baselines3 and sb3-contrib; they come with "
            f"`pip install baselines_acktr[{extra}]`"
        )


def last_line(file: IO[str]) -> str:
    """The last line of a file, "" where it is empty."""
    file.seek(0)
    return file.read().strip().rpartition("\n")[2]


class PeerLoop:
    """The training loop of another library's algorithm, which takes turns with those of this package.

    Attributes:
      batch: timesteps per batch.
      warm_up: number of updates before the measurement.

    Args:
      alg: one of ALGS.
      env_id: id of the environments.
      num_env: number of environments.
      batch: timesteps per batch.
      python: program that has the libraries.
    """

    warm_up = 1

    def __init__(self, alg: str, env_id: str, num_env: int, batch: int, python: str) -> None:
        self.batch = batch
        self._name = f"sb3-{alg}"
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`close` closes it)
        self._process = subprocess.Popen(
            peer_command(python, (env_id, alg, 0, "-", num_env, batch)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def run(self, updates: int) -> float:
        """Trains for so many updates and returns the timesteps per second.

        Raises:
          RunFailedError: the process has ended.
        """
        start = time.perf_counter()
        timesteps = updates * self.batch
        with contextlib.suppress(BrokenPipeError):  # it has ended, as the missing answer says
            self._ask(f"{timesteps}\n")
        if not self._answered():
            self._process.wait()
            reason = brief(last_line(self._errors)) or f"exit {self._process.returncode}"
            raise RunFailedError(f"{self._name}: {reason}")

        return timesteps / (time.perf_counter() - start)

    def close(self) -> None:
        """Ends the process, which ends when its input does."""
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=CLOSE_SECONDS)
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _answered(self) -> bool:
        """Waits for a line of results. Other lines are the libraries' own."""
        assert self._process.stdout is not None
        return any(line.startswith("{") for line in self._process.stdout)
