"""Claims about the parts of K-FAC on several ranks, which are threads here."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import mpi_layers
import numpy as np
import pytest
import tensorflow as tf
from mpi_helpers import finish, start

from baselines_acktr.kfac.distributed import OwnRows, SharedInverter, averaged, owners, symmetric, triangle
from baselines_acktr.kfac.forms import CholeskyForm
from baselines_acktr.kfac.inverses import BackgroundInverter, Factors, InlineInverter, Snapshot

SIZES = [(5, 3), (4, 2), (2, 2)]
SHAPES = [((rows, rows), (columns, columns)) for rows, columns in SIZES]


class Threads:
    """A rank among threads that wait for each other."""

    def __init__(self, rank: int, barrier: threading.Barrier, places: list) -> None:
        self.rank, self.size, self._barrier, self._places = rank, len(places), barrier, places

    def _exchange(self, value) -> list:
        self._places[self.rank] = value
        self._barrier.wait(30)
        everything = list(self._places)
        self._barrier.wait(30)
        return everything

    def mean(self, array):
        return np.mean(self._exchange(array), axis=0)

    def all(self, flag):
        return all(self._exchange(flag))

    def start_join(self, part, sizes):
        parts = self._exchange(part)
        assert [len(part) for part in parts] == list(sizes)
        return lambda: np.concatenate(parts)


def on_ranks(size: int, function) -> list:
    """What `function(group)` returns in each rank."""
    barrier, places = threading.Barrier(size), [None] * size
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: function(Threads(rank, barrier, places)), range(size)))


def spd(size: int, seed: int) -> tf.Tensor:
    root = np.random.default_rng(seed).normal(size=(size, size))
    return tf.constant(root @ root.T + np.eye(size))


def snapshot(bad: int | None = None) -> Snapshot:
    factors = [Factors(f"layer{i}", spd(rows, i), spd(columns, 9 + i)) for i, (rows, columns) in enumerate(SIZES)]
    if bad is not None:
        factors[bad] = factors[bad]._replace(a=factors[bad].a * np.nan)
    return Snapshot(7, factors)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_a_triangle_holds_a_symmetric_matrix_in_about_half_the_numbers(size):
    matrix = spd(size, 0)
    packed = triangle(matrix)
    assert packed.shape == (size * (size + 1) // 2,)
    np.testing.assert_array_equal(symmetric(packed), np.triu(matrix) + np.triu(matrix, 1).T)


def test_layers_are_spread_by_cost():
    assert owners([1, 8, 3, 4, 1], 2) == [1, 0, 1, 1, 0]
    assert owners([5.0], 3) == [0]


def test_a_row_gets_the_same_draw_whichever_rank_it_is_in():
    alone = tf.random.Generator.from_seed(3)
    expected = [alone.normal([6, 2]), alone.uniform([6, 4])]
    for ranks in (2, 3):
        shape = [6 // ranks]

        def draw(group, shape=shape):
            own = OwnRows(tf.random.Generator.from_seed(3), group)
            return own.normal(tf.constant([*shape, 2])), own.uniform(tf.constant([*shape, 4]))

        for draws, whole in zip(zip(*on_ranks(ranks, draw), strict=True), expected, strict=True):
            np.testing.assert_array_equal(tf.concat(draws, axis=0), whole)


def test_what_is_applied_is_the_mean_over_the_ranks_in_the_same_structure():
    def step(group):
        double = averaged(lambda x: {"a": 2 * x, "b": [tf.reduce_sum(x)[None]]}, lambda parts: parts, group)
        return double(np.arange(2.0) + group.rank)

    for result in on_ranks(3, step):
        np.testing.assert_allclose(result["a"], [2, 4])
        np.testing.assert_allclose(result["b"][0], [3])


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("kind", [InlineInverter, BackgroundInverter])
def test_shared_inverses_are_those_of_one_process_and_come_in_the_same_poll_everywhere(kind, ranks):
    form = CholeskyForm()
    alone = InlineInverter()
    alone.submit(snapshot(), form, 0.1)
    expected = alone.poll().inverses

    def invert(group):
        with SharedInverter(kind(), group, form, SHAPES, np.float64) as inverter:
            inverter.submit(snapshot(), form, 0.1)
            for poll in range(10_000):
                if (refresh := inverter.poll()) is not None:
                    return poll, inverter.idle, refresh

    results = on_ranks(ranks, invert)
    assert len({poll for poll, _, _ in results}) == 1 and all(idle for _, idle, _ in results)
    assert kind is BackgroundInverter or results[0][0] == 0
    for _, _, refresh in results:
        assert refresh.step == 7
        np.testing.assert_array_equal(refresh.inverses, expected)


def test_one_bad_factor_fails_the_refresh_of_all_ranks():
    def invert(group):
        inverter = SharedInverter(InlineInverter(), group, CholeskyForm(), SHAPES, np.float64)
        inverter.submit(snapshot(bad=1), CholeskyForm(), 0.1)
        return inverter.poll()

    results = on_ranks(2, invert)
    assert [refresh.inverses for refresh in results] == [None, None]
    assert [refresh.failure for refresh in results] == ["a layer that rank 1 inverts", "layer 'layer1': not finite"]


def test_two_ranks_train_layers_of_all_kinds_as_one_process_does(tmp_path, float64):
    path = tmp_path / "weights.npz"
    ranks = start(2, "tests/helpers/mpi_layers.py", str(path))
    alone, shapes = mpi_layers.train(None, slice(None))  # meanwhile
    code, _, errors = finish(ranks)
    assert code == 0, errors

    with np.load(path) as file:
        together = [file[f"arr_{i}"] for i in range(len(file.files))]
    assert {len(shape) for shape in shapes} == {1, 2, 3}  # diagonals, matrices and groups of matrices
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10 * np.abs(other).max())
    for trained, before in zip(alone, mpi_layers.make_model().get_weights(), strict=False):
        assert np.abs(trained - before).max() > 0.001
