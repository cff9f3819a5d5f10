"""Arrays by name, the form in which everything that a run changes goes to a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]


def with_prefix(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays under the names `prefix/name`; one whose name is "" gets the name `prefix`."""
    return {f"{prefix}/{name}" if name else prefix: array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Inverse of `with_prefix`: those arrays whose names start with `prefix/`, without it, and that named `prefix`."""
    start = prefix + "/"
    found = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    return found | ({"": arrays[prefix]} if prefix in arrays else {})
