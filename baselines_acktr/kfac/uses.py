"""Finds weights that act where K-FAC does not see them: outside of the recorded calls of their layer.

There are two cases. A kernel that another layer multiplies by, too, has a gradient from there that no tap knows of, so
its factors would be wrong. A layer that is called inside a loop of its own has pre-activations that no gradient of the
outer graph reaches. Both are found in the graph that is being traced; eager code is not checked.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from baselines_acktr.kfac.layers import Factorization, Tap
from baselines_acktr.kfac.layers.base import UnsupportedLayerError, wrapped


class Uses:
    """The operations that the calls of some layers consist of, in the graph that is being traced."""

    def __init__(self, found: Sequence[Factorization]) -> None:
        self._found = [one for one in found if one.is_recorded]
        self._graph = tf.compat.v1.get_default_graph()
        self._own: dict[int, set[str]] = {id(one.layer): set() for one in self._found}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within the context operations of each layer's calls are noted."""
        layers = {id(one.layer): one.layer for one in self._found}
        with contextlib.ExitStack() as stack:
            for layer in layers.values():
                stack.enter_context(wrapped(layer, "call", functools.partial(self._noting, layer)))
            yield

    def _noting(self, layer: keras.layers.Layer, original: Callable) -> Callable:
        def noted_call(*args, **kwargs):
            graph = tf.compat.v1.get_default_graph()
            start = len(graph.get_operations())
            result = original(*args, **kwargs)
            self._own[id(layer)] |= {operation.name for operation in graph.get_operations()[start:]}
            return result

        return noted_call

    def check(self, taps: list[Tap], log_likelihood: tf.Tensor) -> None:
        """Raises an UnsupportedLayerError that names the first layer whose weights act unseen."""
        if tf.executing_eagerly():
            return
        for tap in taps:
            if tap.factorization.is_recorded and tap.outputs.graph is not self._graph:
                raise _refusal(tap.layer, "is called inside a loop or a function of its own")

        needed = _ancestors(log_likelihood)
        handles = {id(external): internal for external, internal in getattr(self._graph, "captures", ())}
        for one in self._found:
            for variable in one.variables:
                handle = handles.get(id(variable.value.handle))
                readers = [] if handle is None else [operation.name for operation in handle.consumers()]
                if any(name in needed and name not in self._own[id(one.layer)] for name in readers):
                    raise _refusal(one.layer, "has weights that are used outside of its calls, too")


def _refusal(layer: keras.layers.Layer, reason: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"layer {layer.name!r} {reason}, which its factors do not see: Kfac(model, diagonal=[{layer.name!r}]) takes "
        "the diagonal of its Fisher"
    )


def _ancestors(tensor: tf.Tensor) -> set[str]:
    """The names of the operations that a tensor is made by, and that a gradient flows through."""
    names: set[str] = set()
    waiting = [tensor.op]
    while waiting:
        operation = waiting.pop()
        if operation.name in names or operation.type in ("StopGradient", "PreventGradient"):
            continue
        names.add(operation.name)
        waiting += [source.op for source in operation.inputs]
    return names
