"""Claims about the native MuJoCo environment: the same to the bit as Gymnasium's own, and its contract."""

from __future__ import annotations

import copy
import functools
import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import WrapperSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from mujoco.batch import SimulationError

from common.errors import UserError
from common.vec_env import benchmark_mujoco, make_vec_env
from common.vec_env.make import make_env
from common.vec_env.mujoco.vector import NativeMujocoVectorEnv, SimulationDivergedError, supports
from common.vec_env.wrappers import EpisodeInfo

SEED = 5
TASKS = {  # time limit with which 100 random steps end by truncation and, where a task has it, by termination
    "HalfCheetah": 20,
    "Hopper": 15,
    "Walker2d": 20,
    "Ant": 40,
    "Swimmer": 20,
    "Reacher": 20,
    "InvertedPendulum": 5,
    "InvertedDoublePendulum": 6,
    "Humanoid": 25,
    "HumanoidStandup": 25,
    "Pusher": 20,
}
ENDLESS = {"HalfCheetah", "Swimmer", "Reacher", "HumanoidStandup", "Pusher"}
IDS = [f"{name}-v{version}" for name in TASKS for version in (4, 5) if (name, version) != ("Pusher", 4)]


def changed(env_id, limit=None, **kwargs):
    """Returns the registered environment with another time limit and other arguments."""
    spec = copy.deepcopy(gym.spec(env_id))
    spec.max_episode_steps = TASKS[spec.name] if limit is None else limit
    spec.kwargs |= kwargs
    return spec


def random_actions(env, steps):
    """Yields actions up to 1.2 times as large as allowed, as actions drawn from a normal distribution are."""
    rng = np.random.default_rng(1)
    space = env.action_space
    for _ in range(steps):
        yield rng.uniform(1.2 * space.low, 1.2 * space.high).astype(np.float32)


def assert_same(ours, theirs):
    """Compares the results of a step, of infos those that the contract names."""
    for mine, other in zip(ours[:4], theirs[:4], strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)
    mine, other = ours[4], theirs[4]
    for key in ("final_obs", "episode"):
        assert (key in mine) == (key in other)
        np.testing.assert_array_equal(mine.get(f"_{key}"), other.get(f"_{key}"))
    for i in np.flatnonzero(mine.get("_episode", ())):
        np.testing.assert_array_equal(mine["final_obs"][i], other["final_obs"][i])
        assert all(mine["episode"][key][i] == other["episode"][key][i] for key in "rl")


def play_both(spec, steps, num_envs=3):
    """Plays ours and Gymnasium's environment side by side; returns the numbers of terminations and truncations."""
    ours = NativeMujocoVectorEnv(spec, num_envs, num_threads=2)
    factory = functools.partial(make_env, spec)
    theirs = EpisodeInfo(SyncVectorEnv([factory] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP))
    assert ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    ends = np.zeros(2, int)
    np.testing.assert_array_equal(ours.reset(seed=SEED)[0], theirs.reset(seed=SEED)[0])
    for actions in random_actions(ours, steps):
        step = ours.step(actions)
        assert_same(step, theirs.step(actions))
        ends += [step[2].sum(), step[3].sum()]
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
    return ends


@pytest.mark.parametrize("env_id", IDS)
def test_everything_is_to_the_bit_as_in_gymnasium(env_id):
    spec = changed(env_id)
    terminated, truncated = play_both(spec, 100)
    assert truncated > 0
    assert (terminated == 0) == (spec.name in ENDLESS)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("HalfCheetah-v4", {"reset_noise_scale": 0.2, "exclude_current_positions_from_observation": False}),
        ("Hopper-v4", {"terminate_when_unhealthy": False, "healthy_state_range": (-3, 3)}),
        ("Hopper-v5", {"terminate_when_unhealthy": False, "frame_skip": 2}),
        ("Walker2d-v5", {"healthy_reward": 2.0, "healthy_z_range": (1.1, 1.3), "healthy_angle_range": (-0.1, 0.2)}),
        ("Ant-v4", {"use_contact_forces": True, "contact_force_range": (-0.5, 2.0)}),
        ("Ant-v5", {"main_body": "front_left_leg", "include_cfrc_ext_in_observation": False}),
        ("Humanoid-v5", {"include_cinert_in_observation": False, "contact_cost_weight": 1e-3}),
        ("HumanoidStandup-v5", {"impact_cost_weight": 1.0, "impact_cost_range": (-1.0, 0.5)}),
        ("Pusher-v5", {"reward_near_weight": 2.0, "reward_control_weight": 0.3}),
    ],
)
def test_other_arguments_act_as_in_gymnasium(env_id, kwargs):
    play_both(changed(env_id, **kwargs), 50)


