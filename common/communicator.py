"""What the processes that train one agent together say to each other, and one process alone.

All of a rank's communication is in one thread, that of its caller, and all ranks make the same calls in the same order.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, final

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


class Communicator(abc.ABC):
    """What the ranks of a run say to each other.

    Attributes:
      rank: number of this process, from 0.
      size: how many there are.
      seconds: time spent in these calls so far, waiting for other ranks included.
    """

    rank = 0
    size = 1
    seconds = 0.0

    def share(self, count: int) -> int:
        """How many of `count` things in all each rank has, rounded up."""
        return -(-count // self.size)

    def share_of_rows(self, rows: int | None) -> int | None:
        """How many of `rows` rows of a batch each rank has, rounded up; None, which stands for all rows, stays."""
        return None if rows is None else self.share(rows)

    @abc.abstractmethod
    def sum(self, array: np.ndarray) -> np.ndarray:
        """The sum of all ranks' arrays, of the same shape and type; the same bits everywhere."""

    def mean(self, array: np.ndarray) -> np.ndarray:
        """The mean of all ranks' arrays."""
        return self.sum(array) / self.size

    @abc.abstractmethod
    def stack(self, array: np.ndarray) -> np.ndarray:
        """All ranks' arrays [...], in their order: [size, ...]."""

    @abc.abstractmethod
    def all(self, flag: bool) -> bool:
        """Whether the flags of all ranks are true."""

    @abc.abstractmethod
    def max(self, number: int) -> int:
        """The largest of all ranks' numbers."""

    @abc.abstractmethod
    def start_join(self, part: np.ndarray, sizes: Sequence[int]) -> Callable[[], np.ndarray]:
        """Starts to join all ranks' vectors, of these sizes; what is returned waits for the result and returns it."""

    @abc.abstractmethod
    def gather(self, value: T) -> list[T] | None:
        """All ranks' values in rank 0, None elsewhere; pickled."""

    @abc.abstractmethod
    def scatter(self, values: Sequence[T] | None) -> T:
        """The value that rank 0, which alone has the list, has for this rank; pickled."""

    @abc.abstractmethod
    def on_root(self, function: Callable[[], T]) -> T:
        """What the function returns in rank 0, which alone calls it; all ranks raise the UserError that it raises."""

    @abc.abstractmethod
    def everywhere(self, function: Callable[[], T]) -> T:
        """What the function returns in this rank; where it raises a UserError in some, all raise the first one's."""

    @abc.abstractmethod
    def abort(self, code: int) -> None:
        """Ends the processes of all ranks with this exit code; alone it does nothing."""


@final
class Alone(Communicator):
    """A single process."""

    def sum(self, array: np.ndarray) -> np.ndarray:
        return array

    def stack(self, array: np.ndarray) -> np.ndarray:
        return array[None]

    def all(self, flag: bool) -> bool:
        return flag

    def max(self, number: int) -> int:
        return number

    def start_join(self, part: np.ndarray, sizes: Sequence[int]) -> Callable[[], np.ndarray]:
        return lambda: part

    def gather(self, value: T) -> list[T] | None:
        return [value]

    def scatter(self, values: Sequence[T] | None) -> T:
        assert values is not None
        return values[0]

    def on_root(self, function: Callable[[], T]) -> T:
        return function()

    def everywhere(self, function: Callable[[], T]) -> T:
        return function()

    def abort(self, code: int) -> None:
        pass


ALONE = Alone()
