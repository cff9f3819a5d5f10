"""Claims about faults of worker processes and about what they leave behind; more are in `test_subproc.py`."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from repository import PYTHONPATH, ROOT

import run
from common.vec_env import make_vec_env
from common.vec_env.workers import WorkerError, of_environments

SEEDED = r"environment 1 \(seed 1\)"
AT_RESET = {
    "Raise": rf"(?s){SEEDED} raised .*in reset.*ArithmeticError: the cart fell off",
    "Die": rf"the worker process of {SEEDED} died \(exit code -9\)",
    "Hang": rf"{SEEDED} did not answer within 1 s",
}


def make(name: str, **kwargs):
    return make_vec_env(f"vec_env_helpers:{name}-v0", 2, seed=0, backend="subproc", step_timeout=1.0, **kwargs)


@pytest.mark.parametrize("how", AT_RESET)
def test_a_fault_at_reset_names_the_environment_and_its_seed_and_leaves_no_process(how):
    env = make(f"Reset{how}")
    processes = list(env.unwrapped.processes)
    with pytest.raises(WorkerError, match=AT_RESET[how]):
        env.reset()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize("how", ["Raise", "Die", "Hang"])
def test_a_fault_at_close_neither_raises_nor_delays(how):
    env = make(f"Close{how}")
    env.reset()
    processes = list(env.unwrapped.processes)
    begun = time.monotonic()
    env.close()
    assert time.monotonic() - begun < 5
    assert not any(process.is_alive() for process in processes)


def test_a_failed_environment_stays_failed():
    env = make_vec_env("PongNoFrameskip-v4", 2, seed=0, step_timeout=5)
    with env:
        env.reset()
        env.unwrapped.processes[0].kill()
        for _ in range(2):
            with pytest.raises(WorkerError):
                env.step(np.zeros(2, int))


def test_names_of_environments():
    assert of_environments(3, 3, None) == "environment 3"
    assert of_environments(3, 3, 10) == "environment 3 (seed 13)"
    assert of_environments(0, 1, 10) == "environments 0 to 1 (seeds 10 to 11)"


def test_a_failed_worker_ends_a_run_with_its_traceback_alone_and_code_1(tmp_path, capsys):
    argv = ["--alg=a2c", "--env=vec_env_helpers:Trouble-v0", "--env_backend=subproc", "--num_env=2", "--hidden_sizes=8"]
    # Of four random actions one raises, one kills the worker and one hangs.
    assert run.main([*argv, "--num_timesteps=1e6", "--seed=1", f"--log_path={tmp_path}"]) == 1
    err = capsys.readouterr().err
    assert "run.py: stopped: " in err
    assert "(seed " in err
    assert 'run.py", line' not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_workers_leave_signals_to_the_parent_but_programs_that_they_start_do_not(number):
    env = make("Trouble")
    with env:
        env.reset()
        for process in env.unwrapped.processes:
            os.kill(process.pid, number)
        env.step(np.zeros(2, int))
    code = (
        "import subprocess, sys; from common.vec_env.workers import serve_parent\n"
        "serve_parent(); child = subprocess.Popen(['sleep', '60']); child.terminate(); print(child.wait())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == f"{-signal.SIGTERM}\n", done.stderr


def traces() -> tuple[int, int, int, int]:
    """Numbers of descriptors, threads, mapped blocks of shared memory and child processes."""
    gc.collect()
    tasks = Path("/proc/self/task")
    children = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    mapped = Path("/proc/self/maps").read_text().count("/dev/shm/")
    return len(os.listdir("/proc/self/fd")), threading.active_count(), mapped, len(children)


KINDS = {
    "subproc": ("vec_env_helpers:Counter-v0", {"backend": "subproc"}),
    "atari": ("PongNoFrameskip-v4", {}),
    "pixels": ("Reacher-v4", {"pixels": True}),
    "mujoco": ("Hopper-v5", {}),
}


@pytest.mark.parametrize("kind", ["subproc", "atari", "pixels"])
def test_workers_that_are_woken_let_the_parent_go_on(kind):
    env_id, kwargs = KINDS[kind]
    with make_vec_env(env_id, 2, seed=0, **kwargs):
        policies = [os.sched_getscheduler(process.pid) for process in multiprocessing.active_children()]
    assert policies and set(policies) == {os.SCHED_BATCH}


@pytest.mark.reliability
@pytest.mark.parametrize("kind", KINDS)
def test_50_environments_made_and_closed_leave_nothing(kind):
    env_id, kwargs = KINDS[kind]
    for i in range(52):
        if i == 2:  # the servers of multiprocessing, and what libraries keep, are there by now
            before = traces()
        with make_vec_env(env_id, 2, seed=0, **kwargs) as env:
            env.reset()
            env.step(env.action_space.sample())
    assert traces() == before


FORGOTTEN = """
import gc, multiprocessing
from common.vec_env import make_vec_env

if __name__ == "__main__":
    env = make_vec_env({env_id!r}, 2, seed=0, **{kwargs!r})
    del env
    gc.collect()
    print(len(multiprocessing.active_children()), flush=True)
    env = make_vec_env({env_id!r}, 2, seed=0, **{kwargs!r})
    env.reset()
    raise SystemExit(7)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_environments_that_were_never_closed_end_with_what_refers_to_them_and_with_the_program(kind, tmp_path):
    env_id, kwargs = KINDS[kind]
    program = tmp_path / "program.py"
    program.write_text(FORGOTTEN.format(env_id=env_id, kwargs=kwargs))
    done = subprocess.run(
        [sys.executable, program],
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        timeout=120,
    )
    assert (done.stdout.split()[-1:], done.returncode) == ([b"0"], 7), done.stderr


SUSPENDED = """
import numpy as np
from common.vec_env import make_vec_env

if __name__ == "__main__":
    with make_vec_env("PongNoFrameskip-v4", 8, seed=0, step_timeout=1) as env:
        env.reset()
        print("ready", flush=True)
        for _ in range(400):
            env.step(np.zeros(8, int))
"""


def test_a_learner_that_was_suspended_for_longer_than_the_time_out_goes_on(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SUSPENDED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(program)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            time.sleep(0.1)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.2)
            process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