def test_a_full_episode_of_1000_steps_is_to_the_bit_as_in_gymnasium():
    _, truncated = play_both(changed("HalfCheetah-v4", limit=1000), 1001, num_envs=2)
    assert truncated == 2


@pytest.mark.parametrize("env_id", ["Hopper-v4", "Ant-v5", "Reacher-v4", "Humanoid-v4", "InvertedDoublePendulum-v5"])
def test_a_restored_environment_continues_to_the_bit_over_resets(env_id):
    spec = changed(env_id)
    first, second = (NativeMujocoVectorEnv(spec, 3) for _ in range(2))
    first.reset(seed=SEED)
    second.reset(seed=99)
    actions = list(random_actions(first, 53))
    for row in actions[:13]:
        first.step(row)
    state = first.get_state()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    expected = [first.step(row) for row in actions[13:]]
    second.set_state(state)
    for row, step in zip(actions[13:], expected, strict=True):
        assert_same(second.step(row), step)
    assert sum(step[2].sum() + step[3].sum() for step in expected) > 0
    assert max(step[4]["episode"]["t"].max() for step in expected if "episode" in step[4]) < 60


def test_arrays_that_were_returned_are_never_written_to():
    env = NativeMujocoVectorEnv(changed("Hopper-v4"), 3)
    results = [(env.reset(seed=0)[0],)]
    results += [env.step(actions) for actions in random_actions(env, 30)]
    kept = copy.deepcopy(results)
    for actions in random_actions(env, 30):
        env.step(actions)
    np.testing.assert_array_equal(results[0][0], kept[0][0])
    for result, copied in zip(results[1:], kept[1:], strict=True):
        assert_same(result, copied)


def test_without_a_seed_every_environment_starts_at_random():
    spec = changed("Hopper-v4")
    starts = np.concatenate([NativeMujocoVectorEnv(spec, 2).reset()[0] for _ in range(2)])
    assert len(np.unique(starts, axis=0)) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_names_its_environment(value):
    env = NativeMujocoVectorEnv(changed("Hopper-v4"), 3)
    env.reset(seed=0)
    actions = np.zeros((3, 3))
    actions[1, 2] = value
    with pytest.raises(ValueError, match="actions: environment 1 got"):
        env.step(actions)
    with pytest.raises(ValueError, match=r"actions: expected shape \(3, 3\), got \(3,\)"):
        env.step(actions[0])


def test_a_diverged_simulation_names_its_environment_and_the_step_of_its_episode(monkeypatch):
    env = NativeMujocoVectorEnv(changed("HalfCheetah-v4"), 3)
    env.reset(seed=0)
    env.step(np.zeros((3, 6)))

    def diverge():
        env.qpos[1, 4] = np.nan

    def refuse():
        raise SimulationError(np.array([2]), "too many constraints")

    monkeypatch.setattr(env._sims, "step", diverge)
    with pytest.raises(SimulationDivergedError, match=r"environment 1 diverged in step 2 of its episode: .*not finite"):
        env.step(np.zeros((3, 6)))
    monkeypatch.setattr(env._sims, "step", refuse)
    with pytest.raises(
        SimulationDivergedError, match=r"environment 2 diverged in step 3 of its .*too many constraints"
    ):
        env.step(np.zeros((3, 6)))


