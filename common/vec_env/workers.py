"""What the worker processes of all backends have in common: how they start, answer, fail and are stopped.

Workers are forked from a server process that knows nothing of this one: TensorFlow, if it is loaded here, is not there.
Signals that end a run are for the parent alone, which closes its workers.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import selectors
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from common.errors import RunFailedError, UserError

START_METHOD = "forkserver"
START_TIMEOUT = 300.0  # seconds for a worker to build its environment
CLOSE_TIMEOUT = 2.0  # seconds until a worker that does not close is killed
_DESCRIPTORS = 3  # of the parent for each worker: a pipe, and two that tell whether it lives
_DESCRIPTORS_OF_SERVER = 16  # and of what is open for moments
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class EnvironmentFailedError(RunFailedError):
    """An environment of this process raised an exception, whose traceback it brings."""


class WorkerError(RunFailedError):
    """A worker raised an exception, whose traceback it brings, or died, or did not answer."""


class Worker:
    """A worker process, and the parent's end of the pipe to it.

    Attributes:
      process: the worker.
      pipe: to it.
      name: of it or of its environments, for messages.
    """

    def __init__(self, process: BaseProcess, pipe: Connection, name: str) -> None:
        self.process, self.pipe, self.name = process, pipe, name

    def send(self, message: bytes) -> None:
        """Sends a message; raises WorkerError if the worker is dead."""
        try:
            self.pipe.send_bytes(message)
        except (BrokenPipeError, ConnectionResetError):
            self._raise_dead()

    def receive(self, timeout: float) -> bytes:
        """Waits for an answer; raises WorkerError if the worker is dead, or silent for `timeout` seconds.

        A process that was suspended meanwhile wakes up when the time is over, and looks once more.
        """
        try:
            if not (self.pipe.poll(timeout) or self.pipe.poll(0)):
                self.raise_silent(timeout)
            return self.pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            self._raise_dead()

    def raise_silent(self, timeout: float) -> NoReturn:
        """Raises the error of a worker that does not answer."""
        raise WorkerError(f"{self.name} did not answer within {timeout:g} s")

    def _raise_dead(self) -> NoReturn:
        self.process.join(CLOSE_TIMEOUT)
        raise WorkerError(f"the worker process of {self.name} died (exit code {self.process.exitcode})")


class Workers:
    """The worker processes of one environment, each of which answers a message with one of its own.

    Where one fails, all are killed, since their answers could no longer be told apart.
    """

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        kill_at_end(self, self._workers)
        self._selector = selectors.DefaultSelector()

    def __len__(self) -> int:
        return len(self._workers)

    def __getitem__(self, index: int) -> Worker:
        return self._workers[index]

    @property
    def processes(self) -> list[BaseProcess]:
        """The worker processes."""
        return [worker.process for worker in self._workers]

    def start(
        self, preload: str, target: Callable[..., None], arguments: Sequence[tuple[Any, ...]], names: Sequence[str]
    ) -> None:
        """Starts a worker for each entry of `arguments`, and waits until all have sent their first message.

        Args:
          preload: module that the server of the workers imports once for all.
          target: called in each worker with its arguments and its end of the pipe.
          arguments: of each worker.
          names: of each worker, for messages.
        """
        require_descriptors(len(arguments))
        context: Any = multiprocessing.get_context(START_METHOD)
        context.set_forkserver_preload([preload])
        with starting():
            for given, name in zip(arguments, names, strict=True):
                pipe, child_pipe = context.Pipe()
                process = context.Process(target=target, args=(*given, child_pipe), name=name, daemon=True)
                process.start()
                child_pipe.close()
                self._workers.append(Worker(process, pipe, name))
                self._selector.register(pipe, selectors.EVENT_READ, len(self._workers) - 1)
        for _ in self.answers(START_TIMEOUT):
            pass

    def send(self, index: int, message: bytes) -> None:
        """Sends a message to a worker."""
        with self._killed_on_error():
            self._workers[index].send(message)

    def answers(self, timeout: float) -> Iterator[tuple[int, Any]]:
        """Waits for an answer of every worker, and yields them as they come, by index.

        An answer is None for an empty message, else what was pickled: `(None, result)`, or an error as
        `(name of what failed or "", UserError or traceback)`, which is raised.
        """
        if not self._workers:
            raise WorkerError("the worker processes of this environment have ended")
        waiting = set(range(len(self._workers)))
        deadline = time.monotonic() + timeout
        with self._killed_on_error():
            while waiting:
                ready = self._selector.select(max(0.0, deadline - time.monotonic())) or self._selector.select(0)
                if not ready:
                    self._workers[min(waiting)].raise_silent(timeout)
                for key, _ in ready:
                    waiting.remove(key.data)
                    yield key.data, self._answer(self._workers[key.data], timeout)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Closes the pipes, which ends the workers, and kills those that have not ended after `timeout` seconds."""
        self._selector.close()
        for worker in self._workers:
            worker.pipe.close()
        stop(self.processes, timeout)
        self._workers.clear()  # and with them their processes' descriptors

    def _answer(self, worker: Worker, timeout: float) -> Any:
        message = worker.receive(timeout)
        if not message:
            return None
        failed, answer = pickle.loads(message)
        if failed is None:
            return answer
        if isinstance(answer, Exception):
            raise answer
        raise WorkerError(f"{failed or worker.name} raised an exception in its worker process:\n{answer}")

    @contextlib.contextmanager
    def _killed_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.close(timeout=0.0)
            raise


