"""What the worker processes of all backends have in common: how they start and how they are stopped.

Workers are forked from a server process that knows nothing of this one: TensorFlow, if it is loaded here, is not there.
"""

from __future__ import annotations

import contextlib
import sys
import time
import types
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess

START_METHOD = "forkserver"
START_TIMEOUT = 300.0  # seconds for a worker to build its environment
CLOSE_TIMEOUT = 2.0  # seconds until a worker that does not close is killed


def stop(processes: Sequence[BaseProcess], timeout: float) -> None:
    """Waits for processes that have been asked to end, and kills those that have not after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join()


@contextlib.contextmanager
def bare_main() -> Iterator[None]:
    """Hides the main script from `multiprocessing`, which would import it, and all it imports, in every worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
