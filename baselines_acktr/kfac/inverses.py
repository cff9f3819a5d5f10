"""Damped inverses of the Kronecker factors, and the two places where they are computed.

A *form* says what is computed from the factors and how it preconditions a gradient. An *inverter* says where: inline,
or on a background thread fed by a queue of depth 1. All of this runs on the host, in NumPy and LAPACK; the results go
back to whatever device the optimizer's variables live on.
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

from baselines_acktr.kfac.lapack import NotPositiveDefiniteError, spd_inverse


class NoInverseError(ArithmeticError):
    """There are no inverses at all yet, and the first factors have none."""


class Factors(NamedTuple):
    """Unbiased running averages of one layer: `a` [I, I] and `s` [O, O]."""

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


class Form(abc.ABC):
    """What is computed from a layer's factors, and how that preconditions a gradient."""

    @abc.abstractmethod
    def shapes(self, rows: int, columns: int) -> list[tuple[int, ...]]:
        """Shapes of the tensors for a layer with weights [rows, columns]."""

    @abc.abstractmethod
    def cost(self, rows: int, columns: int) -> float:
        """About how long `invert` takes for such a layer, in any unit."""

    @abc.abstractmethod
    def invert(self, a: np.ndarray, s: np.ndarray, damping: float) -> tuple[np.ndarray, ...]:
        """The tensors for factors a [I, I] and s [O, O]; raises NotPositiveDefiniteError."""

    @abc.abstractmethod
    def precondition(self, gradient: tf.Tensor, *tensors: tf.Tensor) -> tf.Tensor:
        """The natural-gradient direction [I, O] of a gradient [I, O]."""


def _mean_diagonal(matrix: np.ndarray) -> float:
    return max(float(np.trace(matrix)) / len(matrix), 1e-12)


def _damped(matrix: np.ndarray, shift: float) -> np.ndarray:
    """The matrix [D, D] plus a multiple of the identity, in the matrix's type."""
    return matrix + (shift * np.eye(len(matrix))).astype(matrix.dtype)


@final
class CholeskyForm(Form):
    """Factored Tikhonov damping (Martens & Grosse 2015, section 6.3), each damped factor inverted by Cholesky.

    U = (A + pi sqrt(lambda) I)^-1 V (S + sqrt(lambda) / pi I)^-1,  pi^2 = (tr A / dim A) / (tr S / dim S)

    Where a factor is a single number, A = [a] or S = [s], no split is needed: U = (a S + lambda I)^-1 V exactly.
    """

    def shapes(self, rows: int, columns: int) -> list[tuple[int, ...]]:
        return [(rows, rows), (columns, columns)]

    def cost(self, rows: int, columns: int) -> float:
        return rows**3 + columns**3

    def invert(self, a: np.ndarray, s: np.ndarray, damping: float) -> tuple[np.ndarray, ...]:
        if len(a) == 1:
            return np.ones_like(a), spd_inverse(_damped(a[0, 0] * s, damping))
        if len(s) == 1:
            return spd_inverse(_damped(s[0, 0] * a, damping)), np.ones_like(s)
        pi = np.sqrt(_mean_diagonal(a) / _mean_diagonal(s))
        return spd_inverse(_damped(a, pi * np.sqrt(damping))), spd_inverse(_damped(s, np.sqrt(damping) / pi))

    def precondition(self, gradient: tf.Tensor, *tensors: tf.Tensor) -> tf.Tensor:
        a_inverse, s_inverse = tensors
        return tf.matmul(a_inverse, tf.matmul(gradient, s_inverse))


@final
class EigenForm(Form):
    """Damping of the product in its eigenbasis, as in the OpenAI Baselines implementation of ACKTR.

    U = Q_A [(Q_A^T V Q_S) / (a_i s_j + lambda)] Q_S^T  with A = Q_A diag(a) Q_A^T and S = Q_S diag(s) Q_S^T.
    Where no eigenvalues are left out this is the exact solve with A (x) S + lambda I.

    Args:
      rank: of an `a` at least 4 times as large, only so many of the largest eigenvalues are computed, by a randomized
        range finder (Halko et al. 2011, algorithm 4.4), and the others are replaced by their mean; 0: never.
    """

    def __init__(self, rank: int = 256) -> None:
        self.rank = rank

    def shapes(self, rows: int, columns: int) -> list[tuple[int, ...]]:
        kept = self._kept(rows)
        return [(rows, kept), (columns, columns), (kept, columns), (columns,)]

    def cost(self, rows: int, columns: int) -> float:
        kept = self._kept(rows)
        return rows**2 * kept + columns**3

    def invert(self, a: np.ndarray, s: np.ndarray, damping: float) -> tuple[np.ndarray, ...]:
        for matrix in (a, s):
            if not np.isfinite(matrix).all():
                raise NotPositiveDefiniteError("not finite")
        kept = self._kept(len(a))
        a_values, a_vectors = np.linalg.eigh(a) if kept == len(a) else _largest_eigenpairs(a, kept)
        s_values, s_vectors = np.linalg.eigh(s)
        a_values, s_values = np.maximum(a_values, 0), np.maximum(s_values, 0)
        outside = np.zeros(len(s))
        if kept < len(a):
            others = max(np.trace(a) - a_values.sum(), 0) / (len(a) - kept)
            outside = 1 / (others * s_values + damping)
        inside = 1 / (np.outer(a_values, s_values) + damping) - outside
        return a_vectors, s_vectors, inside.astype(a.dtype), outside.astype(a.dtype)

    def precondition(self, gradient: tf.Tensor, *tensors: tf.Tensor) -> tf.Tensor:
        a_vectors, s_vectors, inside, outside = tensors
        rotated = tf.matmul(gradient, s_vectors)
        within = tf.matmul(a_vectors, tf.matmul(a_vectors, rotated, transpose_a=True) * inside)
        return tf.matmul(within + rotated * outside, s_vectors, transpose_b=True)

    def _kept(self, size: int) -> int:
        return self.rank if 0 < 4 * self.rank <= size else size


def _largest_eigenpairs(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """About the largest eigenvalues [count] and their eigenvectors [D, count] of a symmetric matrix [D, D].

    The same matrix gives the same result.
    """
    basis = np.random.default_rng(0).standard_normal((len(matrix), count), dtype=matrix.dtype)
    for _ in range(2):
        basis, _ = np.linalg.qr(matrix @ basis)
    values, vectors = np.linalg.eigh(basis.T @ (matrix @ basis))
    return values, basis @ vectors


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
            arrays = form.invert(a.numpy(), s.numpy(), damping)
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
        finished, self._finished = self._finished, None
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
