"""Memory that processes of one machine share, such as an environment and its workers.

`multiprocessing.shared_memory` keeps its blocks in /dev/shm, which is small in many containers: a process that writes
beyond its room is killed by SIGBUS. The blocks here have no name and no room to run out of but the machine's memory,
and they end with the last process that has them.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

from common.errors import UserError


class SharedMemory:
    """A block of memory, zeros at first. A process that is started with it as an argument shares it.

    Attributes:
      buf: the bytes.
      path: where other processes of this user find it while this one has it, for `open_shared`.

    Args:
      size: bytes.

    Raises:
      UserError: there is none to be had.
    """

    def __init__(self, size: int) -> None:
        try:
            descriptor = os.memfd_create("environments")
            self._attach(descriptor, size)
        except OSError as error:
            raise UserError(f"--num_env: no memory can be shared with worker processes: {error.strerror}") from error

    def close(self) -> None:
        """Gives the block back; nothing may refer to `buf` any more."""
        self.buf.close()
        self._close_descriptor()

    def _attach(self, descriptor: int, size: int) -> None:
        self._descriptor, self._size = descriptor, size
        self._close_descriptor = weakref.finalize(self, os.close, descriptor)
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self.buf = mmap.mmap(descriptor, size)
        self.path = f"/proc/{os.getpid()}/fd/{descriptor}"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _attached, (reduction.DupFd(self._descriptor), self._size)  # type: ignore[attr-defined]


def open_shared(path: str, size: int) -> SharedMemory:
    """Opens the block that another process has under this path; raises OSError where that is out of sight."""
    return _attached_to(os.open(path, os.O_RDWR | os.O_CLOEXEC), size)


def _attached(duplicate: Any, size: int) -> SharedMemory:
    """The block in a worker process."""
    return _attached_to(duplicate.detach(), size)


def _attached_to(descriptor: int, size: int) -> SharedMemory:
    memory = SharedMemory.__new__(SharedMemory)
    memory._attach(descriptor, size)
    return memory
