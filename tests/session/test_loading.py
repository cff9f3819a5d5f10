"""Models from checkpoints alone."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from baselines_acktr import a2c, acktr_cont, acktr_discrete, load, trpo
from baselines_acktr.agent import description
from baselines_acktr.agent.description import space_of
from baselines_acktr.play import play
from common import array_file
from common.errors import UserError
from common.logger import Logger
from common.vec_env import make_vec_env

BOX = gym.spaces.Box(np.array([-1, -np.inf, 0], np.float32), np.array([1, np.inf, 2.5], np.float32))
BYTES = gym.spaces.Box(0, 255, (8, 8, 4), np.uint8)
SPACES = [
    BOX,
    BYTES,
    gym.spaces.Box(-2.0, 2.0, (1,), np.float32),
    gym.spaces.Box(0, np.iinfo(np.int64).max, (3,), np.int64),
    gym.spaces.Discrete(5),
    gym.spaces.Discrete(3, start=-1),
    gym.spaces.MultiDiscrete([3, 2, 4]),
    gym.spaces.MultiDiscrete([3, 2], start=[1, -1]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_is_made_again_from_its_description(space):
    assert space_of(description.describe_space(space)) == space


def test_a_space_that_no_model_has_is_refused():
    with pytest.raises(OverflowError):
        space_of(description.describe_space(BYTES) | {"high": 300})
    with pytest.raises(ValueError, match="its space is a Text"):
        space_of(description.describe_space(gym.spaces.MultiBinary(3)) | {"type": "Text"})


@pytest.mark.parametrize(
    ("model_class", "actions"),
    [
        (acktr_discrete.Model, gym.spaces.MultiDiscrete([3, 2])),
        (acktr_cont.Model, gym.spaces.Box(-1, 1, (2,))),
        (a2c.DiscreteModel, gym.spaces.Discrete(3, start=2)),
        (a2c.ContinuousModel, gym.spaces.Box(-1, 1, (2,))),
        (trpo.DiscreteModel, gym.spaces.Discrete(3)),
        (trpo.ContinuousModel, gym.spaces.Box(-1, 1, (2,))),
    ],
)
def test_a_loaded_model_acts_as_the_one_that_was_saved(tmp_path, model_class, actions):
    config = model_class.config_class(hidden_sizes=(8, 5))
    model = model_class(BOX, actions, "mlp", config, seed=3, env_id="Some-v0")
    model.env_arguments = {"env": "module:Some-v0", "frame_stack": 2}  # as older files have it
    model.save(str(tmp_path / "model"))
    assert load(str(tmp_path / "model")).env_arguments == {"env_id": "Some-v0", "frame_stack": 2}
    loaded = load(str(tmp_path / "model"), trust=True)
    assert (type(loaded), loaded.config, loaded.seed) == (model_class, config, 3)
    assert (loaded.env_id, loaded.env_arguments) == (
        "Some-v0",
        {"env_id": "module:Some-v0", "frame_stack": 2},
    )
    observations = np.random.default_rng(0).uniform(0, 1, (4, 3)).astype(np.float32)
    for one, other in zip(model.step(observations, True), loaded.step(observations, True), strict=True):
        np.testing.assert_array_equal(one, other)
    batch, state = loaded.predict(observations, deterministic=True)
    np.testing.assert_array_equal(batch, model.step(observations, True)[0])
    single, _ = loaded.predict(observations[1], deterministic=True)
    np.testing.assert_allclose(single, batch[1], rtol=1e-5)
    assert state is None and actions.contains(single)
    with pytest.raises(UserError, match=r"observation of shape \(4,\): must be of shape \(3,\), or a batch"):
        loaded.predict(np.zeros(4))


def test_training_goes_on_in_python_with_the_networks_and_hyperparameters_of_the_checkpoint(tmp_path):
    path = str(tmp_path / "model")
    with make_vec_env("CartPole-v1", 2, 0) as env:
        made = {"hidden_sizes": [8], "nsteps": 5, "inverses": "inline", "lr": 0.3}
        acktr_discrete.learn(env=env, total_timesteps=10, save_path=path, **made)
        model = acktr_discrete.learn(env=env, total_timesteps=20, load_path=path, lr=0.2)
        assert (model.config.hidden_sizes, model.config.nsteps, model.config.lr, model.updates) == ((8,), 5, 0.2, 2)
    with make_vec_env(**load(path).env_arguments, num_env=1) as env:
        assert len(play(load(path), env, episodes=2)) == 2


def test_a_second_run_into_the_same_logs_is_said_and_one_that_goes_on_is_not(tmp_path, capsys):
    path = str(tmp_path / "model")
    options = {"hidden_sizes": (8,), "nsteps": 5, "save_path": path}
    said = []
    with make_vec_env("CartPole-v1", 2, 0) as env:
        for more in ({}, {"load_path": path}, {}):
            with Logger(tmp_path / "logs", ["csv"]) as logger:
                a2c.learn(env=env, total_timesteps=20, logger=logger, **options | more)
            said.append("has the logs of another run" in capsys.readouterr().err)
    assert said == [False, False, True]


@pytest.mark.parametrize(
    ("learner", "name", "rate"),
    [
        (acktr_cont, "lr", lambda model: model.optimizer.learning_rate),
        (trpo, "vf_stepsize", lambda model: model.value_function.optimizer.inner.learning_rate),
    ],
)
def test_a_rate_that_is_given_is_taken_in_place_of_the_checkpoints(tmp_path, learner, name, rate):
    path = str(tmp_path / "model")
    options = {"hidden_sizes": (8,), "timesteps_per_batch": 20, "vf_iters": 1}
    with make_vec_env("Pendulum-v1", 2, 0) as env:
        learner.learn(env=env, total_timesteps=20, save_path=path, **options | {name: 0.25})
        for given, expected in (({}, 0.25), ({name: 0.125}, 0.125)):
            model = learner.learn(env=env, total_timesteps=40, load_path=path, **given)
            assert float(rate(model)) == getattr(model.config, name) == expected


@pytest.mark.parametrize(
    "meta", [{}, {"algorithm": "ppo"}, {"action_space": {"type": "Text", "shape": [], "dtype": "u1"}}]
)
def test_a_checkpoint_without_a_model_is_one_line(tmp_path, meta):
    model = trpo.ContinuousModel(BOX, gym.spaces.Box(-1, 1, (2,)), "mlp", trpo.ContinuousModel.config_class())
    array_file.save(tmp_path / "model", {}, model.content()[1] | meta if meta else {})
    with pytest.raises(UserError, match="has no model that can be made here"):
        load(str(tmp_path / "model"))
