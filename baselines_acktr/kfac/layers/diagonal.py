"""Weights of which nothing is known but their gradient: the diagonal of their Fisher."""

from __future__ import annotations

import contextlib

import tensorflow as tf

from baselines_acktr.kfac.factors import Sampling
from baselines_acktr.kfac.layers.base import Call, Factorization, Shapes, Tap, parts_of, size


class DiagonalFactorization(Factorization):
    """Any weights, one after the other, as a row W [1, N]: A is 1, and S the diagonal of their Fisher, [N].

    Let g_b be row b's gradient of the log-likelihood of targets that the model draws, and G the sum of all rows'.
    Targets of different rows are drawn independently and E[g_b] = 0, so

        E[G^2] = sum_b E[g_b^2],

    and G^2 / B, entry by entry, is an estimate of the diagonal without bias that costs no pass for each row (the
    Gauss-Newton-Bartlett estimator; Liu et al. 2023, "Sophia", section 2.3). It is noisy; the running average evens it
    out. It does not matter how the layer computes, or where else its weights are used.

    Ranks that share a batch add up their sums before they square them.
    """

    is_known_type = False
    is_recorded = False
    is_mean_over_draws = False

    @property
    def factor_shapes(self) -> Shapes:
        return (1, 1), (sum(size(variable.shape) for variable in self.variables),)

    def join(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        return tf.concat([tf.reshape(tensor, [1, -1]) for tensor in tensors], axis=1)

    def split(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        return parts_of(matrix, self.variables, axis=1)

    def recording(self, taps: list[Tap]) -> contextlib.AbstractContextManager:
        taps += [Tap(self, None, variable.value) for variable in self.variables]
        return contextlib.nullcontext()

    def factors(self, calls: list[Call], sampling: Sampling) -> tuple[tf.Tensor, tf.Tensor]:
        return self.from_means(*self.means(calls, sampling), ranks=1)

    def means(self, calls: list[Call], sampling: Sampling) -> tuple[tf.Tensor, tf.Tensor]:
        """1, and G / sqrt(B) of the own rows, [N]."""
        rows = sampling.called_rows if sampling.rows is None else sampling.rows
        if rows is None:
            raise ValueError("rows=None: an Objective must say how many rows its log_likelihood is the sum of")
        dtype = self.variables[0].dtype
        found = {id(tap.outputs): tf.cast(gradient, dtype) for tap, gradient in calls}
        gradients = [found.get(id(v.value), tf.zeros(v.shape, dtype)) for v in self.variables]
        total = self.join(gradients)[0]
        return tf.ones((1, 1), dtype), total / tf.sqrt(tf.cast(rows, dtype))

    def from_means(self, a: tf.Tensor, s: tf.Tensor, ranks: int) -> tuple[tf.Tensor, tf.Tensor]:
        """With R ranks of B rows each the square of the whole sum is (R mean(G))^2, of R B rows."""
        draws = tf.reshape(s, [-1, s.shape[-1]])  # [N] or [D, N] -> [D, N]
        return tf.reshape(a, [-1, 1, 1])[0], ranks * tf.reduce_mean(tf.square(draws), axis=0)
