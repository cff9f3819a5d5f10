"""The ranks that `mpirun` has started: importing this module initialises MPI."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, final

import mpi4py
import numpy as np

from common.communicator import Communicator
from common.errors import UserError

mpi4py.rc.thread_level = "funneled"
os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")  # a rank that waits leaves its core to its other threads
from mpi4py import MPI  # noqa: E402 (initialises)

from common.mpi_watch import Watch  # noqa: E402

T = TypeVar("T")


@final
class World(Communicator):
    """All ranks of MPI's COMM_WORLD.

    Attributes:
      library: name of the MPI library.
    """

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD
        self.rank, self.size = self._comm.rank, self._comm.size
        self.library = MPI.Get_library_version().split(",")[0]
        self._watch = Watch(self._comm)

    def sum(self, array: np.ndarray) -> np.ndarray:
        total = np.empty_like(array, order="C")
        with self._timed():
            self._comm.Allreduce(np.ascontiguousarray(array), total)
        return total

    def stack(self, array: np.ndarray) -> np.ndarray:
        stacked = np.empty((self.size, *array.shape), array.dtype)
        with self._timed():
            self._comm.Allgather(np.ascontiguousarray(array), stacked)
        return stacked

    def all(self, flag: bool) -> bool:
        return -self.max(-int(flag)) == 1

    def max(self, number: int) -> int:
        result = np.empty(1, np.int64)
        with self._timed():
            self._comm.Allreduce(np.array([number]), result, MPI.MAX)
        return int(result[0])

    def start_join(self, part: np.ndarray, sizes: Sequence[int]) -> Callable[[], np.ndarray]:
        joined = np.empty(sum(sizes), part.dtype)
        with self._timed():
            request = self._comm.Iallgatherv(part, [joined, sizes])

        def wait() -> np.ndarray:
            with self._timed():
                request.Wait()
            return joined

        return wait

    def gather(self, value: T) -> list[T] | None:
        with self._timed():
            return self._comm.gather(value)

    def scatter(self, values: Sequence[T] | None) -> T:
        with self._timed():
            return self._comm.scatter(values)

    def on_root(self, function: Callable[[], T]) -> T:
        outcome: tuple[Any, str | None] = (None, None)
        if self.rank == 0:
            outcome = _attempt(function)
        with self._timed():
            value, mistake = self._comm.bcast(outcome)
        if mistake is not None:
            raise _agreed(mistake)
        return value

    def everywhere(self, function: Callable[[], T]) -> T:
        value: Any
        value, mistake = _attempt(function)
        with self._timed():
            outcomes = self._comm.allgather(mistake)
        mistakes = [text for text in outcomes if text is not None]
        if mistakes:
            raise _agreed(mistakes[0])
        return value

    def abort(self, code: int) -> None:
        self._comm.Abort(code)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            with self._watch.waiting():
                yield
        finally:
            self.seconds += time.perf_counter() - start


def _agreed(text: str) -> UserError:
    error = UserError(text)
    error.agreed = True
    return error


def _attempt(function: Callable[[], T]) -> tuple[T | None, str | None]:
    """What a function returns and None, or None and the text of its UserError."""
    try:
        return function(), None
    except UserError as error:
        return None, str(error)
