"""Batches: the rows that an update learns from."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.learning.sequences import Memory, Sequences


class Batch(NamedTuple):
    """The B = T N rows of a rollout of T steps of N environments.

    Attributes:
      observations: before each step, [B, ...]; for a recurrent network sequences, whose steps are the rows, one
        sequence after the other.
      actions: as the learner stores them, [B, ...].
      returns: what the critic learns, [B].
      advantages: what the policy learns from, [B].
    """

    observations: Any  # an array, or `Sequences`
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
      order: of what `rollout.shuffled` counts, rows [B] or sequences [K N], a permutation; None leaves them as they
        are.
    """
    if rollout.memory is not None:
        return _batch_of_sequences(rollout, rollout.memory, returns, advantages, order)
    columns = (rollout.observations, rollout.actions, returns, advantages)
    rows = [column.reshape(returns.size, *column.shape[2:]) for column in columns]  # [B, ...]
    if order is not None:
        rows = [np.take(column, order, axis=0) for column in rows]
    return Batch(*rows)


def _batch_of_sequences(
    rollout: Rollout, memory: Memory, returns: np.ndarray, advantages: np.ndarray, order: np.ndarray | None
) -> Batch:
    order = np.arange(rollout.shuffled) if order is None else order
    columns = (
        memory.sequences(column)[order] for column in (rollout.actions, returns, advantages)
    )  # [K N, T / K, ...]
    rows = [column.reshape(returns.size, *column.shape[2:]) for column in columns]  # [B, ...]
    sequences = Sequences(*(part[order] for part in network_inputs(rollout)))
    return Batch(sequences, *rows)


def network_inputs(rollout: Rollout) -> Any:
    """The observations of a rollout as its network takes them: rows [B, ...], or sequences where it has a memory."""
    memory = rollout.memory
    if memory is None:
        return rollout.observations.reshape(-1, *rollout.observations.shape[2:])
    states = memory.states.reshape(-1, memory.states.shape[-1])  # [K, N, M] -> [K N, M]
    return Sequences(memory.sequences(rollout.observations), memory.sequences(memory.starts), states)


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


def rows_within(observations: tf.Tensor | Sequences, rows: int | None, share: float) -> int | tf.Tensor | None:
    """`rows`, but at most a share of the rows of a batch, and at least 1.

    Args:
      observations: of the batch, [B, ...].
      rows: how many; None stands for all, whatever the share.
      share: of the B rows, above 0 and at most 1.

    Returns:
      A number; a scalar tensor in a graph for batches of several sizes; or None.
    """
    if rows is None or share == 1:
        return rows
    per_row: Any = observations.starts if isinstance(observations, Sequences) else observations
    leading = per_row.shape[: 2 if isinstance(observations, Sequences) else 1]  # [N, T] or [B]
    if None not in tuple(leading):
        return max(1, min(rows, int(share * math.prod(leading))))

    size = tf.reduce_prod(tf.shape(per_row)[: len(leading)])
    most = tf.cast(share * tf.cast(size, tf.float64), tf.int32)
    return tf.maximum(1, tf.minimum(rows, most))


def fisher_part(observations: tf.Tensor | Sequences, rows: int | tf.Tensor | None) -> tf.Tensor | Sequences:
    """The first `rows` rows of a batch, which the Fisher is estimated from; None takes all.

    The order of the rows is random, so these are a sample of the batch. Sequences are taken whole: as many as so many
    rows hold, and at least one.
    """
    if rows is None:
        return observations
    count = entries_of_rows(observations, rows)
    return tf.nest.map_structure(lambda part: part[:count], observations)  # [B, ...] -> [F, ...]


def held_out_part(observations: tf.Tensor | Sequences, rows: int | tf.Tensor | None) -> tf.Tensor | Sequences:
    """The last `rows` rows of a batch, which `fisher_part` does not take if there are enough; None takes all."""
    if rows is None:
        return observations
    count = entries_of_rows(observations, rows)
    return tf.nest.map_structure(lambda part: part[-count:], observations)  # [B, ...] -> [F, ...]


def fisher_part_and_rest(
    observations: tf.Tensor | Sequences, rows: int | tf.Tensor | None
) -> list[tf.Tensor | Sequences]:
    """`fisher_part`, and the rest of the batch where there is one."""
    if rows is None:
        return [observations]
    count = entries_of_rows(observations, rows)
    size = tf.nest.flatten(observations)[0].shape[0]  # None in a graph for batches of several sizes
    if size is not None and count >= size:
        return [observations]
    return [fisher_part(observations, rows), tf.nest.map_structure(lambda part: part[count:], observations)]


def entries(observations: tf.Tensor | Sequences) -> int:
    """How long the first axis of a batch is: as many as it has rows, or sequences."""
    return len(tf.nest.flatten(observations)[0])


def taken(observations: tf.Tensor | Sequences, column: tf.Tensor, indices: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Some entries of a batch, and what their rows have of another column.

    Args:
      observations: [B, ...], or sequences of B steps in all.
      column: [B].
      indices: of rows, or of sequences.
    """
    chosen = tf.nest.map_structure(lambda part: tf.gather(part, indices), observations)
    if not isinstance(observations, Sequences):
        return chosen, tf.gather(column, indices)
    steps = observations.starts.shape[1]
    return chosen, tf.reshape(tf.gather(tf.reshape(column, [-1, steps]), indices), [-1])


def entries_of_rows(observations: tf.Tensor | Sequences, rows: int | tf.Tensor) -> int | tf.Tensor:
    """How many entries of the first axis hold so many rows."""
    if not isinstance(observations, Sequences):
        return rows
    count = rows // observations.starts.shape[1]
    return max(1, count) if isinstance(count, int) else tf.maximum(1, count)