@pytest.mark.parametrize("backend", ["native", "sync"])
def test_mujoco_writes_no_file_when_it_loads_a_model(backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with make_vec_env("HalfCheetah-v4", 2, seed=0, backend=backend) as env:
        env.reset()
    assert list(tmp_path.iterdir()) == []


def test_an_unstable_simulation_goes_to_the_log_and_writes_no_file(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    env = NativeMujocoVectorEnv(changed("HalfCheetah-v4"), 2)
    env.reset(seed=0)
    env.qvel[0] = 1e11
    env.step(np.zeros((2, 6)))
    assert "simulation is unstable" in caplog.text
    assert list(tmp_path.iterdir()) == []


class Spy:
    """Observes the first position, times 10, and notes when it is called."""

    space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self, env):
        self.env = env
        self.calls = []

    def reset(self, rows):
        self.calls.append(rows.tolist())
        return 10 * self.env.qpos[rows, :1].astype(np.float32)

    def observe(self):
        self.calls.append("observe")
        return 10 * self.env.qpos[:, :1].astype(np.float32)

    def close(self):
        self.calls.append("close")


def test_an_observer_replaces_the_observations_and_nothing_else():
    spies = []

    def observer(env):
        spies.append(Spy(env))
        return spies[0]

    spec = changed("Hopper-v4", limit=2, exclude_current_positions_from_observation=False)
    plain, observed = NativeMujocoVectorEnv(spec, 2), NativeMujocoVectorEnv(spec, 2, observer=observer)
    assert observed.single_observation_space == Spy.space
    expected, _ = plain.reset(seed=0)
    np.testing.assert_array_equal(observed.reset(seed=0)[0], 10 * expected[:, :1])
    for actions in random_actions(plain, 2):
        step, expected = observed.step(actions), plain.step(actions)
        np.testing.assert_array_equal(step[0], 10 * expected[0][:, :1])
        for ours, theirs in zip(step[1:4], expected[1:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.stack(step[4]["final_obs"]), 10 * np.stack(expected[4]["final_obs"])[:, :1])
    assert spies[0].calls == [[0, 1], "observe", "observe", [0, 1]]
    observed.set_state(plain.get_state())
    assert spies[0].calls[-1] == [0, 1]
    observed.close()
    assert spies[0].calls[-1] == "close"


def test_only_what_is_implemented_is_supported():
    assert all(supports(gym.spec(env_id)) for env_id in IDS)
    assert not supports(gym.spec("CartPole-v1"))
    assert not supports(gym.spec("Pusher-v4"))
    assert not supports(changed("Ant-v5", xml_file="swimmer.xml"))
    assert not supports(changed("Hopper-v4", width=100))
    wrapped = changed("Hopper-v4")
    wrapped.additional_wrappers = (WrapperSpec("Clip", "gymnasium.wrappers:ClipAction", {}),)
    assert not supports(wrapped)
    with pytest.raises(ValueError, match="CartPole-v1 is not a MuJoCo task"):
        NativeMujocoVectorEnv(gym.spec("CartPole-v1"), 1)


def test_stepping_before_a_reset_is_an_error():
    with pytest.raises(gym.error.ResetNeeded):
        NativeMujocoVectorEnv(changed("Hopper-v4"), 1).step(np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("env_id", "arguments", "native"),
    [
        ("Hopper-v4", {}, True),
        ("Ant-v5", {"backend": "native"}, True),
        ("Hopper-v4", {"backend": "sync"}, False),
        ("Hopper-v4", {"render_mode": "rgb_array"}, False),
        ("Pendulum-v1", {}, False),
    ],
)
def test_make_vec_env_takes_the_native_environment_where_it_fits(env_id, arguments, native):
    with make_vec_env(env_id, 2, seed=3, **arguments) as env:
        assert isinstance(env.unwrapped, NativeMujocoVectorEnv) == native
        assert env.unwrapped.spec.id == env_id
        assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
        with make_vec_env(env_id, 2, seed=3, backend="sync") as sync:
            np.testing.assert_array_equal(env.reset()[0], sync.reset()[0])
            assert_same(env.step(0.5 * env.action_space.high), sync.step(0.5 * env.action_space.high))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env_id": "Pendulum-v1", "backend": "native"}, r"backend=native: needs .*MuJoCo task .* got Pendulum-v1"),
        ({"env_id": "Pusher-v4", "backend": "native"}, "backend=native: needs .* got Pusher-v4"),
        ({"env_id": "Pusher-v4"}, r"--env=Pusher-v4: .*Did you mean Pusher-v5\?"),
        ({"env_id": "Hopper-v4", "backend": "sync", "pixels": True}, "--pixels: needs .* native .* got Hopper-v4"),
        ({"env_id": "CartPole-v1", "pixels": True}, "--pixels: needs .*MuJoCo tasks .* got CartPole-v1"),
        ({"env_id": "PongNoFrameskip-v4", "pixels": True}, "--pixels: needs .* got PongNoFrameskip-v4"),
    ],
)
def test_a_backend_that_does_not_fit_says_what_it_needs(arguments, message):
    with pytest.raises(UserError, match=message):
        make_vec_env(num_env=1, seed=0, **arguments)


def test_the_benchmark_does_not_count_resets_that_take_a_step(monkeypatch, capsys):
    def make(env_id, env_type, num_envs, num_threads, seed):
        return make_vec_env(env_id, num_envs, seed, backend="sync")

    monkeypatch.setitem(sys.modules, "envpool", SimpleNamespace(make=make))
    ratios = benchmark_mujoco.compare("Hopper-v4", num_env=2, rounds=2, steps=3, num_threads=1)
    assert ratios.keys() == {"wrapped", "envpool", "sync"}
    assert all(ratio > 0 for ratio in ratios.values())
    assert len(capsys.readouterr().out.splitlines()) == 3
    ended = np.array([True, True])
    ending = SimpleNamespace(step=lambda actions: (None, None, ended, ~ended, {}))
    assert benchmark_mujoco._rate(ending, np.zeros((4, 2, 3)), resets_apart=True) == 0
    assert benchmark_mujoco._rate(ending, np.zeros((4, 2, 3)), resets_apart=False) > 0
