"""Batches: the rows that an update learns from."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from baselines_acktr.learning.rollouts import Rollout


class Batch(NamedTuple):
    """The B = T N rows of a rollout of T steps of N environments.

    Attributes:
      observations: before each step, [B, ...].
      actions: as the learner keeps them, [B, ...].
      returns: what the critic learns, [B].
      advantages: what the policy learns from, [B].
    """

    observations: np.ndarray
    actions: np.ndarray
    returns: np.ndarray
    advantages: np.ndarray


def make_batch(
    rollout: Rollout,
    returns: np.ndarray,
    advantages: np.ndarray,
    order: np.ndarray | None = None,
) -> Batch:
    """The rows of a rollout.

    Args:
      rollout: T steps of N environments.
      returns: what the critic learns, [T, N].
      advantages: what the policy learns from, [T, N].
      order: of the rows, a permutation of [B]; None leaves them step after step.
    """
    columns = (rollout.observations, rollout.actions, returns, advantages)
    rows = [column.reshape(returns.size, *column.shape[2:]) for column in columns]  # [B, ...]
    if order is not None:
        rows = [np.take(column, order, axis=0) for column in rows]
    return Batch(*rows)


def random_minibatches(batch_rows: int, rows: int | None, count: int, rng: np.random.Generator) -> np.ndarray | None:
    """Indices of the rows of so many minibatches, [count, rows]; each pass over the batch is in a new random order.

    Args:
      batch_rows: of the batch. A pass leaves out the last rows of its order that do not fill a minibatch.
      rows: of a minibatch; None, or as many as the batch has or more, takes the whole batch: the result is None.
      count: how many minibatches.
      rng: draws the orders.
    """
    if rows is None or rows >= batch_rows:
        return None

    in_a_pass = batch_rows // rows
    passes = math.ceil(count / in_a_pass)
    orders = [rng.permutation(batch_rows)[: in_a_pass * rows] for _ in range(passes)]
    return np.concatenate(orders).reshape(-1, rows)[:count]  # [passes in_a_pass rows] -> [count, rows]


def fisher_part(observations: tf.Tensor, rows: int | None) -> tf.Tensor:
    """The first `rows` rows of a batch, which the Fisher is estimated from; None takes all.

    The order of the rows is random, so these are a sample of the batch.
    """
    return observations if rows is None else observations[:rows]  # [B, ...] -> [F, ...]


def held_out_part(observations: tf.Tensor, rows: int | None) -> tf.Tensor:
    """The last `rows` rows of a batch, which `fisher_part` does not take if there are enough; None takes all."""
    return observations if rows is None else observations[-rows:]  # [B, ...] -> [F, ...]
