"""K-FAC on several ranks: what one packed buffer carries, whose rows get which draws, and who inverts what.

Every rank has as many rows of a batch as the others, and all of them the same model. Gradients and factors are means
over rows, so those of the batch are the means over the ranks. In each update they go from rank to rank as one vector.
With a `Divergence` the products with the exact Fisher follow, each as a vector of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, final

import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.forms import Form, form_for
from baselines_acktr.kfac.inverses import Inverter, Refresh, Snapshot
from common.graph import graph


class Group(Protocol):
    """The ranks that learn together (see `common.mpi.Communicator`)."""

    rank: int
    size: int

    def mean(self, array: np.ndarray) -> np.ndarray:
        """The mean of all ranks' arrays."""
        ...

    def all(self, flag: bool) -> bool:
        """Whether the flags of all ranks are true."""
        ...

    def start_join(self, part: np.ndarray, sizes: Sequence[int]) -> Callable[[], np.ndarray]:
        """Starts to join all ranks' vectors, of these sizes; what is returned waits for the result and returns it."""
        ...


def averaged(differentiate: Callable, apply: Callable, group: Group | None) -> Callable:
    """The function `apply(mean over the ranks of differentiate(*batch))`.

    In one process it is a single graph. Otherwise it is two, with the packed vector on the host between them. It is
    traced for the first batch, and once more for all batches with other numbers of rows.

    Args:
      differentiate: batch -> nested structure of tensors of one type, whose shapes do not depend on the batch's.
      apply: such a structure -> anything.
      group: the ranks; None for a single process.
    """
    if group is None or group.size == 1:
        return graph(functools.partial(_composition, apply, differentiate))
    specs: list[Any] = []

    def pack(*batch: Any) -> tf.Tensor:
        parts = differentiate(*batch)
        specs[:] = [tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), parts)]
        return tf.concat([tf.reshape(part, [-1]) for part in tf.nest.flatten(parts)], axis=0)

    def unpack(vector: tf.Tensor) -> Any:
        flat = tf.nest.flatten(specs[0])
        parts = tf.split(vector, [spec.shape.num_elements() for spec in flat])
        shaped = [tf.reshape(part, spec.shape) for part, spec in zip(parts, flat, strict=True)]
        return apply(tf.nest.pack_sequence_as(specs[0], shaped))

    packed = graph(pack)
    unpacked = tf.function(unpack, autograph=False)
    return lambda *batch: unpacked(group.mean(packed(*batch).numpy()))


def _composition(apply: Callable, differentiate: Callable, *batch: Any) -> Any:
    return apply(differentiate(*batch))


def triangle(matrix: tf.Tensor) -> tf.Tensor:
    """The upper triangle of symmetric matrices [..., D, D], as vectors [..., D (D + 1) / 2]."""
    *others, size, _ = matrix.shape
    rows, columns = np.triu_indices(size)
    return tf.gather(tf.reshape(matrix, [*others, -1]), tf.constant(rows * size + columns, tf.int32), axis=-1)


def symmetric(vector: tf.Tensor) -> tf.Tensor:
    """Inverse of `triangle`."""
    length = vector.shape[-1]
    size = int((8 * length + 1) ** 0.5) // 2
    upper = np.zeros((size, size), np.int32)
    upper[np.triu_indices(size)] = np.arange(length)
    return tf.gather(vector, tf.constant(upper + np.triu(upper, 1).T), axis=-1)


