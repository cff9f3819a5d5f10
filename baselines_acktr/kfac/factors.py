"""Kronecker factors as pure functions on tensors (Martens & Grosse 2015; Grosse & Martens 2016).

Every layer type (`kfac.layers`) brings its calls to one layout: input rows `a` [B, S, I] with the homogeneous
coordinate (a trailing 1 where the layer has a bias) and output rows `s` [B, S, O], where S counts the sites at which
one row uses the weights: 1 for a dense layer, the positions of a convolution's output, the time steps of a sequence.
Then

    A = mean over rows and sites of a a^T          [I, I]
    S = mean over rows, SUM over sites, of s s^T   [O, O]

so the whole site count stands in S, and A (x) S is KFC's approximation (Grosse & Martens 2016, theorem 1) of the Fisher
of W [I, O]. Factored damping does not depend on where the count stands.

Weights that come in G independent groups are W [G, I, O], with rows [B, S, G, I] and [B, S, G, O] and a pair of factors
[G, I, I] and [G, O, O]. A factor of which only the diagonal is kept is a vector, [I] or [O].
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Sampling(NamedTuple):
    """What the rows stand for that factors are estimated from.

    Attributes:
      max_sites: sites of a convolution's output that are looked at, drawn uniformly without replacement; None: all.
      generator: draws them.
      rows: B, how many rows the sampled log-likelihood is the sum of; scalar. None: as many as a layer is called on.
      row_weights: [B], how much each row counts in A; None: all the same. The log-likelihood has these weights in it
        already.
      called_rows: how many rows some layer was called on; scalar. What `rows` is taken for where nothing else is known.
    """

    max_sites: int | None
    generator: tf.random.Generator
    rows: tf.Tensor | None = None
    row_weights: tf.Tensor | None = None
    called_rows: tf.Tensor | None = None


class Rows(NamedTuple):
    """One call of a layer in the common layout.

    Attributes:
      inputs: [B, S', I], or [B, S', G, I] in groups.
      outputs: [B, S', O], or [B, S', G, O].
      sites: S, the number of sites that S' were drawn from; a scalar tensor where only the batch says it.
      mask: [B, S'], which sites there are; None: all.
    """

    inputs: tf.Tensor
    outputs: tf.Tensor
    sites: int | tf.Tensor
    mask: tf.Tensor | None = None


def append_one(rows: tf.Tensor) -> tf.Tensor:
    """[..., D] -> [..., D + 1] with a trailing 1: the homogeneous coordinate that stands for the bias."""
    return tf.concat([rows, tf.ones_like(rows[..., :1])], axis=-1)


def choose_sites(count: int, sampling: Sampling) -> tf.Tensor | None:
    """`max_sites` of `count` sites without replacement, each equally likely; None for all of them."""
    limit = sampling.max_sites
    if limit is None or count <= limit:
        return None
    return tf.argsort(sampling.generator.uniform([count]))[:limit]


def sum_of_products(rows: tf.Tensor, diagonal: bool = False) -> tf.Tensor:
    """[N, D] -> the sum of the outer products [D, D], or its diagonal [D]; [N, G, D] -> [G, D, D]."""
    if diagonal:
        return tf.reduce_sum(tf.square(rows), axis=0)
    if len(rows.shape) == 3:
        groups = tf.transpose(rows, [1, 0, 2])
        return tf.matmul(groups, groups, transpose_a=True)
    return tf.matmul(rows, rows, transpose_a=True)


def second_moment(rows: tf.Tensor, diagonal: bool = False) -> tf.Tensor:
    """[B, S, D] -> mean over rows and sites of the outer product [D, D], or its diagonal [D]; [B, S, G, D] alike."""
    flat = tf.reshape(rows, [-1, *rows.shape[2:]])  # [B, S, ...] -> [B S, ...]
    return sum_of_products(flat, diagonal) / tf.cast(tf.shape(flat)[0], flat.dtype)


def kronecker_factors(
    calls: list[Rows], sampling: Sampling, *, diagonal_a: bool = False, diagonal_s: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """The factors A and S of some weights from all calls of their layer; several calls count as further sites.

    Args:
      calls: the calls.
      sampling: what their rows stand for.
      diagonal_a, diagonal_s: whether only the diagonal of A, or S, is wanted.
    """
    total = sum(call.sites for call in calls)
    if sampling.row_weights is None and all(call.mask is None for call in calls):
        a = tf.add_n([second_moment(call.inputs, diagonal_a) * (call.sites / total) for call in calls])
    else:
        a = _weighted_inputs(calls, sampling, diagonal_a)
    s = tf.add_n([_summed_outputs(call, sampling, diagonal_s) for call in calls])
    return a, s


def _summed_outputs(call: Rows, sampling: Sampling, diagonal: bool) -> tf.Tensor:
    moment = second_moment(call.outputs, diagonal) * call.sites
    if sampling.rows is None:
        return moment
    # A layer inside others may be called on more rows than the log-likelihood has: on windows, time steps, patches.
    return moment * tf.cast(tf.shape(call.outputs)[0] / sampling.rows, moment.dtype)


def _weighted_inputs(calls: list[Rows], sampling: Sampling, diagonal: bool) -> tf.Tensor:
    """A where rows have weights, or sites are masked: sites that no gradient reaches do not count."""
    sums = []
    weights = []
    for call in calls:
        weight = site_weights(call, sampling) * _sampled_from(call)  # [B, S']
        scale = tf.sqrt(weight)[..., None] if len(call.inputs.shape) == 3 else tf.sqrt(weight)[..., None, None]
        flat = tf.reshape(call.inputs * scale, [-1, *call.inputs.shape[2:]])
        sums.append(sum_of_products(flat, diagonal))
        weights.append(tf.reduce_sum(weight))
    return tf.math.divide_no_nan(tf.add_n(sums), tf.add_n(weights))


def _sampled_from(call: Rows) -> float | tf.Tensor:
    """How many sites each one that is looked at stands for: S / S'."""
    found = call.outputs.shape[1]
    return 1.0 if found is None else call.sites / found


def site_weights(call: Rows, sampling: Sampling) -> tf.Tensor:
    """How much each row and site counts, [B, S']: its row's weight, and 0 where it is masked or has no gradient."""
    axes = list(range(2, len(call.outputs.shape)))
    weights = tf.cast(tf.reduce_any(call.outputs != 0, axis=axes), call.outputs.dtype)  # [B, S', ...] -> [B, S']
    if call.mask is not None:
        weights *= tf.cast(call.mask, weights.dtype)
    if sampling.row_weights is None:
        return weights
    rows = tf.cast(sampling.row_weights, weights.dtype)
    repeats = tf.shape(weights)[0] // tf.shape(rows)[0]
    return weights * tf.repeat(rows, repeats)[:, None]
