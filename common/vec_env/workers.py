"""What the worker processes of all backends share: how they start, answer, fail and stop.

Workers are forked from a server process, which does not inherit the memory of this process. So they do not contain
TensorFlow, even if it is loaded here. Workers ignore the signals that end a run; the parent handles them and closes
its workers.
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
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from common.errors import RunFailedError, UserError, brief

START_METHOD = "forkserver"
START_TIMEOUT = 300.0  # seconds for a worker to build its environment
CLOSE_TIMEOUT = 2.0  # seconds until a worker that does not close is killed
_DESCRIPTORS = 3  # file descriptors of the parent per worker: a pipe, and two that tell whether it is alive
_DESCRIPTORS_OF_SERVER = 16  # for the fork server, and for files that are open for a moment
_LONGEST_FOLDER = 107 - len("/pymp-12345678/listener-12345678")  # a socket's name has at most 107 bytes
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in Linux
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class EnvironmentFailedError(RunFailedError):
    """An environment in this process raised an exception. The message contains its traceback."""


class WorkerError(RunFailedError):
    """A worker process raised an exception (the message contains its traceback), died, or did not answer."""


class Worker:
    """A worker process and the parent's end of the pipe to it.

    Attributes:
      process: the worker process.
      pipe: the parent's end of the pipe.
      name: name of the worker, or of its environments, for error messages.
    """

    def __init__(self, process: BaseProcess, pipe: Connection, name: str) -> None:
        self.process = process
        self.pipe = pipe
        self.name = name

    def send(self, message: bytes) -> None:
        """Sends a message.

        Raises:
          WorkerError: the worker is dead.
        """
        try:
            self.pipe.send_bytes(message)
        except (BrokenPipeError, ConnectionResetError):
            self._raise_dead()

    def receive(self, timeout: float) -> bytes:
        """Waits for an answer, at most `timeout` seconds.

        If this process was suspended, the time can be over although an answer is there; the pipe is polled once more.

        Raises:
          WorkerError: the worker is dead, or did not answer in time.
        """
        try:
            if not (self.pipe.poll(timeout) or self.pipe.poll(0)):
                self.raise_silent(timeout)
            return self.pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            self._raise_dead()

    def raise_silent(self, timeout: float) -> NoReturn:
        """Raises the error for a worker that does not answer."""
        raise WorkerError(f"{self.name} did not answer within {timeout:g} s")

    def _raise_dead(self) -> NoReturn:
        self.process.join(CLOSE_TIMEOUT)
        raise WorkerError(f"the worker process of {self.name} died (exit code {self.process.exitcode})")


class Workers:
    """The worker processes of one vector environment. Each of them answers every message with one of its own.

    If one worker fails, all are killed, because the remaining answers could no longer be matched to their messages.
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
        self,
        preload: str,
        target: Callable[..., None],
        arguments: Sequence[tuple[Any, ...]],
        names: Sequence[str],
    ) -> None:
        """Starts one worker per entry of `arguments` and waits until each has sent its first message.

        Args:
          preload: module that the fork server imports once for all workers.
          target: function to run in each worker. It receives the worker's arguments and its end of the pipe.
          arguments: arguments of each worker.
          names: name of each worker, for error messages.
        """
        require_room(len(arguments))
        context: Any = multiprocessing.get_context(START_METHOD)
        context.set_forkserver_preload([preload])

        with starting():
            for given, name in zip(arguments, names, strict=True):
                pipe, child_pipe = context.Pipe()
                process = context.Process(
                    target=target,
                    args=(*given, child_pipe),
                    name=name,
                    daemon=True,
                )
                process.start()
                child_pipe.close()

                self._workers.append(Worker(process, pipe, name))
                self._selector.register(pipe, selectors.EVENT_READ, len(self._workers) - 1)

        for _ in self.answers(START_TIMEOUT):
            pass

    def send(self, index: int, message: bytes) -> None:
        """Sends a message to one worker."""
        with self._killed_on_error():
            self._workers[index].send(message)

    def answers(self, timeout: float) -> Iterator[tuple[int, Any]]:
        """Waits for one answer per worker and yields `(index, answer)` in order of arrival.

        An empty message yields None. Any other message is a pickled pair. The pair `(None, result)` yields the result.
        The pair `(name, error)` raises an error: `name` says what failed ("" for the worker itself), and `error` is a
        `UserError` or a traceback.

        Args:
          timeout: seconds to wait for all answers together.

        Raises:
          WorkerError: a worker failed, died or did not answer in time.
        """
        if not self._workers:
            raise WorkerError("the worker processes of this environment have ended")

        waiting = set(range(len(self._workers)))
        deadline = time.monotonic() + timeout

        with self._killed_on_error():
            while waiting:
                left = max(0.0, deadline - time.monotonic())
                ready = self._selector.select(left) or self._selector.select(0)  # again, see `Worker.receive`
                if not ready:
                    self._workers[min(waiting)].raise_silent(timeout)

                for key, _ in ready:
                    waiting.remove(key.data)
                    yield key.data, self._answer(self._workers[key.data], timeout)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Closes the pipes, which ends the workers. Kills those that are still alive after `timeout` seconds."""
        self._selector.close()
        for worker in self._workers:
            worker.pipe.close()
        stop(self.processes, timeout)
        self._workers.clear()  # frees the file descriptors of their processes

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
    """Returns a name for the environments `first` to `last`, such as "environments 2 to 5 (seeds 9 to 12)".

    Args:
      first: index of the first one.
      last: index of the last one.
      seed: seed of environment 0; None leaves the seeds out.
    """
    if first == last:
        name = f"environment {first}"
        return name if seed is None else f"{name} (seed {seed + first})"

    name = f"environments {first} to {last}"
    return name if seed is None else f"{name} (seeds {seed + first} to {seed + last})"


def stop(processes: Sequence[BaseProcess], timeout: float) -> None:
    """Waits for processes that were asked to end, and kills those that are still alive after `timeout` seconds."""
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
    """A context manager that defers signals to the end of its block.

    A signal may raise KeyboardInterrupt. Only the main thread receives signals, so other threads are not affected.
    """
    if threading.current_thread() is not threading.main_thread():
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


def require_room(workers: int) -> None:
    """Checks that this process may open as many files as `workers` worker processes need, and name their socket.

    Raises:
      UserError: the limit on open files is too low, or the name of the folder for temporary files is too long.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        raise UserError(
            f"TMPDIR={brief(folder)}: has {len(os.fsencode(folder))} bytes, too many for the socket that worker "
            f"processes are started by; must have at most {_LONGEST_FOLDER}"
        )
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
    """Kills the workers when `owner` is garbage-collected or when the program ends.

    Without this, Python would wait at exit for the workers to end.
    """
    util.Finalize(owner, _kill, (workers,), exitpriority=0)


