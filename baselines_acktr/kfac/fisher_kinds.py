"""Which Fisher K-FAC's factors are estimated from, for the loss that a model is compiled with.

* sampled: of targets that the model draws, one for each row in each update (Martens & Grosse 2015, section 5). What it
  is on average is the generalized Gauss-Newton matrix of the loss.
* exact: that average itself, by a pass backward for each number of a row's outputs (`Exact` of Botev et al. 2017,
  section 4; the method of curvlinops and kfac-jax).
* empirical: of the targets of the batch. It is another matrix, which far from the optimum can mislead (Kunstner et al.
  2019), but it needs no draws.

Each kind gives log-likelihoods of a batch, summed over rows: a scalar, or [D] of which the factors are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from baselines_acktr.kfac import terms
from baselines_acktr.kfac.likelihoods import site_likelihood

MOST_NUMBERS = 64  # of a row's outputs, that the exact Fisher may have
FisherKind = Callable[[list[terms.Term], terms.Judged, Any], tf.Tensor]


def sampled(found: list[terms.Term], judged: terms.Judged, generator: Any) -> tf.Tensor:
    """The log-likelihood of targets that the model draws; scalar."""
    return terms.log_likelihood(judged, generator)


def empirical(found: list[terms.Term], judged: terms.Judged, generator: Any) -> tf.Tensor:
    """The log-likelihood of the batch's own targets, scaled as drawn ones are; scalar.

    A value of the loss that is a mean over M targets, such as the pixels of a row, is -1/M times their log-likelihood.
    Of a loss without a likelihood each value counts as that of one target.
    """
    parts = []
    for term in found:
        values, weights = terms.site_values(term)  # [B, ...] each
        rows = tf.cast(tf.shape(weights)[0], weights.dtype)
        scale = tf.sqrt(weights * rows * _targets_of_a_value(term, values))
        parts.append(-tf.reduce_sum(tf.stop_gradient(scale) * values))
    return tf.add_n(parts)


def _targets_of_a_value(term: terms.Term, values: tf.Tensor) -> tf.Tensor:
    """How many targets each value of a loss is the mean over; scalar."""
    likelihood = site_likelihood(term.loss)
    if likelihood is None:
        return tf.ones((), values.dtype)
    numbers = tf.cast(tf.size(term.outputs) / tf.size(values), values.dtype)  # of the outputs, for each value
    if likelihood.class_axis is None:
        return numbers
    return numbers / term.outputs.shape[likelihood.class_axis]


def exact(found: list[terms.Term], judged: terms.Judged, generator: Any) -> tf.Tensor:
    """Stand-ins for log-likelihoods, one for each number of a row's outputs, [D].

    With H = R R^T, the second derivative of the whole loss at a row's outputs, the d-th one has sqrt(B D) times the
    d-th column of R as its gradient there. So the mean of their squares over D and B is the sum of H over rows.

    Raises:
      ValueError: if a row has more than MOST_NUMBERS.
    """
    columns = []
    for curvature, outputs in zip(judged.curvatures, judged.outputs, strict=True):
        size = math.prod(outputs.shape[1:])
        if size > MOST_NUMBERS:
            raise ValueError(f"fisher='exact': a row has {size} outputs, more than {MOST_NUMBERS}; must be 'sampled'")
        flat = terms.flat(outputs)
        root = tf.stop_gradient(curvature.root_at(outputs))  # [B, K, K]
        columns.append(tf.einsum("bkd,bk->d", root, tf.cast(flat, root.dtype)))
    log_likelihoods = tf.concat(columns, axis=0)
    rows = tf.shape(judged.outputs[0])[0]
    return tf.sqrt(tf.cast(rows * tf.size(log_likelihoods), log_likelihoods.dtype)) * log_likelihoods


FISHERS: dict[str, FisherKind] = {kind.__name__: kind for kind in (sampled, empirical, exact)}


def fisher_kind(name: Any, has_likelihood: bool) -> FisherKind:
    """The kind that an argument `fisher` names.

    Args:
      name: the argument.
      has_likelihood: whether the likelihood is given, so that only its own draws are known.
    """
    allowed = ["sampled"] if has_likelihood else list(FISHERS)
    if name not in allowed:
        reason = " where log_likelihood is given" if has_likelihood else ""
        raise ValueError(f"fisher={name!r}: must be {' or '.join(map(repr, allowed))}{reason}")
    return FISHERS[name]
