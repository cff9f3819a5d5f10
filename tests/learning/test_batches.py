"""Claims about the rows that an update learns from."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.learning.batches import (
    entries,
    fisher_part,
    fisher_part_and_rest,
    held_out_part,
    make_batch,
    random_minibatches,
    rows_within,
    taken,
)
from baselines_acktr.learning.returns import generalized_advantages, lambda_returns
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.learning.sequences import Memory, Sequences

T, N = 3, 2


def make_rollout() -> Rollout:
    rng = np.random.default_rng(0)
    rewards, values, next_values = rng.normal(size=(3, T, N))
    observations = np.arange(T * N * 4).reshape(T, N, 4)
    actions = np.arange(T * N).reshape(T, N)
    return Rollout(observations, actions, rewards, rng.random((T, N)) < 0.3, values, next_values)


def test_the_rows_are_step_after_step():
    rollout = make_rollout()
    batch = make_batch(rollout, 10 * rollout.actions, 100 * rollout.actions)
    np.testing.assert_array_equal(batch.observations, np.arange(24).reshape(6, 4))
    np.testing.assert_array_equal(batch.actions, [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(batch.returns, [0, 10, 20, 30, 40, 50])
    np.testing.assert_array_equal(batch.advantages, [0, 100, 200, 300, 400, 500])


def test_an_order_moves_all_columns_alike():
    rollout = make_rollout()
    order = np.array([3, 0, 5, 1, 4, 2])
    batch = make_batch(rollout, 10 * rollout.actions, 100 * rollout.actions, order)
    np.testing.assert_array_equal(batch.actions, order)
    np.testing.assert_array_equal(batch.observations[:, 0], 4 * order)
    np.testing.assert_array_equal(batch.returns, 10 * order)
    np.testing.assert_array_equal(batch.advantages, 100 * order)


def test_advantages_and_returns_of_a_rollout_are_made_of_its_own_columns():
    rollout = make_rollout()
    columns = (rollout.rewards, rollout.values, rollout.next_values, rollout.ended)
    np.testing.assert_array_equal(rollout.advantages(0.9, 0.5), generalized_advantages(*columns, 0.9, 0.5))
    np.testing.assert_array_equal(rollout.returns(0.9, 0.5), lambda_returns(*columns, 0.9, 0.5))


def test_the_fisher_takes_the_first_rows_or_all():
    rows = np.arange(5)
    np.testing.assert_array_equal(fisher_part(rows, 2), [0, 1])
    np.testing.assert_array_equal(fisher_part(rows, None), rows)


def test_rows_that_are_held_out_are_the_last_or_all():
    rows = np.arange(5)
    np.testing.assert_array_equal(held_out_part(rows, 2), [3, 4])
    np.testing.assert_array_equal(held_out_part(rows, None), rows)


@pytest.mark.parametrize(
    ("batch", "rows", "share", "taken"),
    [
        (640, 128, 0.33, 128),
        (160, 128, 0.33, 52),
        (80, 128, 0.33, 26),
        (80, 10, 0.33, 10),
        (2, 128, 0.33, 1),
        (80, 128, 1.0, 128),
        (80, None, 0.33, None),
    ],
)
def test_the_fishers_rows_are_at_most_a_share_of_the_batch_also_in_a_graph_for_all_sizes(batch, rows, share, taken):
    observations = np.zeros((batch, 1), np.float32)
    assert rows_within(observations, rows, share) == taken
    if taken is not None:
        graph = tf.function(
            lambda batch: tf.convert_to_tensor(rows_within(batch, rows, share)),
            input_signature=[tf.TensorSpec((None, 1))],
        )
        assert graph(observations) == taken


def test_every_pass_over_the_batch_is_in_a_new_order():
    drawn = random_minibatches(200, 60, 8, np.random.default_rng(0))
    assert drawn.shape == (8, 60)
    for first in (0, 3):
        assert len(np.unique(drawn[first : first + 3])) == 180
    assert (drawn[:3] != drawn[3:6]).mean() > 0.9
    assert drawn.min() >= 0
    assert drawn.max() < 200


@pytest.mark.parametrize("rows", [None, 200, 1000])
def test_a_batch_that_is_no_larger_than_a_minibatch_is_taken_whole(rows):
    assert random_minibatches(200, rows, 8, np.random.default_rng(0)) is None


def test_with_a_memory_whole_environments_change_places_and_their_steps_stay_in_time_order():
    memory = Memory(np.array([[True, False], [False, True], [False, False]]), np.array([[[0.0], [1.0]]]))
    rollout = make_rollout()._replace(memory=memory)
    assert rollout.shuffled == N
    batch = make_batch(rollout, 10 * rollout.actions, 100 * rollout.actions, np.array([1, 0]))

    np.testing.assert_array_equal(batch.actions, [1, 3, 5, 0, 2, 4])
    np.testing.assert_array_equal(batch.returns, [10, 30, 50, 0, 20, 40])
    np.testing.assert_array_equal(batch.observations.observations[..., 0], [[4, 12, 20], [0, 8, 16]])
    np.testing.assert_array_equal(batch.observations.starts, [[False, True, False], [True, False, False]])
    np.testing.assert_array_equal(batch.observations.state, [[1], [0]])


def test_a_long_rollout_is_several_sequences_of_each_environment():
    rollout = make_rollout()
    starts = rollout.actions > 3
    memory = Memory(starts, 10.0 * np.arange(T * N).reshape(T, N, 1))  # K = T parts of a step each
    rollout = rollout._replace(memory=memory)
    assert rollout.shuffled == T * N

    batch = make_batch(rollout, 10 * rollout.actions, 100 * rollout.actions, np.array([5, 0, 3, 1, 2, 4]))
    np.testing.assert_array_equal(batch.actions, [5, 0, 3, 1, 2, 4])
    np.testing.assert_array_equal(batch.observations.state[:, 0], 10 * batch.actions)
    np.testing.assert_array_equal(batch.observations.observations[:, 0, 0], 4 * batch.actions)
    np.testing.assert_array_equal(batch.observations.starts[:, 0], batch.actions > 3)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_the_parts_of_a_rollout_are_its_steps_in_time_order(parts):
    column = np.arange(12).reshape(6, 2)  # [T, N]
    memory = Memory(np.zeros((6, 2), bool), np.zeros((parts, 2, 1)))
    length = 6 // parts
    expected = [column[k * length : (k + 1) * length, n] for k in range(parts) for n in range(2)]
    np.testing.assert_array_equal(memory.sequences(column), expected)


def test_of_sequences_some_are_taken_with_their_rows():
    memory = Memory(np.zeros((T, N), bool), np.array([[[0.0], [1.0]]]))
    rollout = make_rollout()._replace(memory=memory)
    batch = make_batch(rollout, rollout.actions, rollout.actions)
    assert entries(batch.observations) == N
    chosen, column = taken(batch.observations, batch.returns, np.array([1]))
    np.testing.assert_array_equal(chosen.state, [[1]])
    np.testing.assert_array_equal(chosen.observations[0, :, 0], [4, 12, 20])
    np.testing.assert_array_equal(column, [1, 3, 5])
    rows, column = taken(batch.returns, batch.returns, np.array([4, 0]))
    np.testing.assert_array_equal(rows, column)


def test_of_sequences_the_fisher_takes_whole_ones():
    memory = Memory(np.zeros((T, N), bool), np.array([[[0.0], [1.0]]]))
    rollout = make_rollout()._replace(memory=memory)
    sequences = make_batch(rollout, rollout.values, rollout.values).observations
    for rows in (1, T, 2 * T - 1):
        first, rest = fisher_part_and_rest(sequences, rows)
        assert (first.state.tolist(), rest.state.tolist()) == ([[0]], [[1]])
        assert held_out_part(sequences, rows).state.tolist() == [[1]]
    for rows in (None, 2 * T):
        (whole,) = fisher_part_and_rest(sequences, rows)
        assert whole.state.tolist() == [[0], [1]]


@pytest.mark.parametrize(("share", "taken"), [(0.1, 1), (0.5, 1), (0.9, 1), (1.0, 2)])
def test_of_sequences_the_share_counts_steps_and_at_least_one_is_taken_whole(share, taken):
    def count(starts):
        sequences = Sequences(starts, starts, starts)
        return len(fisher_part(sequences, rows_within(sequences, N * T, share)).starts)

    assert count(np.zeros((N, T), bool)) == taken

    @tf.function(input_signature=[tf.TensorSpec((None, T), tf.bool)])
    def count_in_graph(starts):
        sequences = Sequences(starts, starts, starts)
        return tf.shape(fisher_part(sequences, rows_within(sequences, N * T, share)).starts)[0]

    assert count_in_graph(np.zeros((N, T), bool)) == taken
