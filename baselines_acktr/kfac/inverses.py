"""The two places where the damped inverses of the Kronecker factors are computed.

A *form* (`kfac.forms`) says what is computed from the factors and how it preconditions a gradient. An *inverter* says
where: inline, or on a background thread fed by a queue of depth 1. All of this runs on the host, in NumPy and LAPACK;
the results go back to whatever device the optimizer's variables live on.
"""

from __future__ import annotations

import abc
import functools
import queue
import threading
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import tensorflow as tf
from threadpoolctl import ThreadpoolController

from baselines_acktr.kfac.forms import Form, form_for
from baselines_acktr.kfac.lapack import NotPositiveDefiniteError


class NoInverseError(ArithmeticError):
    """The very first factors could not be inverted, so there are no older inverses to go on with."""


class Factors(NamedTuple):
    """Unbiased running averages of one block, in the shapes of its factors: `a` [I, I] and `s` [O, O], as a rule."""

    name: str
    a: tf.Tensor
    s: tf.Tensor


class Snapshot(NamedTuple):
    """A consistent copy of all factors, taken after `step` updates."""

    step: int
    factors: list[Factors]


class Refresh(NamedTuple):
    """What came of a snapshot, or the reason why nothing did.

    Attributes:
      step: of the snapshot.
      inverses: the form's tensors of one layer after the other, row by row, in one vector [N]: the learner takes it
        over in one call, and a GPU's memory in one copy. None if there are none.
      failure: why.
    """

    step: int
    inverses: np.ndarray | None
    failure: str = ""


_INVERTING = threading.Lock()


@functools.cache
def _blas() -> ThreadpoolController:
    """The thread pools of the process, which take milliseconds to find."""
    return ThreadpoolController()


def invert_all(snapshot: Snapshot, form: Form, damping: float) -> Refresh:
    """Inverts every layer; one bad factor fails the whole refresh, so that the set in use stays consistent.

    BLAS runs on one thread: its idle threads spin, which would take more from the learner than they give here. That
    holds for the process while one inverts, so others wait.
    """
    with _INVERTING, _blas().limit(limits=1, user_api="blas"):
        return _invert_each(snapshot, form, damping)


def _invert_each(snapshot: Snapshot, form: Form, damping: float) -> Refresh:
    parts = []
    for name, a, s in snapshot.factors:
        try:
            arrays = form_for(form, a.shape, s.shape).invert(a.numpy(), s.numpy(), damping)
        except (NotPositiveDefiniteError, np.linalg.LinAlgError) as error:
            return Refresh(snapshot.step, None, f"layer {name!r}: {error}")
        part = _joined(arrays)
        if not np.isfinite(part).all():
            return Refresh(snapshot.step, None, f"layer {name!r}: the inverse is not finite")
        parts.append(part)
    return Refresh(snapshot.step, _joined(parts))


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The numbers of one array of any shape after the other, row by row, in one vector [N]; empty if there are none."""
    return np.concatenate([array.ravel() for array in arrays]) if arrays else np.empty(0)


class Inverter(abc.ABC):
    """Turns snapshots into refreshes. A context manager: leaving it releases what it holds.

    Attributes:
      immediate: whether a refresh is there as soon as its snapshot is submitted.
    """

    immediate: bool = False

    @property
    @abc.abstractmethod
    def idle(self) -> bool:
        """Whether a snapshot can be submitted now."""

    @abc.abstractmethod
    def submit(self, snapshot: Snapshot, form: Form, damping: float) -> None:
        """Starts on a snapshot; only when `idle`."""

    @abc.abstractmethod
    def poll(self, wait: bool = False) -> Refresh | None:
        """The finished refresh, once, or None; with `wait` blocks until it is there. Raises what the work raised."""

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the inverter; it may be used again afterwards."""

    def __enter__(self) -> Inverter:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


@final
class InlineInverter(Inverter):
    """Inverts in the caller's thread, at once: the run is bit-reproducible."""

    immediate = True

    def __init__(self) -> None:
        self._finished: Refresh | None = None

    @property
    def idle(self) -> bool:
        return self._finished is None

    def submit(self, snapshot: Snapshot, form: Form, damping: float) -> None:
        self._finished = invert_all(snapshot, form, damping)

    def poll(self, wait: bool = False) -> Refresh | None:
        finished = self._finished
        self._finished = None
        return finished

    def close(self) -> None:
        self._finished = None


@final
class BackgroundInverter(Inverter):
    """Inverts on a daemon thread that sleeps on a queue of depth 1 (Wu et al. 2017, section 4: asynchronous inverses).

    The thread starts with the first snapshot and ends with `close`. An exception in it is raised by the next `poll`.
    """

    def __init__(self) -> None:
        self._requests: queue.Queue = queue.Queue(maxsize=1)
        self._results: queue.Queue = queue.Queue(maxsize=1)
        self._thread: threading.Thread | None = None
        self._busy = False

    @property
    def idle(self) -> bool:
        return not self._busy

    def submit(self, snapshot: Snapshot, form: Form, damping: float) -> None:
        if self._busy:
            raise RuntimeError("the background inverter is still working on the previous snapshot")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="kfac-inverses", daemon=True)
            self._thread.start()
        self._busy = True
        self._requests.put((snapshot, form, damping))

    def poll(self, wait: bool = False) -> Refresh | None:
        if not self._busy:
            return None
        try:
            result = self._results.get(block=wait)
        except queue.Empty:
            return None
        self._busy = False
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        if self._thread is None:
            return
        if self._busy:
            self._results.get()
            self._busy = False
        self._requests.put(None)
        self._thread.join()
        self._thread = None

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            try:
                result: Refresh | BaseException = invert_all(*request)
            except BaseException as error:  # handed to the learner by `poll`
                result = error
            self._results.put(result)


INVERTERS: dict[str, type[Inverter]] = {"background": BackgroundInverter, "inline": InlineInverter}
