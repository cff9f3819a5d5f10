"""Program that runs `run.py` and sends signals to its processes: `interrupted_runs.py PHASE SIGNAL TIMES FLAG...`.

They come 50 ms after one another, as from an impatient user, from the moment that the phase begins.
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from repository import ROOT

PHASES = ("settings", "probe", "workers", "trace", "update", "save", "end")


def before(owner: Any, name: str, call: int, action: Callable[[], object]) -> None:
    """Has an action precede the so many-th call of a function."""
    original, calls = getattr(owner, name), [0]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            action()
        return original(*arguments, **options)

    setattr(owner, name, wrapped)


def sender(number: int, times: int) -> Callable[[], None]:
    def send() -> None:
        for _ in range(times):
            os.killpg(0, number)
            time.sleep(0.05)

    return threading.Thread(target=send, daemon=True).start


def prepare(phase: str, send: Callable[[], None]) -> None:
    """Has signals sent in a phase of the run."""
    if phase in ("settings", "probe"):
        from baselines_acktr.session import setup

        before(setup, "prepare" if phase == "settings" else "probe", 1, send)
    elif phase == "workers":
        before(BaseProcess, "start", 2, send)
    elif phase in ("trace", "update"):
        from baselines_acktr.learning.rollouts import Runner

        before(Runner, "run", 1 if phase == "trace" else 4, send)
    elif phase == "save":
        from baselines_acktr.session.checkpoints import CheckpointManager

        before(CheckpointManager, "_write", 2, lambda: (send(), time.sleep(0.1)))
    else:
        atexit.register(lambda: (send(), time.sleep(1)))


if __name__ == "__main__":
    prepare(sys.argv[1], sender(int(sys.argv[2]), int(sys.argv[3])))
    sys.argv[1:4] = []
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
