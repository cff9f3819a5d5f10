"""Claims about systems with little room: small or read-only disks, no /dev/shm, few open files.

The disks are real ones, of memory, that only the tested process sees (`unshare`); those tests are among the slow ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from repository import PYTHONPATH, ROOT

from baselines_acktr.session import checkpoints
from common.errors import UserError
from common.vec_env.workers import require_room

FLAGS = ["--alg=a2c", "--env=CartPole-v1", "--num_env=2", "--hidden_sizes=8", "--nsteps=5", "--num_timesteps=50"]
FLAGS += ["--seed=1", "--save_interval=1", "--log_interval=1", "--log_format=csv"]


def run_py(first: str, *argv: str, disk: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `run.py` behind some shell commands; with `disk` in a namespace in which it may mount."""
    words = ["unshare", "--map-root-user", "--mount"] if disk else []
    command = f'{first}; exec "$0" "$@"'
    return subprocess.run(
        [*words, "sh", "-ec", command, sys.executable, str(ROOT / "run.py"), *argv],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, **variables},
        capture_output=True,
        text=True,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("run.py: ")]
    assert len(lines) == 1 and message in lines[0], done.stderr


@pytest.mark.parametrize("number", [20, 32, 63])
def test_too_few_open_files_for_any_run_are_one_line(tmp_path, number):
    done = run_py(f"ulimit -n {number}", *FLAGS, f"--log_path={tmp_path}/logs")
    assert_one_line(done, 2, f"ulimit -n {number}: too few open files for a run; must be at least 64")
    assert list(tmp_path.iterdir()) == []


def test_a_low_limit_is_raised_as_far_as_it_may_be():
    program = (
        "import resource\n"
        "from common.process import raise_descriptor_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 100))\n"
        "raise_descriptor_limit()\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (100, 100)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(("env_id", "backend"), [("CartPole-v1", "subproc"), ("PongNoFrameskip-v4", "native")])
def test_too_few_open_files_for_the_workers_are_one_line_before_any_is_started(env_id, backend):
    program = (
        "import resource, run\n"
        "from common.vec_env import make_vec_env\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))\n"
        "try:\n"
        f"    make_vec_env('{env_id}', 4, 0, backend='{backend}')\n"
        "except Exception as error:\n"
        "    raise SystemExit(run.explain(error, 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert_one_line(done, 2, "ulimit -n: too few open files for ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("length", [75, 76])
def test_a_folder_for_temporary_files_with_too_long_a_name_for_a_socket_is_named(tmp_path, monkeypatch, length):
    folder = (str(tmp_path) + "/" + 100 * "f")[:length]
    monkeypatch.setattr(tempfile, "tempdir", folder)
    if length == 75:
        require_room(1)
        return
    with pytest.raises(UserError, match=r"^TMPDIR=.*: has 76 bytes, .* must have at most 75$"):
        require_room(1)


def test_what_the_system_refuses_in_the_middle_of_a_run_is_one_line(capsys):
    import run

    assert run.explain(OSError(24, "Too many open files", "x"), 0) == 1
    assert capsys.readouterr().err == "run.py: stopped: [Errno 24] Too many open files: 'x'\n"


FULL = "mount -t tmpfs -o size=8k none {0}"
READ_ONLY = "mount -t tmpfs -o ro none {0}"
NO_FILES = "mount -t tmpfs -o nr_inodes=1 none {0}"


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("disk", "code", "message"),
    [
        (FULL, 2, "No space left on device"),
        (READ_ONLY, 2, "cannot be written: Read-only file system"),
        (NO_FILES, 2, "cannot be written: No space left on device"),
    ],
)
@pytest.mark.parametrize("flag", ["log_path", "save_path"])
def test_a_disk_without_room_is_one_line(tmp_path, disk, code, message, flag):
    (tmp_path / "disk").mkdir()
    other = [] if flag == "log_path" else [f"--log_path={tmp_path}/logs"]
    path = f"{tmp_path}/disk/" + ("logs" if flag == "log_path" else "model")
    done = run_py(disk.format(tmp_path / "disk"), *FLAGS, *other, f"--{flag}={path}", disk=True)
    assert_one_line(done, code, message)


@pytest.mark.reliability
@pytest.mark.parametrize("kibibytes", [16, 24, 40, 64])
def test_a_disk_that_becomes_full_costs_checkpoints_and_rows_but_not_the_run(tmp_path, kibibytes):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size={kibibytes}k none {disk}"
    look = f"; ls -a {disk}/logs {disk}/logs/checkpoints >&2"
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    command = f'{mount} && "$0" "$@"; code=$?{look}; exit $code'
    argv = [sys.executable, str(ROOT / "run.py"), *FLAGS, f"--log_path={disk}/logs", f"--save_path={tmp_path}/model"]
    done = subprocess.run([*words, command, *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and ".tmp" not in done.stderr, done.stderr
    assert "No space left on device; the run goes on, the checkpoints before are as they were" in done.stderr
    assert checkpoints.read_model(str(tmp_path / "model"), "path").meta["counters"]["updates"] == 5


@pytest.mark.reliability
@pytest.mark.parametrize("disk", [FULL, READ_ONLY])
def test_games_need_no_shared_memory_folder(tmp_path, disk):
    flags = [flag for flag in FLAGS if not flag.startswith(("--env=", "--num_timesteps"))]
    argv = [*flags, "--env=PongNoFrameskip-v4", "--num_timesteps=10", f"--log_path={tmp_path}/logs"]
    done = run_py(disk.format("/dev/shm"), *argv, disk=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.reliability
@pytest.mark.parametrize("disk", [FULL, READ_ONLY])
def test_environments_in_worker_processes_name_the_shared_memory_folder(tmp_path, disk):
    argv = [*FLAGS, "--num_env=20", "--num_timesteps=100", "--env_backend=subproc", f"--log_path={tmp_path}/logs"]
    done = run_py(disk.format("/dev/shm"), *argv, disk=True)
    assert_one_line(done, 2, "they need room in /dev/shm, sync does without")


@pytest.mark.reliability
def test_a_folder_for_temporary_files_that_is_full_is_one_line(tmp_path):
    (tmp_path / "disk").mkdir()
    mount = FULL.format(tmp_path / "disk")
    done = run_py(mount, *FLAGS, f"--log_path={tmp_path}/logs", disk=True, TMPDIR=f"{tmp_path}/disk")
    assert_one_line(done, 2, f"TMPDIR={tmp_path}/disk: no room for the files that TensorFlow makes: No space left")
    assert not Path(tmp_path, "logs").exists()


@pytest.mark.reliability
@pytest.mark.parametrize("disk", [READ_ONLY, NO_FILES])
def test_a_folder_for_temporary_files_that_cannot_be_used_is_passed_over(tmp_path, disk):
    (tmp_path / "disk").mkdir()
    mount = disk.format(tmp_path / "disk")
    done = run_py(mount, *FLAGS, f"--log_path={tmp_path}/logs", disk=True, TMPDIR=f"{tmp_path}/disk")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert Path(tmp_path, "logs", "progress.csv").exists()
