"""Claims about `make_vec_env` that hold for every backend, and about what it refuses."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from repository import ROOT
from vec_env_helpers import OK

from common.errors import UserError
from common.vec_env import make_vec_env

COUNTER = "vec_env_helpers:Counter-v0"
ACTIONS = np.array([OK, OK])


@pytest.mark.parametrize(
    ("env_id", "backend"),
    [("PongNoFrameskip-v4", "native"), ("PongNoFrameskip-v4", "sync"), ("CartPole-v1", "sync"), (COUNTER, "subproc")],
)
def test_step_returns_the_shapes_and_types_of_the_contract(env_id, backend):
    with make_vec_env(env_id, 3, seed=0, backend=backend) as env:
        assert isinstance(env, VectorEnv)
        assert env.num_envs == 3
        assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
        observations, infos = env.reset()
        assert isinstance(infos, dict)
        assert env.observation_space.contains(observations)
        observations, rewards, terminations, truncations, infos = env.step(np.array([1, 1, 1]))
        assert env.observation_space.contains(observations)
        assert observations.dtype != np.float64
        assert rewards.dtype == np.float32
        assert rewards.shape == (3,)
        assert terminations.dtype == truncations.dtype == bool
        assert terminations.shape == truncations.shape == (3,)
    env.close()


class Bounded(gym.Env):
    observation_space = gym.spaces.Box(-0.1, 0.1, (3,), np.float64)
    action_space = gym.spaces.Discrete(2)


def test_a_bounded_float64_box_becomes_float32_without_a_word(recwarn):
    gym.register("Bounded-v0", Bounded)
    with make_vec_env("Bounded-v0", 2, seed=0) as env:
        assert env.single_observation_space == gym.spaces.Box(-0.1, 0.1, (3,), np.float32)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("backend", ["sync", "subproc"])
@pytest.mark.parametrize("env_id", [COUNTER, "vec_env_helpers:Float32Counter-v0"])
def test_the_final_observation_is_a_copy_although_the_environment_reuses_its_array(env_id, backend):
    with make_vec_env(env_id, 2, seed=7, backend=backend) as env:
        first, _ = env.reset()
        steps = [env.step(ACTIONS) for _ in range(7)]
    np.testing.assert_array_equal(first, np.float32([[7, 0], [8, 0]]))
    assert [step[0][0, 1] for step in steps] == [1, 2, 0, 1, 2, 0, 1]
    assert [step[2].tolist() for step in steps[:3]] == [[False] * 2, [False] * 2, [True] * 2]
    for end in (2, 5):
        infos = steps[end][4]
        assert infos["_final_obs"].tolist() == [True, True]
        np.testing.assert_array_equal(np.stack(infos["final_obs"]), np.float32([[7, 3], [8, 3]]))
        assert infos["final_obs"][0].dtype == np.float32
    assert all("final_obs" not in steps[i][4] for i in (0, 1, 3, 4, 6))


@pytest.mark.parametrize("backend", ["sync", "subproc"])
def test_the_episode_holds_the_unscaled_score_and_the_length(backend):
    with make_vec_env(COUNTER, 2, seed=0, backend=backend, reward_scale=0.5) as env:
        env.reset()
        steps = [env.step(ACTIONS) for _ in range(6)]
    assert [step[1].tolist() for step in steps[:3]] == [[0.5] * 2, [1.0] * 2, [1.5] * 2]
    for end in (2, 5):
        infos = steps[end][4]
        assert infos["_episode"].tolist() == [True, True]
        assert infos["episode"]["r"].tolist() == [6.0, 6.0]
        assert infos["episode"]["l"].tolist() == [3, 3]
        assert (infos["episode"]["t"] > 0).all()
    assert "episode" not in steps[4][4]


def test_a_time_limit_is_a_truncation_and_not_a_termination():
    with make_vec_env("vec_env_helpers:LimitedCounter-v0", 1, seed=0) as env:
        env.reset()
        env.step(ACTIONS[:1])
        observations, _, terminations, truncations, infos = env.step(ACTIONS[:1])
    assert (terminations.tolist(), truncations.tolist()) == ([False], [True])
    assert (infos["final_obs"][0][1], observations[0, 1]) == (2, 0)
    assert infos["episode"]["l"].tolist() == [2]


def test_the_seed_reaches_the_first_reset_and_ranks_differ():
    def seeds(**kwargs):
        with make_vec_env(COUNTER, 2, **kwargs) as env:
            first = env.reset()[0][:, 0].tolist()
            assert env.reset()[0][:, 0].tolist() == first  # no new seed
            assert env.reset(seed=3)[0][:, 0].tolist() == [3, 4]
        return first

    assert seeds(seed=5) == [5, 6]
    ranks = [seeds(seed=5, rank=rank) for rank in range(3)]
    assert len(set(np.ravel(ranks))) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env_id": "CartPol-v1"}, r"--env=CartPol-v1: .*Did you mean CartPole-v1\?"),
        ({"env_id": "CartPole"}, r"Did you mean CartPole-v1\?"),
        ({"env_id": "BreakoutNoFrameSkip-v4"}, r"Did you mean BreakoutNoFrameskip-v4\?"),
        ({"env_id": "ALE/Brekout-v5"}, r"Did you mean ALE/Breakout-v5\?"),
        ({"env_id": "Breakout-v4"}, r"Did you mean BreakoutNoFrameskip-v4\?"),
        ({"env_id": "Hopper-v2"}, r"--env=Hopper-v2: .*Did you mean Hopper-v5\?"),
        ({"env_id": "HalfCheetah-v3"}, r"Did you mean HalfCheetah-v5\?"),
        ({"env_id": ""}, "no such environment"),
        ({"env_id": 3}, "env_id=3: must be the id of an environment, or a function that makes one"),
        ({"env_id": gym.Env}, "env: environment 0: observation_space: is None"),
        ({"env_id": "no_such_module:Game-v0"}, "cannot import module no_such_module"),
        ({"num_env": 0}, "--num_env=0: must be a whole number of at least 1"),
        ({"backend": "subprocess"}, r"backend=subprocess: .*Did you mean subproc\?"),
        ({"backend": "native"}, "backend=native: needs a preprocessed Atari game"),
        ({"reward_scale": float("nan")}, "--reward_scale=nan"),
        ({"reward_scale": 0}, "--reward_scale=0: must be a finite number above 0"),
        ({"num_env": "2"}, "--num_env=2: must be a whole number of at least 1"),
        ({"seed": 1.5}, "--seed=1.5: must be a whole number of at least 0"),
        ({"frame_stack": 0}, "frame_stack=0"),
        ({"seed": -1}, "--seed=-1"),
        ({"step_timeout": 0.0}, "step_timeout=0"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        make_vec_env(**{"env_id": "CartPole-v1", "num_env": 1, "seed": 0, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env_id", "observation"),
    [("FrozenLake-v1", np.eye(16)[0]), ("Blackjack-v1", None), ("Taxi-v4", None), ("vec_env_helpers:Mixed-v0", None)],
)
def test_observations_that_are_no_box_become_vectors(env_id, observation):
    with make_vec_env(env_id, 2, 0) as env:
        observations, _ = env.reset()
        assert isinstance(env.single_observation_space, gym.spaces.Box)
        assert observations.shape == (2, *env.single_observation_space.shape)
        assert len(env.single_observation_space.shape) == 1
        assert env.observation_space.contains(observations)
        if observation is not None:
            np.testing.assert_array_equal(observations, [observation] * 2)


def test_the_environments_know_the_arguments_that_say_what_is_learned():
    with make_vec_env("vec_env_helpers:Counter-v0", 1, 0, reward_scale=0.5) as env:
        expected = {"env_id": "vec_env_helpers:Counter-v0", "frame_stack": 4, "reward_scale": 0.5, "pixels": False}
        assert env.arguments == expected


def test_a_missing_dependency_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"--env=LunarLander-v3: .*pip install .*box2d"):
        make_vec_env("LunarLander-v3", 1, seed=0)


def test_importing_loads_neither_tensorflow_nor_the_emulator():
    code = (
        "import sys, common.vec_env; print([m for m in ('tensorflow', 'ale_py', 'cv2', 'mujoco') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
