"""Claims about the state of environments: what is restored goes on to the bit, and what cannot be read says so."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from vec_env_helpers import OK

from common.vec_env import make_vec_env

CLASSIC = ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1"]
TASKS = ["Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum"]
TASKS += ["Pusher", "Reacher", "Swimmer", "Walker2d"]
TASK_IDS = [f"{task}-v{version}" for task in TASKS for version in (4, 5)]
TASK_IDS.remove("Pusher-v4")  # it refuses MuJoCo 3 and later


def make(env_id: str, seed: int, backend: str = "sync", num_env: int = 2, **kwargs: Any) -> gym.vector.VectorEnv:
    return make_vec_env(env_id, num_env, seed, backend=backend, **kwargs)


def steps(env: gym.vector.VectorEnv, count: int, seed: int) -> list[Any]:
    """What `count` random actions lead to, statistics of games included but for their duration."""
    env.action_space.seed(seed)
    results = []
    for _ in range(count):
        *arrays, infos = env.step(env.action_space.sample())
        results += [*arrays, *(infos["final_obs"][infos["_final_obs"]] if "final_obs" in infos else ())]
        if "episode" in infos:
            results += [infos["_episode"], infos["episode"]["r"], infos["episode"]["l"]]
    return results


def assert_goes_on_to_the_bit(env_id: str, before: int, after: int, **kwargs: Any) -> None:
    with make(env_id, 0, **kwargs) as env, make(env_id, 9, **kwargs) as restored:
        assert env.state_gap == ""
        env.reset()
        steps(env, before, seed=1)
        restored.set_state(env.get_state())
        expected, got = steps(env, after, seed=2), steps(restored, after, seed=2)
        assert len(expected) == len(got)
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("env_id", CLASSIC)
def test_classic_control_goes_on_to_the_bit_over_ends_of_episodes(env_id):
    assert_goes_on_to_the_bit(env_id, before=30, after=250)


def test_worker_processes_go_on_to_the_bit():
    assert_goes_on_to_the_bit("CartPole-v1", before=30, after=60, backend="subproc")


@pytest.mark.parametrize("env_id", TASK_IDS)
def test_gymnasiums_mujoco_tasks_go_on_to_the_bit(env_id):
    assert_goes_on_to_the_bit(env_id, before=40, after=130, num_env=1)


@pytest.mark.parametrize("game", ["Breakout", "Pong"])
def test_wrapped_games_go_on_to_the_bit_over_lives_and_ends(game):
    assert_goes_on_to_the_bit(f"{game}NoFrameskip-v4", before=60, after=200, num_env=1)


class Described(gym.Env):
    """Says what changes in it: a number, a tuple of arrays, and nothing for now."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    state_attributes = ("count", "pair", "nothing")
    nothing = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.pair = 0, (np.zeros(1, np.float32), np.float32(0))
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count += 1
        self.pair = (self.pair[0] + action, np.float32(self.np_random.random()))
        assert self.nothing is None
        return np.array([self.pair[0][0], self.pair[1]]), float(self.count), self.count == 5, False, {}


class Described2(Described):
    state_attributes = None


gym.register("Described-v0", Described)
gym.register("Undescribed-v0", Described2)


def test_an_environment_of_the_users_own_says_what_changes_in_it():
    assert_goes_on_to_the_bit("Described-v0", before=7, after=20)


@pytest.mark.parametrize("env_id", ["Undescribed-v0", "vec_env_helpers:Counter-v0"])
def test_an_environment_that_does_not_say_it_is_named_and_has_an_empty_state(env_id):
    with make(env_id, 0) as env:
        assert "does not say in `state_attributes` what changes in it" in env.state_gap
        assert env.get_state() == {}


def test_sticky_actions_of_the_emulator_are_a_gap_that_the_native_backend_does_not_have():
    with make("ALE/Pong-v5", 0, num_env=1) as classic, make("ALE/Pong-v5", 0, "native", num_env=1) as native:
        assert "does not tell which action it repeats" in classic.state_gap
        assert native.state_gap == ""


def test_the_type_of_a_number_is_restored():
    with make("Described-v0", 0, num_env=1) as env, make("Described-v0", 1, num_env=1) as restored:
        env.reset()
        steps(env, 2, seed=0)
        restored.set_state(env.get_state())
        base = restored.unwrapped.envs[0].unwrapped
        assert type(base.count) is int
        assert [type(item) for item in base.pair] == [np.ndarray, np.float32]


def test_restoring_drops_the_rows_of_monitor_files_that_were_written_later(tmp_path):
    kwargs = {"num_env": 2, "log_dir": tmp_path}
    with make("Described-v0", 0, **kwargs) as env:
        env.reset()
        steps(env, 12, seed=0)
        state = env.get_state()
        before = [path.read_text() for path in sorted(tmp_path.iterdir())]
        steps(env, 10, seed=0)
    with make("Described-v0", 0, **kwargs) as env:
        env.set_state(state)
        assert [path.read_text() for path in sorted(tmp_path.iterdir())] == before
        steps(env, 3, seed=0)
    rows = [path.read_text().splitlines() for path in sorted(tmp_path.iterdir())]
    assert [len(lines) for lines in rows] == [2 + 3, 2 + 3]


def test_a_full_disk_costs_rows_of_monitor_files_and_not_the_run(tmp_path, monkeypatch, caplog):
    from common.appended_file import AppendedFile

    def full(self, text):
        raise OSError(28, "No space left on device")

    with make("Described-v0", 0, log_dir=tmp_path) as env:
        env.reset()
        monkeypatch.setattr(AppendedFile, "write", full)
        for _ in range(12):
            env.step(np.full(2, OK))
    assert [record.message for record in caplog.records] == [
        "monitor files: games are missing from here on: No space left on device"
    ]
