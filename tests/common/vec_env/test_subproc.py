"""Claims about worker processes: what they may load, and how they fail and end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from repository import PYTHONPATH, ROOT
from vec_env_helpers import DIE, HANG, OK, RAISE

from common.vec_env import make_vec_env

TROUBLE = "vec_env_helpers:Trouble-v0"


def make_trouble(num_env=2, **kwargs):
    env = make_vec_env(TROUBLE, num_env, seed=0, backend="subproc", **kwargs)
    env.reset()
    return env, list(env.unwrapped.processes)


def test_a_worker_never_loads_tensorflow_even_when_the_parent_did(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", type(sys)("tensorflow"))
    env, _ = make_trouble(num_env=1)
    with env:
        (modules,) = env.unwrapped.call("loaded_modules")
    assert "gymnasium" in modules
    assert not [name for name in modules if name.split(".")[0] == "tensorflow"]


def test_a_worker_does_not_import_the_main_script_but_knows_its_environments(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "import os, gymnasium as gym, numpy as np\n"
        "open('imports', 'a').write(f'{os.getpid()}\\n')\n"
        "from common.vec_env import make_vec_env\n"
        "class Mine(gym.Env):\n"
        "    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)\n"
        "    action_space = gym.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None): return np.zeros(1, np.float32), {}\n"
        "    def step(self, action): return np.ones(1, np.float32), 1.0, False, False, {}\n"
        "gym.register('Mine-v0', entry_point=Mine)\n"
        "with make_vec_env('Mine-v0', 2, seed=0, backend='subproc') as env:\n"  # no `if __name__ == '__main__'`
        "    env.reset()\n"
        "    print(env.step(np.array([0, 1]))[0].tolist())\n"
    )
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[[1.0], [1.0]]", done.stderr
    assert len((tmp_path / "imports").read_text().split()) == 1


def test_a_workers_exception_arrives_with_its_traceback_and_index():
    env, processes = make_trouble(num_env=3)
    with pytest.raises(RuntimeError, match=r"(?s)environment 1 \(seed 1\) .*in step.*ArithmeticError: the cart fell"):
        env.step(np.array([OK, RAISE, OK]))
    assert not any(process.is_alive() for process in processes)


def test_an_environment_that_cannot_be_built_in_its_worker_is_an_error_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)environment 0 .*OSError: no joystick found"):
        make_vec_env("vec_env_helpers:Unbuildable-v0", 2, seed=0, backend="subproc")


def test_a_killed_worker_is_an_error_with_its_index_and_exit_code():
    env, processes = make_trouble()
    with pytest.raises(RuntimeError, match=r"environment 1 \(seed 1\) died \(exit code -9\)"):
        env.step(np.array([OK, DIE]))
    assert not any(process.is_alive() for process in processes)


def test_a_worker_killed_between_two_steps_is_an_error_with_its_index():
    env, processes = make_trouble()
    processes[0].kill()
    processes[0].join()
    with pytest.raises(RuntimeError, match=r"environment 0 \(seed 0\) died"):
        env.step(np.array([OK, OK]))


def test_a_hanging_worker_is_an_error_with_its_index_after_the_timeout():
    env, processes = make_trouble(step_timeout=1.0)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"environment 1 \(seed 1\) did not answer within 1 s"):
        env.step(np.array([OK, HANG]))
    env.close()
    assert time.monotonic() - start < 6.0
    assert not any(process.is_alive() for process in processes)


def test_closing_while_a_worker_hangs_takes_less_than_five_seconds():
    env, processes = make_trouble()
    env.unwrapped.step_async(np.array([OK, HANG]))
    start = time.monotonic()
    env.close()
    env.close()
    assert time.monotonic() - start < 5.0
    assert not any(process.is_alive() for process in processes)


def test_no_worker_outlives_a_killed_parent(tmp_path):
    script = (
        "import os, signal; import vec_env_helpers; from common.vec_env import make_vec_env\n"
        "env = make_vec_env('Trouble-v0', 2, 0, backend='subproc'); env.reset()\n"
        "print(*[process.pid for process in env.unwrapped.processes], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": PYTHONPATH}, stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.1)
