"""Program for three ranks of which the second stops itself for three seconds, with little patience in the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np

from common import mpi_watch
from common.mpi import connect

mpi_watch.PATIENCE = 0.5
comm = connect()
comm.sum(np.ones(1))
if comm.rank == 1:
    wake = f"import os, signal, time; time.sleep(3); os.kill({os.getpid()}, signal.SIGCONT)"
    waker = subprocess.Popen([sys.executable, "-c", wake])
    os.kill(os.getpid(), signal.SIGSTOP)
    waker.wait()
assert comm.sum(np.ones(1))[0] == 3
