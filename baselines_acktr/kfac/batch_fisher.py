"""The Fisher of a batch, by passes forward and backward through the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from baselines_acktr.kfac.blocks import KroneckerBlock
from baselines_acktr.kfac.graphs import Graphs
from baselines_acktr.kfac.quadratic_model import KlParts, Tangents, Vector, inner_product


class Divergence(NamedTuple):
    """How far apart two sets of a model's outputs are.

    Attributes:
      outputs: `outputs(*batch)` -> the model's outputs [B, ...], a tensor or a structure of them; of all rows of the
        batch, or of fewer.
      mean_kl: `mean_kl(old, new)` -> mean KL(old || new) of such outputs, nats; a scalar, or {name: scalar} for the
        parts that it is the sum of.
      measured_by: another divergence that the trust region measures a step by; None: this one. A direction is fitted
        to the rows of `outputs`, so on these rows the step looks shorter than it is on others. Rows that are held out
        show how far it moves the model.
    """

    outputs: Callable[..., Any]
    mean_kl: Callable[[Any, Any], tf.Tensor | KlParts]
    measured_by: Divergence | None = None


class BatchFisher:
    """The Fisher F = J^T H J of a batch (see `quadratic_model.Fisher`); all of its products share one forward pass.

    Make it inside a `tf.function`, or for few products.

    Args:
      divergence: whose outputs J is the Jacobian of, and whose KL H is the second derivative of.
      blocks: the layers; with respect to their weights.
      batch: arguments of `divergence.outputs`.
    """

    def __init__(self, divergence: Divergence, blocks: Sequence[KroneckerBlock], batch: Sequence[Any]) -> None:
        self._blocks = blocks
        self._mean_kl = divergence.mean_kl
        self._weights = [weight for block in blocks for weight in block.weights]

        with tf.GradientTape(persistent=True) as self._backward:
            found = divergence.outputs(*batch)
            self._outputs = [_as_precise(output, blocks[0].dtype) for output in tf.nest.flatten(found)]
        self._structure = tf.nest.pack_sequence_as(found, self._outputs)

        # u -> J^T u is linear, so its own derivative is J: a pass forward that needs no second forward pass.
        self._zeros = [tf.zeros_like(output) for output in self._outputs]
        with tf.GradientTape(persistent=True) as self._forward:
            self._forward.watch(self._zeros)
            self._pulled = self._transposed(self._zeros)

    def push(self, vector: Vector) -> Tangents:
        """The tangents J v of a vector v: how the outputs move along it."""
        directions = [part for block, matrix in zip(self._blocks, vector, strict=True) for part in block.split(matrix)]
        return _gradient(self._forward, self._pulled, self._zeros, directions)

    def pull(self, tangents: Tangents) -> Vector:
        """The product J^T H t of tangents t; F v for t = J v."""
        tensors = self._transposed(self._curved(tangents))
        matrices = []
        start = 0
        for block in self._blocks:
            end = start + len(block.weights)
            matrices.append(block.join(tensors[start:end]))
            start = end
        return matrices

    def inner(self, ours: Tangents, theirs: Tangents) -> tf.Tensor:
        """t^T H t'; scalar."""
        return inner_product(ours, self._curved(theirs))

    def parts(self, tangents: Tangents) -> KlParts:
        """{name: its part of t^T H t} for the parts of the KL; empty if it has none; scalars."""
        kl = self._mean_kl(self._structure, self._structure)
        if not isinstance(kl, dict):
            return {}
        return {name: inner_product(tangents, self._curved(tangents, name)) for name in kl}

    def _transposed(self, cotangents: Tangents) -> list[tf.Tensor]:
        """J^T u; a tensor for each weight."""
        return _gradient(self._backward, self._outputs, self._weights, cotangents)

    def _curved(self, tangents: Tangents, part: str | None = None) -> Tangents:
        """H t, for one part of the KL or for all of it."""
        old = tf.nest.map_structure(tf.stop_gradient, self._structure)
        outputs = [tf.identity(tf.stop_gradient(output)) for output in self._outputs]
        with tf.GradientTape() as second:
            second.watch(outputs)
            with tf.GradientTape() as first:
                first.watch(outputs)
                kl = self._mean_kl(old, tf.nest.pack_sequence_as(self._structure, outputs))
                if isinstance(kl, dict):
                    kl = kl[part] if part else tf.add_n(list(kl.values()))
            slopes = _gradient(first, kl, outputs)
        return _gradient(second, slopes, outputs, tangents)


class RanksFisher:
    """The mean of the Fishers of all ranks' parts of a batch (see `quadratic_model.Fisher`).

    Tangents are those of the own part, and never leave their rank. Each product makes a forward pass of its own, as the
    ranks meet on the host between two of them.

    Args:
      shared: graphs whose results are means over the ranks.
      own: graphs whose results are this rank's.
      divergence, blocks, batch: as for `BatchFisher`, of the own part.
    """

    def __init__(
        self,
        shared: Graphs,
        own: Graphs,
        divergence: Divergence,
        blocks: Sequence[KroneckerBlock],
        batch: Sequence[Any],
    ) -> None:
        self._shared = shared
        self._own = own
        self._model = divergence, tuple(blocks)
        self._batch = batch

    def push(self, vector: Vector) -> Tangents:
        """J v, of the own rows."""
        return self._own.call(_push, self._model, vector, *self._batch)

    def pull(self, tangents: Tangents) -> Vector:
        """The product J^T H t of tangents t, mean over the ranks; F v for t = J v."""
        return self._shared.call(_pull, self._model, tangents, *self._batch)

    def inner(self, ours: Tangents, theirs: Tangents) -> tf.Tensor:
        """t^T H t'; scalar."""
        return self._shared.call(_inner, self._model, ours, theirs, *self._batch)

    def parts(self, tangents: Tangents) -> KlParts:
        """{name: its part of t^T H t} for the parts of the KL; empty if it has none; scalars."""
        parts, _ = self._shared.call(_parts, self._model, tangents, *self._batch)
        return parts


_Model = tuple[Divergence, tuple[KroneckerBlock, ...]]


def _push(model: _Model, vector: Vector, *batch: Any) -> Tangents:
    return BatchFisher(*model, batch).push(vector)


def _pull(model: _Model, tangents: Tangents, *batch: Any) -> Vector:
    return BatchFisher(*model, batch).pull(tangents)


def _inner(model: _Model, ours: Tangents, theirs: Tangents, *batch: Any) -> tf.Tensor:
    return BatchFisher(*model, batch).inner(ours, theirs)


def _parts(model: _Model, tangents: Tangents, *batch: Any) -> tuple[KlParts, tf.Tensor]:
    fisher = BatchFisher(*model, batch)
    return fisher.parts(tangents), fisher.inner(tangents, tangents)  # a graph has a result where there are no parts


def _as_precise(output: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """An output of a model that may compute in less precision than its weights have, such as bfloat16."""
    return tf.cast(output, dtype) if output.dtype.is_floating else output


def _gradient(tape: tf.GradientTape, target: Any, sources: Any, output_gradients: Any = None) -> Any:
    """What `GradientTape.gradient` gives, dense, with zeros where a source has no influence."""
    gradients = tape.gradient(target, sources, output_gradients, tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
