"""Claims about signals that come once, twice and three times, in every phase of a run.

Each ends it with one line, the right exit code and a checkpoint that is whole, and leaves no process and no file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from interrupted_runs import PHASES
from repository import HELPERS, PYTHONPATH, ROOT

from baselines_acktr.session import checkpoints

FLAGS = ["--alg=a2c", "--env=CartPole-v1", "--num_env=3", "--hidden_sizes=8", "--nsteps=5", "--env_backend=subproc"]
FLAGS += ["--seed=1", "--save_interval=1", "--log_interval=1", "--log_format=csv"]
NOISE = ("Traceback", "Exception ignored", "leaked", "Warning")


def session_of(pid: int) -> int:
    """The session of a process, which all that it starts share; 0 where it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def assert_gone(session: int) -> None:
    deadline = time.monotonic() + 20
    while alive := [
        int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal() and session_of(int(p.name)) == session
    ]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.1)


CASES = [(phase, times) for phase in PHASES for times in (1, 2, 3)]
QUICK = [("settings", 3), ("update", 3)]
MATRIX = [
    pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.reliability], id=f"{case[0]}-{case[1]}")
    for case in CASES
]


@pytest.mark.parametrize(("phase", "times"), MATRIX)
def test_a_run_ends_with_one_line_and_leaves_nothing_behind(tmp_path, phase, times):
    number = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)[CASES.index((phase, times)) % 3]
    logs, temporary = tmp_path / "logs", Path(tempfile.mkdtemp())  # short: names of sockets have 108 bytes at most
    total = "60" if phase == "end" else "1e9"
    program = [sys.executable, str(HELPERS / "interrupted_runs.py"), phase, str(int(number)), str(times)]
    process = subprocess.Popen(
        [*program, *FLAGS, f"--num_timesteps={total}", f"--log_path={logs}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "TMPDIR": str(temporary)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, errors = process.communicate(timeout=300)
    assert_gone(process.pid)
    assert process.returncode == 128 + number, errors
    assert not any(word in errors for word in NOISE), errors
    ends = [line for line in errors.splitlines() if line.startswith("run.py: ")]
    assert len(ends) == (0 if phase == "end" else 1), errors
    assert all("interrupted" in line for line in ends)

    assert [path for path in tmp_path.rglob("*.tmp*")] == []
    assert list(temporary.iterdir()) == []
    temporary.rmdir()
    if phase in ("update", "save", "end"):
        assert checkpoints.newest(logs / checkpoints.FOLDER) is not None
