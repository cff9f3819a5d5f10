"""Starting programs under `mpirun`, whoever the user is and however many cores there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from repository import PYTHONPATH, ROOT

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",  # a rank that waits leaves its core to the other tests
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


def command(size: int, *program: str) -> list[str]:
    """A Python program with its arguments, on so many ranks."""
    mpirun = str(Path(sys.executable).with_name("mpirun"))
    return [mpirun, "-n", str(size), "--oversubscribe", "--bind-to", "none", sys.executable, *program]


def start(size: int, *program: str, **variables: str) -> subprocess.Popen:
    """Starts it, with environment variables; what it writes can be read as text."""
    return subprocess.Popen(
        command(size, *program),
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": PYTHONPATH, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, timeout: float = 300) -> tuple[int, str, str]:
    """Its exit code, and what it wrote to both streams; kills it when the time is up."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err
