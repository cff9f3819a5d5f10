"""Says which rank the others wait for, when one does not come.

MPI's calls wait for ever. So each rank notes, in memory that the ranks of one machine share, since when it has been in
a call, and a thread looks at these notes now and then. It makes no MPI calls itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mpi4py import MPI

from common.shared_memory import SharedMemory, open_shared

PATIENCE = 60.0  # seconds of waiting until it is said
_RANK, _PROCESS, _SINCE = range(3)  # columns of the notes; the last is 0 outside of calls
_COLUMNS = 3


class Watch:
    """The notes of the ranks on this machine, and the thread that reads them.

    Args:
      comm: all ranks, each of which makes its own watch at the same time.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._size = comm.size
        here = comm.Split_type(MPI.COMM_TYPE_SHARED)
        rows = here.size
        size = rows * _COLUMNS * np.dtype(np.float64).itemsize
        memory = SharedMemory(size) if here.rank == 0 else None
        path = here.bcast(memory and memory.path)
        try:
            self._memory = memory or open_shared(path, size)
        except OSError:  # in another container
            self._memory, rows = SharedMemory(size), 1

        self._notes = np.ndarray((rows, _COLUMNS), np.float64, self._memory.buf)
        self._own = self._notes[here.rank % rows]
        self._own[:] = comm.rank, os.getpid(), 0
        here.Barrier()
        threading.Thread(target=self._look_again, name="watch", daemon=True).start()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Notes that this rank is in a call that waits for others."""
        self._own[_SINCE] = time.monotonic()
        try:
            yield
        finally:
            self._own[_SINCE] = 0

    def _look_again(self) -> None:
        said = 0.0
        while True:
            time.sleep(PATIENCE / 4)
            since = float(self._own[_SINCE])
            if since and since != said and time.monotonic() - since > PATIENCE and (missing := self._missing()):
                print(
                    f"rank {self._own[_RANK]:.0f} has waited {PATIENCE:g} s for {missing}", file=sys.stderr, flush=True
                )
                said = since

    def _missing(self) -> str:
        """Names the ranks that are waited for; "" where another rank of this machine does so, or none is missing."""
        notes = self._notes.copy()
        states = [_state(int(note[_PROCESS])) for note in notes]
        here = [bool(note[_SINCE]) and state != "stopped" for note, state in zip(notes, states, strict=True)]
        if notes[here.index(True), _RANK] != self._own[_RANK]:
            return ""
        absent = [
            f"rank {note[_RANK]:.0f} (process {note[_PROCESS]:.0f}, {state})"
            for note, state, present in zip(notes, states, here, strict=True)
            if not present
        ]
        elsewhere = "a rank of another machine or container" if self._size > len(notes) else ""
        return ", ".join(absent) or elsewhere


def _state(process: int) -> str:
    """Says of a process on this machine whether it is running, stopped or gone."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
    return "stopped" if state in "Tt" else "running"