def _kill(workers: Sequence[Worker]) -> None:
    stop([worker.process for worker in workers], timeout=0.0)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """A context manager around the start of processes. It hides two things from them, and defers signals to this one.

    The main script is hidden because `multiprocessing` would import it, and all that it imports, in every worker.
    Signals are blocked because workers inherit the block, which lasts until they call `serve_parent`. Here they are
    deferred because a signal could interrupt the start of a process whose number is not known yet, so that it could
    not be killed.
    """
    resource_tracker.ensure_running()  # started here because starting it later would unblock the signals
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
    """Prepares a worker process: it ignores signals, and it lets the parent run first when they share a core.

    Signals are left to the parent. Programs that the worker starts still receive them. Linux's SCHED_BATCH policy
    keeps a worker that was woken up from interrupting the parent while that wakes the others.
    """
    _wake_at_the_end()
    for number in _SIGNALS:
        signal.signal(number, lambda number, frame: None)

    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    with contextlib.suppress(AttributeError, OSError):  # the policy does not exist here, or is not allowed
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _wake_at_the_end() -> None:
    """Makes sure that a stopped worker (SIGSTOP) continues, and ends, when the parent is gone.

    The kernel sends the worker SIGCONT when the fork server ends. The fork server ends when nobody holds the write
    end of its pipe any more. The parent holds it and, until here, so does every worker; a worker that closes it can
    no longer start processes of its own.
    """
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGCONT)
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