class OwnRows:
    """Draws for the rows of all ranks and returns those of one: a row gets the same draw whichever rank it is in.

    Args:
      generator: in the same state in all ranks, which it stays.
      group: the ranks.
    """

    def __init__(self, generator: tf.random.Generator, group: Group) -> None:
        self._generator = generator
        self._group = group

    def uniform(self, shape: tf.Tensor, **options: Any) -> tf.Tensor:
        """Uniform draws of a shape [B, ...]; arguments as for `tf.random.Generator.uniform`."""
        return self._own(self._generator.uniform(self._all(shape), **options), shape)

    def normal(self, shape: tf.Tensor, **options: Any) -> tf.Tensor:
        """Normal draws of a shape [B, ...]; arguments as for `tf.random.Generator.normal`."""
        return self._own(self._generator.normal(self._all(shape), **options), shape)

    def _all(self, shape: tf.Tensor) -> tf.Tensor:
        return tf.concat([[shape[0] * self._group.size], shape[1:]], axis=0)

    def _own(self, draws: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        first = self._group.rank * shape[0]
        return draws[first : first + shape[0]]


def owners(costs: Sequence[float], ranks: int) -> list[int]:
    """Which rank inverts each layer.

    The costliest layer is given away first, and each layer goes to the rank that has least to do so far.

    Args:
      costs: of each layer, in any unit.
      ranks: how many there are.
    """
    loads = [0.0] * ranks
    chosen = [0] * len(costs)
    for layer in sorted(range(len(costs)), key=lambda i: -costs[i]):
        chosen[layer] = loads.index(min(loads))
        loads[chosen[layer]] += costs[layer]
    return chosen


@final
class SharedInverter(Inverter):
    """Every rank inverts the layers that it owns, and takes over those of the others in the same update as they do.

    Each poll tells the others whether the own part is ready; when all are, they travel while the learner goes on, and
    the next poll has them. Inline they are there at once. All ranks submit and poll in the same updates.

    Args:
      own: inverts this rank's layers.
      group: the ranks.
      form: of the inverses.
      shapes: of the factors A and S of each layer.
      dtype: of the weights.
    """

    def __init__(
        self,
        own: Inverter,
        group: Group,
        form: Form,
        shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        dtype: Any,
    ) -> None:
        self._own_inverter = own
        self._group = group
        self._dtype = np.dtype(dtype)
        self.immediate = own.immediate

        forms = [(form_for(form, a, s), a[-1], s[-1]) for a, s in shapes]
        self._lengths = [sum(math.prod(shape) for shape in one.shapes(*size)) for one, *size in forms]
        self._owners = owners([one.cost(*size) for one, *size in forms], group.size)
        self._counts = [sum(self._lengths[i] for i in self._layers_of(rank)) for rank in range(group.size)]

        self._step: int | None = None  # of the snapshot that is being worked on
        self._part: Refresh | None = None
        self._join: Callable[[], np.ndarray] | None = None

    @property
    def idle(self) -> bool:
        return self._step is None

    def submit(self, snapshot: Snapshot, form: Form, damping: float) -> None:
        own = [snapshot.factors[i] for i in self._layers_of(self._group.rank)]
        self._own_inverter.submit(Snapshot(snapshot.step, own), form, damping)
        self._step = snapshot.step

    def poll(self, wait: bool = False) -> Refresh | None:
        if self._step is None:
            return None
        wait = wait or self.immediate
        if self._join is None:
            self._part = self._part or self._own_inverter.poll(wait)
            if not self._group.all(self._part is not None):
                return None
            assert self._part is not None
            self._join = self._group.start_join(self._packed(self._part), self._counts)
            if not wait:
                return None
        return self._finish(self._join())

    def close(self) -> None:
        if self._join is not None:
            self._join()
        self._step = self._part = self._join = None
        self._own_inverter.close()

    def _layers_of(self, rank: int) -> list[int]:
        return [i for i, owner in enumerate(self._owners) if owner == rank]

    def _packed(self, part: Refresh) -> np.ndarray:
        """The own layers' inverses; a vector of numbers that are not finite where the refresh has failed."""
        if part.inverses is None:
            return np.full(self._counts[self._group.rank], np.nan, self._dtype)
        return part.inverses.astype(self._dtype, copy=False)

    def _finish(self, joined: np.ndarray) -> Refresh:
        assert self._step is not None and self._part is not None
        step = self._step
        failure = self._part.failure
        self._step = self._part = self._join = None

        parts = np.split(joined, np.cumsum(self._counts)[:-1])
        failed = [rank for rank, part in enumerate(parts) if not np.isfinite(part).all()]
        if failed:
            return Refresh(step, None, failure or f"a layer that rank {failed[0]} inverts")

        layers: dict[int, np.ndarray] = {}
        for rank, part in enumerate(parts):
            own = self._layers_of(rank)
            ends = np.cumsum([self._lengths[i] for i in own])
            layers.update(zip(own, np.split(part, ends), strict=False))
        return Refresh(step, np.concatenate([layers[i] for i in range(len(self._owners))]))
