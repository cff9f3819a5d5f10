"""Claims about small mistakes and habits in Python: they work, or are one line."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import re
from dataclasses import fields
from pathlib import Path

import gymnasium as gym
import matplotlib
import numpy as np
import pytest
from monitor_helpers import monitor

import baselines_acktr
import common.vec_env
from baselines_acktr import a2c, load
from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.foreign_names import NAMES, OF_GOING_ON, OF_LEARN
from baselines_acktr.session.learn import learn as session_learn
from common.errors import UserError
from common.logger import Logger
from common.measures import load_monitor
from common.plots import PlotOptions, plot
from common.vec_env import make_vec_env

SMALL = {"total_timesteps": 20, "nsteps": 5, "hidden_sizes": (4,)}


@pytest.fixture(scope="module")
def model() -> a2c.DiscreteModel:
    with make_vec_env("CartPole-v1", 2, 0) as env:
        return a2c.learn(env=env, **SMALL)


def test_without_a_seed_one_is_drawn_and_said(capsys):
    with make_vec_env("CartPole-v1", 2, 0) as env:
        seeds = [a2c.learn(env=env, seed=None, **SMALL).seed for _ in range(2)]
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("seed=")] == [
        f"seed={seed} was drawn" for seed in seeds
    ]
    assert seeds[0] != seeds[1]


def test_home_is_expanded_wherever_a_path_is_given(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model.save("~/model")
    model.load("~/model")
    assert load("~/model").updates == model.updates
    with make_vec_env("CartPole-v1", 2, 0, log_dir="~/monitor") as env, Logger("~/logs", ["csv"]) as logger:
        a2c.learn(env=env, load_path="~/model", save_path="~/other", logger=logger, **SMALL | {"total_timesteps": 1000})
    assert len(load_monitor("~/monitor")) > 0
    assert sorted(os.listdir(tmp_path)) == ["logs", "model", "monitor", "other"]


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_a_model_says_how_it_is_done(model, act):
    with pytest.raises(UserError, match=r"use model.save\(path\) and baselines_acktr.load\(path\)"):
        act(model)


def test_what_reset_returns_is_no_observation(model):
    with pytest.raises(UserError, match=r"^observation: is what reset returns, \(observation, info\)"):
        model.predict(gym.make("CartPole-v1").reset())


@pytest.mark.parametrize("wrong", [np.full(4, np.nan), np.array([0, 0, np.inf, 0]), [None] * 4, ["a"] * 4])
def test_observations_that_are_not_finite_numbers_are_refused(model, wrong):
    with pytest.raises(UserError, match=r"^observation: must be finite numbers, got "):
        model.predict(wrong)


def test_paths_may_be_text_and_plots_leave_the_backend_alone(tmp_path, monkeypatch):
    monitor(tmp_path / "run", 0, [(1.0, 10, 1.0), (2.0, 10, 2.0)])
    matplotlib.use("svg")
    games = load_monitor(str(tmp_path / "run"))
    plot({"run": [games]}, str(tmp_path / "curves.png"), PlotOptions(window=1))
    assert Path(tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert matplotlib.get_backend().lower() == "svg"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_of_another_library_is_answered_where_it_is_imported(name):
    with pytest.raises(ImportError, match=f"^baselines_acktr has no {name}"):
        exec(f"from baselines_acktr import {name}", {})
    with pytest.raises(ImportError, match=f"^baselines_acktr has no {name}"):
        getattr(baselines_acktr, name)


def test_a_class_of_environments_of_another_library_is_answered_where_it_is_imported():
    with pytest.raises(
        ImportError, match=r'^common.vec_env has no SubprocVecEnv. Write make_vec_env\(.*"subproc"\)\.$'
    ):
        exec("from common.vec_env import SubprocVecEnv", {})


def test_other_names_are_missing_and_modules_are_found_as_in_any_package():
    assert not hasattr(baselines_acktr, "anything") and not hasattr(common.vec_env, "anything")
    exec("from baselines_acktr import trpo; from common.vec_env import given", {})


@pytest.mark.parametrize("argument", sorted(OF_GOING_ON))
def test_an_argument_of_another_library_is_answered(model, argument):
    with pytest.raises(UserError, match=rf"^learn: has no argument {argument}\. "):
        model.learn(**{"timesteps": 20, argument: 1})
    if argument in OF_LEARN:
        with pytest.raises(UserError, match=rf"^learn: has no argument {argument}\. "):
            a2c.learn(env="CartPole-v1", **SMALL | {argument: 1})


def test_what_an_answer_names_is_there():
    """Arguments in the form `name=`, and modules and functions in `from module import name`."""
    learn = set(inspect.signature(session_learn).parameters) | {field.name for field in fields(AcktrDiscreteConfig)}
    text = " ".join([*NAMES.values(), *OF_GOING_ON.values()])
    statements = re.findall(r"from [\w.]+ import \w+", text)
    assert len(statements) >= 4
    exec("; ".join(statements), {})
    named = set(re.findall(r"(?<![\w`(])(\w+)=", text)) - {"model", "formats", "interval", "episodes"}
    assert {"network", "hidden_sizes", "logger", "progress"} <= named <= learn
    assert {"env", "total_timesteps"} <= learn
    make = set(inspect.signature(make_vec_env).parameters)
    assert {"backend", "wrappers", "log_dir", "num_env", "frame_stack"} <= make


def test_vector_environments_answer_the_arguments_of_stable_baselines():
    with pytest.raises(UserError, match=r"^make_vec_env: has no argument n_envs\. Write num_env=\.$"):
        make_vec_env("CartPole-v1", n_envs=2)


def test_the_environment_may_follow_the_network_and_has_to_be_given():
    assert a2c.learn("mlp", "CartPole-v1", num_env=2, **SMALL).env_id == "CartPole-v1"
    with pytest.raises(UserError, match=r'^env: missing; an id such as "CartPole-v1", an environment, or a function'):
        a2c.learn("mlp", **SMALL)
