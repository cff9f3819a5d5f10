"""TensorFlow graphs that are traced once, and whose results are means over the ranks."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.distributed import Group, averaged

MANY = 32  # a warning is given when there are so many graphs
_LOG = logging.getLogger(__name__)


def unchanged(result: Any) -> Any:
    """What was given."""
    return result


class Graphs:
    """Calls functions as graphs; there is one graph for each function and shape of a row.

    Args:
      group: ranks that each call it with their part of a batch; None for a single process.
    """

    def __init__(self, group: Group | None) -> None:
        self._group = group
        self._graphs: dict[tuple, Callable] = {}

    @property
    def functions(self) -> list[Callable]:
        """The TensorFlow functions made so far, one for each function and shape of a row."""
        return list(self._graphs.values())

    def call(self, compute: Callable, function: Any, *batch: Any, then: Callable = unchanged) -> Any:
        """`then(mean over the ranks of compute(function, *batch))`.

        Args:
          compute: `compute(function, *batch)` returns a nested structure of tensors of one type.
          function: what the user has written, such as an objective; pass the same object every time.
          *batch: tensors or arrays, or structures of them.
          then: a function of such a structure; pass the same object every time.
        """
        shapes = tuple(tuple(np.shape(part)[1:]) for part in tf.nest.flatten(batch))
        key = compute, then, function, shapes
        if key not in self._graphs:
            self._graphs[key] = averaged(functools.partial(compute, function), then, self._group)
            if len(self._graphs) == MANY:
                _LOG.warning("K-FAC has %d graphs, each for another function or shape: pass the same function", MANY)
        return self._graphs[key](*batch)
