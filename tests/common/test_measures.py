"""Tests of the paper's measures and of the statistics of several runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from monitor_helpers import monitor

from common import measures
from common.errors import UserError


def test_games_of_all_environments_are_merged_by_the_time_they_ended(tmp_path):
    monitor(tmp_path, 0, [(1, 10, 1.0), (3, 30, 5.0)])
    monitor(tmp_path, 1, [(2, 20, 1.0)], start=1002.0)
    games = measures.load_monitor(tmp_path)
    assert games["score"].tolist() == [1, 2, 3]
    assert games["timesteps"].tolist() == [10, 30, 60]
    assert games["episodes"].tolist() == [1, 2, 3]
    assert games["seconds"].tolist() == [1, 3, 5]


def test_the_first_episode_is_the_one_whose_next_window_averages_the_threshold():
    assert measures.first_episode_above([0, 0, 1, 1, 1], 1.0, window=3) == 3
    assert measures.first_episode_above([0, 0, 1, 1, 1], 0.6, window=3) == 2
    assert measures.first_episode_above([1, 1, 1], 1.0, window=3) == 1
    assert measures.first_episode_above([0, 9, 0], 9.0, window=3) is None
    assert measures.first_episode_above([9, 9], 1.0, window=3) is None


def test_the_window_of_the_paper_is_a_hundred_games():
    scores = np.concatenate([np.full(500, -21.0), np.full(100, 9.3)])
    assert measures.first_episode_above(scores, 9.3 - 1e-9) == 501
    assert measures.first_episode_above(scores[:-1], 9.3 - 1e-9) is None


def test_a_file_without_the_header_of_baselines_is_refused(tmp_path):
    (tmp_path / "0.0.monitor.csv").write_text('# {"t_start": 1.0}\na,b\n1,2\n')
    with pytest.raises(UserError, match="not a monitor file"):
        measures.load_monitor(tmp_path)


def test_a_row_that_was_cut_off_is_left_out(tmp_path):
    monitor(tmp_path, 0, [(1, 10, 1.0)])
    with (tmp_path / "0.0.monitor.csv").open("a") as file:
        file.write("2,20")
    assert measures.load_monitor(tmp_path)["score"].tolist() == [1]


def test_the_best_mean_is_that_of_the_best_successive_episodes():
    assert measures.best_mean([9, 0, 5, 6, 1], window=2) == 5.5
    assert measures.best_mean([-3, -1, -2], window=3) == -2
    assert math.isnan(measures.best_mean([9], window=2))


def test_the_interquartile_mean_leaves_out_the_outer_quarters_of_all_tasks_together():
    assert measures.interquartile_mean(np.array([100.0, 2.0]), np.array([-50.0, 4.0])) == 3
    assert measures.interquartile_mean(np.arange(8.0)) == 3.5


def test_the_interval_holds_the_mean_and_stays_within_the_values():
    low, high = measures.interval([[1.0, 2.0, 6.0]])
    assert 1 <= low < 3 < high <= 6


def test_each_task_is_drawn_from_its_own_seeds():
    low, high = measures.interval([[0.0, 0.0], [8.0, 8.0]])
    assert (low, high) == (4, 4)


def test_one_seed_has_no_interval():
    assert all(math.isnan(end) for end in measures.interval([[1.0, 2.0], [3.0]]))
    assert all(math.isnan(end) for end in measures.interval([]))
