"""TensorFlow graphs of functions whose control flow is plain Python, or TensorFlow's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def graph(function: Callable[..., Any]) -> Any:
    """The function as a graph, traced once for all batch sizes.

    Python's `if` and `for` run while it is traced: AutoGraph, which would look for those that depend on tensors, takes
    two thirds of the time of tracing. Such branches and loops are `tf.cond`, `tf.where` and `tf.while_loop`.
    """
    return tf.function(function, autograph=False, reduce_retracing=True)
