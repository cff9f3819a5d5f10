"""Forms: what is computed from the Kronecker factors of a block, and how it preconditions a gradient.

The forms for a pair of matrices are `CholeskyForm` and `EigenForm`. `form_for` applies them to groups of pairs, and
gives diagonals the inverse that their structure allows. All of it but the preconditioning runs on the host, in NumPy
and LAPACK.
"""

from __future__ import annotations

import abc
from typing import final

import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.lapack import NotPositiveDefiniteError, spd_inverse


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
      rank: how many of the largest eigenvalues of A are computed, where A is at least 4 times as large; the others are
        replaced by their mean. The method is a randomized range finder (Halko et al. 2011, algorithm 4.4). None
        computes all; 0 says the same.
    """

    def __init__(self, rank: int | None = 256) -> None:
        self.rank = rank or None

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
        a_values = np.maximum(a_values, 0)
        s_values = np.maximum(s_values, 0)

        outside = np.zeros(len(s))  # [O], the scale in directions of A whose eigenvalues were left out
        if kept < len(a):
            others = max(np.trace(a) - a_values.sum(), 0) / (len(a) - kept)
            outside = 1 / (others * s_values + damping)
        inside = 1 / (np.outer(a_values, s_values) + damping) - outside  # [kept, O]
        return a_vectors, s_vectors, inside.astype(a.dtype), outside.astype(a.dtype)

    def precondition(self, gradient: tf.Tensor, *tensors: tf.Tensor) -> tf.Tensor:
        a_vectors, s_vectors, inside, outside = tensors
        rotated = tf.matmul(gradient, s_vectors)  # [I, O]
        within = tf.matmul(a_vectors, tf.matmul(a_vectors, rotated, transpose_a=True) * inside)
        return tf.matmul(within + rotated * outside, s_vectors, transpose_b=True)

    def _kept(self, size: int) -> int:
        return self.rank if self.rank is not None and 4 * self.rank <= size else size


def _largest_eigenpairs(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """About the largest eigenvalues [count] and their eigenvectors [D, count] of a symmetric matrix [D, D].

    The same matrix gives the same result.
    """
    basis = np.random.default_rng(0).standard_normal((len(matrix), count), dtype=matrix.dtype)
    for _ in range(2):
        basis, _ = np.linalg.qr(matrix @ basis)
    values, vectors = np.linalg.eigh(basis.T @ (matrix @ basis))
    return values, basis @ vectors


def form_for(form: Form, a_shape: tuple[int, ...], s_shape: tuple[int, ...]) -> Form:
    """The form for factors of these shapes, where `form` is that for a pair of matrices.

    Args:
      form: for A [I, I] and S [O, O].
      a_shape: [I, I]; [G, I, I] in groups; or [I], a diagonal.
      s_shape: alike.
    """
    if len(a_shape) == 3:
        return GroupedForm(form, a_shape[0])
    if len(a_shape) == 1 or len(s_shape) == 1:
        return DiagonalForm(len(a_shape) == 1, len(s_shape) == 1)
    return form


@final
class GroupedForm(Form):
    """A form for each of G independent groups: tensors get a leading axis [G]."""

    def __init__(self, form: Form, groups: int) -> None:
        self._form = form
        self._groups = groups

    def shapes(self, rows: int, columns: int) -> list[tuple[int, ...]]:
        return [(self._groups, *shape) for shape in self._form.shapes(rows, columns)]

    def cost(self, rows: int, columns: int) -> float:
        return self._groups * self._form.cost(rows, columns)

    def invert(self, a: np.ndarray, s: np.ndarray, damping: float) -> tuple[np.ndarray, ...]:
        groups = [self._form.invert(*pair, damping) for pair in zip(a, s, strict=True)]
        return tuple(np.stack(tensors) for tensors in zip(*groups, strict=True))

    def precondition(self, gradient: tf.Tensor, *tensors: tf.Tensor) -> tf.Tensor:
        rows = [tensor[:, None] if len(tensor.shape) == 2 else tensor for tensor in tensors]  # [G, O] -> [G, 1, O]
        return self._form.precondition(gradient, *rows)


@final
class DiagonalForm(Form):
    """Damping of the product where A, S or both are diagonals.

    U = Q_A [(Q_A^T V Q_S) / (a_i s_j + lambda)] Q_S^T, where Q is the identity for a diagonal: exactly
    (A (x) S + lambda I)^-1 V.

    Args:
      is_diagonal_a, is_diagonal_s: which of the factors are diagonals.
    """

    def __init__(self, is_diagonal_a: bool, is_diagonal_s: bool) -> None:
        self._is_diagonal_a = is_diagonal_a
        self._is_diagonal_s = is_diagonal_s

    def shapes(self, rows: int, columns: int) -> list[tuple[int, ...]]:
        return [*((length, length) for length in self._rotated(rows, columns)), (rows, columns)]

    def _rotated(self, rows: int, columns: int) -> list[int]:
        """The lengths of the factors that have eigenvectors."""
        a = [] if self._is_diagonal_a or rows == 1 else [rows]
        return a if self._is_diagonal_s or columns == 1 else [*a, columns]

    def cost(self, rows: int, columns: int) -> float:
        return rows * columns + sum(length**3 for length in self._rotated(rows, columns))

    def invert(self, a: np.ndarray, s: np.ndarray, damping: float) -> tuple[np.ndarray, ...]:
        if not (np.isfinite(a).all() and np.isfinite(s).all()):
            raise NotPositiveDefiniteError("not finite")

        vectors = []
        values = []
        for factor in (a, s):
            if factor.size == len(factor):
                values.append(factor.ravel())
                continue
            eigenvalues, eigenvectors = np.linalg.eigh(factor)
            values.append(np.maximum(eigenvalues, 0))
            vectors.append(eigenvectors)
        return *vectors, 1 / (np.outer(*values) + damping)

    def precondition(self, gradient: tf.Tensor, *tensors: tf.Tensor) -> tf.Tensor:
        *vectors, scale = tensors
        columns = gradient.shape[-1]
        s_vectors = None if self._is_diagonal_s or columns == 1 else vectors.pop()
        a_vectors = vectors.pop() if vectors else None

        result = gradient if s_vectors is None else tf.matmul(gradient, s_vectors)
        if a_vectors is None:
            result *= scale
        else:
            result = tf.matmul(a_vectors, tf.matmul(a_vectors, result, transpose_a=True) * scale)
        return result if s_vectors is None else tf.matmul(result, s_vectors, transpose_b=True)