def of_environments(first: int, last: int, seed: int | None) -> str:
    """Returns the name of environments `first` to `last`, with their seeds if the first of all has `seed`."""
    if first == last:
        return f"environment {first}" + ("" if seed is None else f" (seed {seed + first})")
    return f"environments {first} to {last}" + ("" if seed is None else f" (seeds {seed + first} to {seed + last})")


def stop(processes: Sequence[BaseProcess], timeout: float) -> None:
    """Waits for processes that have been asked to end, and kills those that have not after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    with _undisturbed():
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
        for process in processes:
            process.join()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Puts off what a signal does, which may be to raise KeyboardInterrupt, until the block is left."""
    if threading.current_thread() is not threading.main_thread():  # others are never disturbed
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for caught in came:
            signal.raise_signal(caught)


def require_descriptors(workers: int) -> None:
    """Raises UserError where this process may not open as many files as it needs to start so many workers."""
    opened: list[int] = []
    try:
        for _ in range(_DESCRIPTORS * workers + _DESCRIPTORS_OF_SERVER):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise UserError(
            f"ulimit -n: too few open files for {workers} worker processes; raise it, or lower --num_env"
        ) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def kill_at_end(owner: object, workers: Sequence[Worker]) -> None:
    """Has workers killed when nothing refers to `owner` any more, or the program ends, which would wait for them."""
    util.Finalize(owner, _kill, (workers,), exitpriority=0)


def _kill(workers: Sequence[Worker]) -> None:
    stop([worker.process for worker in workers], timeout=0.0)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Hides two things from processes that are started meanwhile, and puts off signals to this one.

    The main script: `multiprocessing` would import it, and all it imports, in every worker. Signals: workers inherit
    that these are blocked, until `serve_parent` takes over. A process that a signal keeps half started could not be
    killed, as nobody knows its number yet.
    """
    resource_tracker.ensure_running()  # which would unblock them
    main = sys.modules["__main__"]
    with _undisturbed():
        sys.modules["__main__"] = types.ModuleType("__main__")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            sys.modules["__main__"] = main


def serve_parent() -> None:
    """Prepares a worker process: signals are the parent's, and so is its core while it wakes the other workers.

    Programs that the worker starts are not affected by the former. The latter is Linux's SCHED_BATCH.
    """
    _wake_at_the_end()
    for number in _SIGNALS:
        signal.signal(number, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    with contextlib.suppress(AttributeError, OSError):  # no such policy, or not allowed
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _wake_at_the_end() -> None:
    """Has a worker that is stopped (SIGSTOP) continue when the parent is gone, so that it ends like the others.

    The kernel sends it SIGCONT when the server of the workers ends. That one ends when nobody holds its pipe any more:
    the parent does, and each worker does until here, though it may not start processes of its own.
    """
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGCONT)
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
