"""Inverse of a symmetric positive definite matrix by LAPACK's Cholesky routines, without holding the GIL.

SciPy's own wrappers hold Python's global lock for the whole call, which would stall the learner while the background
thread inverts. The same routines called through `ctypes` release it.
"""

from __future__ import annotations

import ctypes

import numpy as np
from scipy.linalg import cython_lapack


class NotPositiveDefiniteError(ArithmeticError):
    """The matrix has a leading minor that is not positive, or an entry that is not finite."""


def _routine(name: str):
    capsule = cython_lapack.__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype = ctypes.c_char_p
    get_name.argtypes = [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer = get_pointer(capsule, get_name(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5)(pointer)  # (uplo, n, a, lda, info); CFUNCTYPE drops the GIL


_FACTORIZE = {np.dtype(np.float32): _routine("spotrf"), np.dtype(np.float64): _routine("dpotrf")}
_INVERT = {np.dtype(np.float32): _routine("spotri"), np.dtype(np.float64): _routine("dpotri")}


def _call(routine, matrix: np.ndarray) -> int:
    size = ctypes.c_int(len(matrix))
    info = ctypes.c_int(0)
    routine(b"U", ctypes.byref(size), matrix.ctypes.data, ctypes.byref(size), ctypes.byref(info))
    return info.value


def spd_inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix [D, D] in float32 or float64.

    Raises:
      NotPositiveDefiniteError: if it is not positive definite or not finite.
    """
    if not np.isfinite(matrix).all():
        raise NotPositiveDefiniteError("not finite")
    inverse = np.array(matrix, order="C")
    if _call(_FACTORIZE[inverse.dtype], inverse) or _call(_INVERT[inverse.dtype], inverse):
        raise NotPositiveDefiniteError("not positive definite")
    lower = np.tril(inverse)  # LAPACK's upper triangle of a column-major matrix is numpy's lower
    return lower + np.tril(lower, -1).T
