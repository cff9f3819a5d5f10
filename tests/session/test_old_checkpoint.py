"""Claims about a checkpoint of an earlier version (808de0c: 20 updates of acktr on CartPole): it serves as it did."""

from __future__ import annotations

import json

import numpy as np
import pytest
from repository import ROOT

import run
from baselines_acktr import acktr_discrete, load
from baselines_acktr.play import play
from common.vec_env import make_vec_env

OLD = str(ROOT / "tests" / "data" / "cartpole.model")


def test_it_acts_and_predicts_as_it_did():
    model = load(OLD)
    observations = np.array([[0.01, -0.2, 0.03, 0.1], [0, 1, -0.1, -1]], np.float32)
    actions, values, _, neglogps = model.step(observations, deterministic=True)
    assert (model.env_id, model.timesteps, model.updates, actions.tolist()) == ("CartPole-v1", 800, 20, [1, 0])
    np.testing.assert_allclose(values, [14.886473, 14.084437], rtol=1e-4)
    np.testing.assert_allclose(neglogps, [0.6829585, 0.65497154], rtol=1e-4)


def test_it_plays(capsys):
    with make_vec_env("CartPole-v1", 2, seed=0) as env:
        games = play(load(OLD), env, seed=0, episodes=4, greedy=True)
    assert len(games) == 4
    assert all(game.score == game.length >= 8 for game in games)
    assert run.main([f"--load_path={OLD}", "--play", "--play_episodes=1", "--log_path=unused"]) == 0
    assert "mean of 1: score" in capsys.readouterr().out


def test_it_goes_on_with_its_own_hyperparameters():
    with make_vec_env("CartPole-v1", 2, seed=0) as env:
        model = acktr_discrete.learn(env=env, load_path=OLD, total_timesteps=880)
    assert (model.timesteps, model.updates) == (880, 22)
    assert (model.config.hidden_sizes, model.config.inverses) == ((16,), "inline")


def test_run_py_takes_its_settings_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_LOG_FORMAT", "csv")
    argv = [f"--load_path={OLD}", "--num_timesteps=880", "--num_env=2", f"--log_path={tmp_path}"]
    assert run.main(argv) == 0
    settings = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert settings["hidden_sizes"] == {"value": [16], "from": "checkpoint"}
    assert settings["env"] == {"value": "CartPole-v1", "from": "checkpoint"}
    assert settings["num_env"] == {"value": 2, "from": "command line"}
    assert settings["damping"]["value"] == pytest.approx(0.01)
