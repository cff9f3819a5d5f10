"""Claims about observations from pixels, and about rendering without a display."""

from __future__ import annotations

import gc
import os
import signal
import struct
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from repository import ROOT

from common.errors import UserError
from common.vec_env import make_vec_env, rendering
from common.vec_env.mujoco.pixels import PixelObserver
from common.vec_env.mujoco.pixels_worker import CAMERAS
from common.vec_env.mujoco.vector import NativeMujocoVectorEnv

TASKS = ["Reacher-v4", "HalfCheetah-v4", "Walker2d-v4"]
FLOOR_PATTERN = 80 / 60  # metres after which the floor of the runners repeats itself


def simulations(env_id, num_envs):
    """Returns an environment whose positions the test sets."""
    env = NativeMujocoVectorEnv(gym.spec(env_id), num_envs)
    env.reset(seed=0)
    return env


@pytest.fixture
def observe():
    """Returns a function that opens observers, which are closed at the end."""
    observers = []

    def open_observer(sims, **kwargs):
        observers.append(PixelObserver(sims, **kwargs))
        return observers[-1]

    yield open_observer
    for observer in observers:
        observer.close()


def current(observations):
    return observations[..., :3]


def previous(observations):
    return observations[..., 3:]


def test_first_observation_shows_its_frame_twice(observe):
    sims = simulations("HalfCheetah-v4", 4)
    observer = observe(sims)
    observations = observer.reset(np.arange(4))
    assert observations.dtype == np.uint8 and observations.shape == (4, *observer.space.shape)
    assert all(observer.space.contains(observation) for observation in observations)
    np.testing.assert_array_equal(current(observations), previous(observations))
    assert (observations[0] != observations[1]).any()


def test_after_a_step_the_last_frame_is_the_previous_one(observe):
    sims = simulations("HalfCheetah-v4", 3)
    observer = observe(sims)
    first = observer.reset(np.arange(3))
    sims.qpos[1:, 3] += 0.3
    second = observer.observe()
    np.testing.assert_array_equal(previous(second), current(first))
    changed = (current(second) != current(first)).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, [False, True, True])
    np.testing.assert_array_equal(previous(observer.observe()), current(second))


def test_reset_of_some_rows_leaves_the_others_their_previous_frame(observe):
    sims = simulations("HalfCheetah-v4", 4)
    observer = observe(sims)
    first = observer.reset(np.arange(4))
    sims.qpos[[1, 3]] = sims.qpos[0]
    restarted = observer.reset(np.array([1, 3]))
    np.testing.assert_array_equal(restarted, first[[0, 0]])
    np.testing.assert_array_equal(previous(observer.observe()), current(first)[[0, 0, 2, 0]])


def test_reset_in_restored_positions_goes_on_as_if_never_stopped(observe):
    sims = simulations("HalfCheetah-v4", 2)
    stopped, running = observe(sims), observe(sims)
    running.reset(np.arange(2))
    sims.qpos[:, 3] += 0.2
    running.observe()
    stopped.reset(np.arange(2))
    sims.qpos[:, 4] += 0.2
    np.testing.assert_array_equal(stopped.observe(), running.observe())


def test_returned_observations_are_never_written_to_again(observe):
    sims = simulations("Reacher-v4", 2)
    observer = observe(sims)
    returned = [observer.reset(np.arange(2)), observer.observe(), observer.reset(np.array([1]))]
    copies = [observations.copy() for observations in returned]
    sims.qpos[:, 0] += 1.0
    observer.observe()
    observer.reset(np.array([0]))
    for observations, copy in zip(returned, copies, strict=True):
        np.testing.assert_array_equal(observations, copy)


