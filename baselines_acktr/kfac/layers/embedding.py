"""Embeddings: the inputs are unit vectors, so A is how often each token is seen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from baselines_acktr.kfac.factors import Rows, Sampling, second_moment, site_weights
from baselines_acktr.kfac.layers.affine import sites_of
from baselines_acktr.kfac.layers.base import Call, Factorization, Shapes, Tap, own_variables, replaced, wrapped


class EmbeddingFactorization(Factorization):
    """A table [V, D] of V tokens' vectors. A is the diagonal [V] of token frequencies, S [D, D] of the gradients.

    Where the table is also multiplied by, to get the logits of tokens (`ReversibleEmbedding`), rows and columns change
    places: the gradients at the logits belong to A, of which the diagonal is kept, the inputs to S. The Fisher is then
    a sum of two Kronecker products, of which

        A = sum_i tr(S_i) A_i / sum_i tr(S_i),   S = sum_i S_i,   with tr(A_i) = 1,

    keeps both partial traces.
    """

    @property
    def factor_shapes(self) -> Shapes:
        tokens, units = self.variables[0].shape
        return (tokens,), (units, units)

    def join(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        return tf.convert_to_tensor(tensors[0])

    def split(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        return [matrix]

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        def wrap(original: Callable) -> Callable:
            def tapped_call(inputs: Any, reverse: bool = False) -> tf.Tensor:
                if reverse:
                    return self._reversed_call(original, inputs, taps)
                outputs = original(inputs)
                taps.append(Tap(self, tf.cast(inputs, tf.int32), outputs))
                return outputs

            return tapped_call

        return wrapped(self.layer, "call", wrap)

    def _reversed_call(self, original: Callable, inputs: tf.Tensor, taps: list[Tap]) -> tf.Tensor:
        cap = self.layer.logit_soft_cap
        with replaced(self.layer, logit_soft_cap=None):
            logits = original(inputs, reverse=True)
        taps.append(Tap(self, inputs, logits))
        return logits if cap is None else keras.ops.tanh(logits / cap) * cap

    def factors(self, calls: list[Call], sampling: Sampling) -> tuple[tf.Tensor, tf.Tensor]:
        pairs = [self._factors_of_call(tap, gradient, sampling) for tap, gradient in calls]
        traces = [tf.linalg.trace(s) for _, s in pairs]
        a = tf.add_n([trace * a for trace, (a, _) in zip(traces, pairs, strict=True)])
        return tf.math.divide_no_nan(a, tf.add_n(traces)), tf.add_n([s for _, s in pairs])

    def _factors_of_call(self, tap: Tap, gradient: tf.Tensor, sampling: Sampling) -> tuple[tf.Tensor, tf.Tensor]:
        dtype = self.variables[0].dtype
        gradient = tf.cast(gradient, dtype)
        is_lookup = tap.inputs.dtype.is_integer
        vectors = sites_of(gradient if is_lookup else tf.cast(tap.inputs, dtype))  # [B, S, D]
        sites = vectors.shape[1] or tf.cast(tf.shape(vectors)[1], dtype)
        ratio = 1.0 if sampling.rows is None else tf.cast(tf.shape(vectors)[0] / sampling.rows, dtype)
        if is_lookup:
            return self._frequencies(tap, vectors, sampling), second_moment(vectors) * sites * ratio

        logits = second_moment(sites_of(gradient), diagonal=True)
        trace = tf.reduce_sum(logits)
        return tf.math.divide_no_nan(logits, trace), second_moment(vectors) * sites * ratio * trace

    def _frequencies(self, tap: Tap, vectors: tf.Tensor, sampling: Sampling) -> tf.Tensor:
        """How often each token is seen, as a part of all, [V]."""
        tokens = tf.reshape(tap.inputs, [-1])
        weights = tf.ones_like(vectors[..., 0])
        if sampling.row_weights is not None:
            weights = site_weights(Rows(vectors, vectors, 1), sampling)
        sums = tf.math.unsorted_segment_sum(tf.reshape(weights, [-1]), tokens, self.variables[0].shape[0])
        return tf.math.divide_no_nan(sums, tf.reduce_sum(weights))


def embedding(layer: keras.layers.Embedding) -> list[Factorization]:
    """How the Fisher of an `Embedding` or `ReversibleEmbedding` is factored; [] where it has more than one table."""
    table = layer._embeddings
    others = [variable for variable in own_variables(layer) if variable is not table]
    if not table.trainable or others:
        return []
    return [EmbeddingFactorization(layer, [table])]
