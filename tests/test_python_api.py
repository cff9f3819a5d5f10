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
from gymnasium import spaces
from monitor_helpers import monitor

import baselines_acktr
import common.vec_env
from baselines_acktr import a2c, acktr_cont, evaluation, load, trpo
from baselines_acktr.callbacks import CheckpointCallback, EvalCallback
from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.foreign_names import (
    NAMES,
    OF_CHECKPOINT_CALLBACK,
    OF_EVAL_CALLBACK,
    OF_EVALUATE,
    OF_GOING_ON,
    OF_LEARN,
)
from baselines_acktr.session.learn import learn as session_learn
from common.errors import UserError
from common.logger import Logger
from common.measures import load_monitor
from common.plots import PlotOptions, plot
from common.vec_env import make_vec_env
from common.vec_env.actions import Choices

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


RAGGED = [[0, 0, 0, 0], [0, 0]]


@pytest.mark.parametrize("wrong", [RAGGED, (np.zeros(4), np.zeros(2)), {"place": 1.0}])
def test_observations_of_several_parts_are_answered_with_how_they_are_flattened(model, wrong):
    line = r"^observation: must be .*of shape \(4,\).*, got .*; gymnasium.spaces.flatten\(env.observation_space, obs"
    for act in (model.predict, model.step, model.value):
        with pytest.raises(UserError, match=line):
            act(wrong)


def test_observations_of_more_than_double_precision_are_taken(model):
    wide = np.array([0.1, 0.2, 0.3, 0.4], np.longdouble)
    assert model.predict(wide, deterministic=True)[0] == model.predict(wide.astype(np.float32), deterministic=True)[0]
    np.testing.assert_allclose(model.value(wide[None]), model.value(wide[None].astype(np.float32)), rtol=1e-6)


@pytest.mark.parametrize("act", ["step", "value"])
@pytest.mark.parametrize("wrong", [np.zeros(4, np.float32), [0, 0, 0, 0], np.zeros((2, 3)), 0.0])
def test_what_takes_a_batch_says_so(model, act, wrong):
    line = r"^observations of shape \(.*\): must be a batch \[N, ...\] of observations of shape \(4,\); predict"
    with pytest.raises(UserError, match=line):
        getattr(model, act)(wrong)


def test_a_batch_may_be_a_list(model):
    assert model.step([[0, 0, 0, 0]])[0].shape == model.value([[0, 0, 0, 0]]).shape == (1,)


@pytest.mark.parametrize("learner", [a2c, acktr_cont, trpo])
def test_a_batch_may_be_empty(learner):
    size = {"timesteps_per_batch": 20, "hidden_sizes": (4,), "total_timesteps": 20}
    made = learner.learn(env="Pendulum-v1", num_env=1, **size)
    assert made.predict(np.zeros((0, 3)))[0].shape == (0, 1)
    assert made.value(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    "space",
    [spaces.MultiBinary((2, 3)), spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiBinary(2)])],
)
def test_what_is_predicted_for_several_choices_is_a_row_that_the_environment_takes_within_choices(space):
    class Own(gym.Env):
        observation_space = spaces.Box(0, 1, (1,), np.float32)
        action_space = space

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), float(space.contains(action)), True, False, {}

    made = a2c.learn(env=Own, num_env=2, **SMALL)
    action, _ = made.predict(np.zeros(1, np.float32))
    assert action.ndim == 1 and made.action_space.contains(action)
    assert Choices(Own()).step(action)[1] == 1


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


@pytest.mark.parametrize(
    ("function", "instead"),
    [
        (baselines_acktr.evaluate, OF_EVALUATE),
        (evaluation.evaluate, OF_EVALUATE),
        (EvalCallback, OF_EVAL_CALLBACK),
        (CheckpointCallback, OF_CHECKPOINT_CALLBACK),
    ],
)
def test_evaluations_answer_the_arguments_of_stable_baselines_with_their_own(function, instead):
    for argument, sentence in instead.items():
        with pytest.raises(UserError, match=rf"^{function.__name__}: has no argument {argument}\. "):
            function(**{argument: 1})
        assert set(re.findall(r"(?<!-)\b(\w+)=", sentence)) <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("seed", ["3", 1.5, -1, True, 2**40])
def test_training_names_a_seed_that_is_none(seed):
    with pytest.raises(UserError, match=r"^seed=.*: must be a whole number of at least 0 and at most 2147483647$"):
        a2c.learn(env="CartPole-v1", seed=seed, **SMALL)


def test_training_takes_a_seed_of_numpy():
    assert a2c.learn(env="CartPole-v1", num_env=1, seed=np.int64(3), **SMALL).seed == 3


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