@pytest.mark.parametrize("env_id", TASKS)
def test_same_positions_give_same_pixels_in_any_row_process_and_number_of_processes(env_id, observe, monkeypatch):
    sims = simulations(env_id, 5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    several = observe(sims)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    single = observe(sims)
    assert len(several.processes) == 3 and len(single.processes) == 1
    expected = single.reset(np.arange(5))
    np.testing.assert_array_equal(several.reset(np.arange(5)), expected)
    sims.qpos[:] = sims.qpos[::-1].copy()
    np.testing.assert_array_equal(several.reset(np.arange(5)), expected[::-1])
    np.testing.assert_array_equal(several.reset(np.array([4, 1])), expected[[0, 3]])


def test_reacher_is_seen_from_above_wherever_arm_and_target_are(observe):
    center = 20.5
    for angle, (right, up) in {0.0: (1, 0), np.pi / 2: (0, 1), np.pi: (-1, 0), -np.pi / 2: (0, -1)}.items():
        sims = simulations("Reacher-v4", 1)
        sims.qpos[0] = [angle, 0, -0.2 * right, -0.2 * up]  # the target is on the other side
        red, green, blue = np.moveaxis(observe(sims).reset(np.array([0]))[0, ..., :3].astype(int), -1, 0)
        for mask, sign in ((blue - red > 30, 1), ((red - green > 30) & (blue - green < 15), -1)):
            rows, columns = np.nonzero(mask)
            offset = sign * np.array([columns.mean() - center, center - rows.mean()])
            assert 8 < offset @ (right, up) < 20
            assert abs(offset @ (up, right)) < 2


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Walker2d-v4"])
def test_a_runner_is_seen_alike_after_half_a_kilometre_and_the_floor_shows_its_progress(env_id, observe):
    sims = simulations(env_id, 3)
    sims.qpos[:] = sims.qpos[0]
    sims.qpos[1:, 0] += np.array([375.0, 0.5]) * FLOOR_PATTERN
    here, far, ahead = current(observe(sims).reset(np.arange(3))).astype(int)
    assert np.abs(far - here).mean() < 1
    assert np.abs(ahead - here).mean() > 10
    body = here[..., 0] - here[..., 1] > 15
    assert body.sum() > 30
    assert np.abs(ahead - here)[body].mean() < 10


@pytest.mark.parametrize("task", CAMERAS)
def test_cameras_of_tasks_without_one_show_the_moving_body(task, observe):
    sims = simulations(f"{task}-v4", 2)
    sims.qpos[1, 1] += 0.5
    frames = current(observe(sims).reset(np.arange(2))).astype(int)
    assert (np.abs(frames[1] - frames[0]).max(axis=-1) > 30).sum() > 10


def test_closed_observers_leave_no_process_and_no_file_open():
    sims = simulations("Reacher-v4", 2)

    def open_and_close():
        observer = PixelObserver(sims)
        observer.reset(np.arange(2))
        start = time.monotonic()
        processes = observer.processes
        observer.close()
        observer.close()
        assert time.monotonic() - start < 2.0
        assert processes and not any(process.is_alive() for process in processes)

    def open_files():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    open_and_close()
    before = open_files()
    for _ in range(3):
        open_and_close()
    assert open_files() == before


def test_a_failing_renderer_is_an_error_with_its_traceback(observe, monkeypatch):
    observer = observe(simulations("Reacher-v4", 2))
    processes = observer.processes
    monkeypatch.setattr("common.vec_env.mujoco.pixels.ROWS", struct.Struct("IIx"))
    message = r"(?s)renderer [01] raised an exception in its worker .*struct\.error: unpack"
    with pytest.raises(RuntimeError, match=message):
        observer.observe()
    assert not any(process.is_alive() for process in processes)


def test_a_killed_renderer_is_an_error_with_its_exit_code(observe):
    observer = observe(simulations("Reacher-v4", 2))
    processes = observer.processes
    processes[-1].kill()
    processes[-1].join()
    message = rf"the worker process of renderer {len(processes) - 1} died \(exit code -9\)"
    with pytest.raises(RuntimeError, match=message):
        observer.observe()
    assert not any(process.is_alive() for process in processes)


def test_a_hanging_renderer_is_an_error_after_the_timeout():
    with make_vec_env("Reacher-v4", 2, 0, pixels=True, step_timeout=0.5) as env:
        env.reset()
        processes = env.unwrapped._observer.processes
        os.kill(processes[0].pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(RuntimeError, match=r"renderer 0 did not answer within 0\.5 s"):
            env.step(np.zeros((2, 2), np.float32))
        assert time.monotonic() - start < 3.0
    assert not any(process.is_alive() for process in processes)


def test_vector_env_from_pixels_gives_final_and_first_observations():
    with make_vec_env("Reacher-v4", 4, 0, pixels=True) as env:
        observations, _ = env.reset()
        assert env.observation_space.shape == observations.shape == (4, 42, 42, 6)
        assert observations.dtype == np.uint8
        actions = np.ones((4, 2), np.float32)
        for step in range(50):
            last = observations
            observations, _, _, truncations, infos = env.step(actions)
            assert truncations.all() == (step == 49)
            seen = np.stack(infos["final_obs"]) if truncations.all() else observations
            np.testing.assert_array_equal(previous(seen), current(last))
            assert (current(seen) != current(last)).any(axis=(1, 2, 3)).all()
        np.testing.assert_array_equal(previous(observations), current(observations))
        assert (current(observations) != current(seen)).any(axis=(1, 2, 3)).all()


def test_an_agent_that_sees_pixels_is_shown_by_what_it_sees():
    with make_vec_env("Reacher-v4", 2, 0, pixels=True, render_mode="rgb_array") as env:
        env.reset()
        observations = env.step(np.ones((2, 2), np.float32))[0]
        frames = env.render()
        assert env.metadata["render_fps"] == 50
    assert [frame.shape for frame in frames] == [(336, 336, 3)] * 2
    for frame, observation in zip(frames, observations, strict=True):
        np.testing.assert_array_equal(frame[4::8, 4::8], current(observation))


def without_egl(monkeypatch):
    """Fails as PyOpenGL does where libEGL cannot be loaded."""

    def no_library(*size):
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setattr("mujoco.egl.GLContext", no_library)


def run_script(script, **variables):
    """Runs a script in a new process without a display; returns its standard output."""
    hidden = {"MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | variables
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_missing_egl_is_one_line_that_names_the_flag_and_the_packages():
    script = """
from common.errors import UserError
from common.vec_env import make_vec_env

for flag in {"pixels": True}, {"render_mode": "rgb_array"}:
    try:
        make_vec_env("Reacher-v4", 2, 0, **flag)
    except UserError as error:
        print(error)
"""
    problem = "cannot render without EGL; on Debian and Ubuntu: apt-get install"
    packages = "libegl1 libegl-mesa0 libgl1-mesa-dri libgles2"
    lines = run_script(script, __EGL_VENDOR_LIBRARY_FILENAMES="/dev/null").splitlines()
    assert lines == [f"{flag}: {problem} {packages}" for flag in ("--pixels", "--video")]


def test_missing_egl_stops_a_video(monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    without_egl(monkeypatch)
    with pytest.raises(UserError, match=r"^--video: .*apt-get install libegl1"):
        rendering.ensure_offscreen_rendering()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize("user", [{"MUJOCO_GL": "osmesa"}, {"DISPLAY": ":0"}, {"WAYLAND_DISPLAY": "wayland-0"}])
def test_users_backend_and_displays_are_respected(user, monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    without_egl(monkeypatch)
    for name, value in user.items():
        monkeypatch.setenv(name, value)
    rendering.ensure_offscreen_rendering()
    assert os.environ.get("MUJOCO_GL") == user.get("MUJOCO_GL")


def test_tensorflow_lives_beside_pixels_and_beside_frames():
    script = """
import numpy as np, tensorflow as tf
from common.vec_env import make_vec_env

def steps(env_id, num_env, actions, **arguments):
    with make_vec_env(env_id, num_env, 0, **arguments) as env:
        env.reset()
        for _ in range(3):
            env.step(np.zeros((num_env, actions), np.float32))
        tf.matmul(tf.ones((64, 64)), tf.ones((64, 64))).numpy()
        observations = env.step(np.ones((num_env, actions), np.float32))[0]
        return observations if "pixels" in arguments else env.render()

pixels = steps("Reacher-v4", 4, 2, pixels=True)
assert pixels.shape == (4, 42, 42, 6) and pixels.std() > 5
(frame,) = steps("HalfCheetah-v4", 1, 6, render_mode="rgb_array")
assert frame.shape == (480, 480, 3) and frame.std() > 20
tf.matmul(tf.ones((64, 64)), tf.ones((64, 64))).numpy()
print("alive")
"""
    assert run_script(script).strip() == "alive"


def test_rendering_in_a_process_that_has_tensorflow_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", type(sys)("tensorflow"))
    with pytest.raises(UserError, match=r"^--env_backend=sync: .*HalfCheetah-v4 .*TensorFlow.*use subproc$"):
        make_vec_env("HalfCheetah-v4", 1, 0, backend="sync", render_mode="rgb_array")


def test_the_sync_backend_renders_without_a_display_where_there_is_no_tensorflow():
    script = """
from common.vec_env import make_vec_env

with make_vec_env("HalfCheetah-v4", 1, 0, backend="sync", render_mode="rgb_array") as env:
    env.reset()
    (frame,) = env.render()
    print(frame.shape, frame.std() > 20)
"""
    assert run_script(script).strip() == "(480, 480, 3) True"
