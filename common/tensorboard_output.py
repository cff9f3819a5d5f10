"""Scalars for TensorBoard, and the groups that its readers show them in."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

_ROLLOUT = ("episodes", "eplenmean", "eprewmean")
_TIME = ("comm_share", "fps", "memory_mib", "nupdates", "ranks", "total_timesteps")


def tag(key: str) -> str:
    """Returns a key of the log with its group in front: `rollout/`, `time/`, `eval/` or `train/`, unless it has one."""
    if key in _ROLLOUT:
        return f"rollout/{key}"
    if key in _TIME:
        return f"time/{key}"
    if "/" in key:
        return key
    return f"eval/{key}" if key.startswith("eval") else f"train/{key}"


class EventFile:
    """A file of TensorBoard's events, each a number of its own (`simple_value`), as every reader takes them.

    It is written by TensorFlow's record writer, so TensorBoard itself need not be installed.

    Args:
      folder: it is made; each process that writes there has a file of its own.
    """

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf  # late: it takes seconds

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._event, self._summary = tf.compat.v1.Event, tf.compat.v1.Summary
        self._session_log = tf.compat.v1.SessionLog
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")

    def add(self, values: dict[str, float], step: int) -> None:
        """Writes {tag: number} at a step."""
        summary = self._summary(value=[self._summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])
        self._write(step=step, summary=summary)

    def restart(self, step: int) -> None:
        """Has readers forget what earlier files of the folder say of this step and later ones."""
        self._write(step=step, session_log=self._session_log(status=self._session_log.START))

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, **content: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **content).SerializeToString())
        self._writer.flush()
