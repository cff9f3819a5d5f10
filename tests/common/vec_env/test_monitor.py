"""Claims about the monitor files."""

from __future__ import annotations

import csv
import json
import time

import numpy as np
import pytest
from vec_env_helpers import OK

from common.errors import UserError
from common.vec_env import make_vec_env

COUNTER = "vec_env_helpers:Counter-v0"


def play(log_dir, steps, num_env=2, **kwargs):
    with make_vec_env(COUNTER, num_env, seed=0, log_dir=log_dir, **kwargs) as env:
        env.reset()
        for _ in range(steps):
            env.step(np.full(num_env, OK))


def read(path):
    with path.open() as file:
        header = file.readline()
        assert header.startswith("# ")
        return json.loads(header[2:]), list(csv.DictReader(file))


def test_every_game_is_one_row_in_the_file_of_its_environment(tmp_path):
    before = time.time()
    play(tmp_path / "new" / "logs", steps=7, rank=3, reward_scale=0.1)
    files = sorted((tmp_path / "new" / "logs").iterdir())
    assert [file.name for file in files] == ["3.0.monitor.csv", "3.1.monitor.csv"]
    for file in files:
        header, rows = read(file)
        assert header["env_id"] == "Counter-v0"
        assert before <= header["t_start"] <= time.time()
        assert [(float(row["r"]), row["l"]) for row in rows] == [(6.0, "3"), (6.0, "3")]
        assert 0 <= float(rows[0]["t"]) <= float(rows[1]["t"]) <= time.time() - before


def test_a_row_is_in_the_file_before_the_environment_is_closed(tmp_path):
    with make_vec_env(COUNTER, 1, seed=0, log_dir=tmp_path) as env:
        env.reset()
        for _ in range(3):
            env.step(np.array([OK]))
        assert len(read(tmp_path / "0.0.monitor.csv")[1]) == 1


def test_a_second_run_appends_and_its_times_go_on(tmp_path):
    play(tmp_path, steps=3)
    time.sleep(0.05)
    play(tmp_path, steps=6)
    _, rows = read(tmp_path / "0.0.monitor.csv")
    assert len(rows) == 3
    assert float(rows[1]["t"]) >= float(rows[0]["t"]) + 0.05


def test_a_row_cut_off_by_a_crash_does_not_swallow_the_next(tmp_path):
    play(tmp_path, steps=3, num_env=1)
    path = tmp_path / "0.0.monitor.csv"
    path.write_text(path.read_text() + "6.0,3")
    play(tmp_path, steps=3, num_env=1)
    assert path.read_text().splitlines()[-2] == "6.0,3"
    assert path.read_text().splitlines()[-1].startswith("6.0,3,")


def test_a_file_or_folder_that_cannot_be_used_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create the folder"):
        make_vec_env(COUNTER, 1, seed=0, log_dir=tmp_path / "file" / "logs")
    (tmp_path / "0.0.monitor.csv").write_text("my notes\n")
    with pytest.raises(UserError, match="not a monitor file"):
        make_vec_env(COUNTER, 1, seed=0, log_dir=tmp_path)
    assert (tmp_path / "0.0.monitor.csv").read_text() == "my notes\n"
