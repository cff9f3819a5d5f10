"""What a program does to its own process: its fellows under MPI, signals, and how TensorFlow starts."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any, TextIO, cast

from common.errors import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_FEWEST_DESCRIPTORS = 64  # that a run of few environments has open
_MOST_DESCRIPTORS = 65536
_TEMPORARY_BYTES = 2**20
# Set by Open MPI; by MPICH, Intel MPI and Slurm's PMI-2; by Slurm's srun with any plugin, PMIx among them.
_SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


def num_processes() -> int:
    """Returns how many processes `mpirun` or `srun` has started together with this one, itself included.

    It is read from the launchers' environment variables, so it needs no MPI library.
    """
    texts = [os.environ.get(name, "") for name in _SIZE_VARIABLES]
    return max(int(text) if text.isdecimal() else 1 for text in texts)


class Interruption:
    """Notes the first Ctrl-C, SIGTERM or SIGUSR1, for the training loop to stop at; a second one stops at once.

    SIGUSR1 is the one that `mpirun` hands on and batch systems send ahead of time.

    Attributes:
      signal: number of the signal that came, 0 for none.
      deferred: whether a first signal is noted only; else it raises KeyboardInterrupt as a second one does.
      closing: whether further signals are left alone, since what was started is being closed, which takes seconds.

    Args:
      quiet: whether nothing is said about it.
    """

    SIGNALS = SIGNALS

    def __init__(self, deferred: bool = False, quiet: bool = False) -> None:
        self.signal, self.deferred, self._quiet = 0, deferred, quiet
        self.closing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.closing:
            self.signal = self.signal or number
            return
        if self.signal or not self.deferred:
            self.signal = self.signal or number
            raise KeyboardInterrupt
        self.signal = number
        if not self._quiet:
            os.write(2, b"\nstopping after this update; once more to stop at once\n")  # `print` may be at work already


def end_at_signals() -> None:
    """Has a signal end this process at once and without a word, where no `Interruption` is at work.

    So one that comes while Python itself ends gives no traceback. The exit code is 128 + signal.
    """
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: os._exit(128 + number))


def raise_descriptor_limit() -> None:
    """Lets this process and its children open as many files as the system allows them.

    Raises:
      UserError: those are too few for any run.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < _FEWEST_DESCRIPTORS:
        raise UserError(f"ulimit -n {hard}: too few open files for a run; must be at least {_FEWEST_DESCRIPTORS}")


def require_temporary_files() -> None:
    """Raises UserError where the folder for temporary files has no room; TensorFlow compiles in there."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(_TEMPORARY_BYTES))
    except OSError as error:
        if error.errno == errno.EFBIG:  # a limit on the size of files, which TensorFlow's small ones keep
            return
        folder = tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")
        raise UserError(f"TMPDIR={folder}: no room for the files that TensorFlow makes: {error.strerror}") from error


def shield_resource_tracker() -> None:
    """Starts the process in which `multiprocessing` keeps account of semaphores, so that no signal to a job ends it.

    It ignores Ctrl-C and SIGTERM by itself, and inherits that SIGUSR1 is blocked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Tolerant:
    """A text stream whose text goes nowhere once the disk under it is full or broken; else the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or not."""
        with self._losses():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes, or not."""
        with self._losses():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextlib.contextmanager
def tolerant_output() -> Iterator[None]:
    """A full disk under standard output or error costs what is written there meanwhile, and not the run."""
    before = sys.stdout, sys.stderr
    if before != (sys.__stdout__, sys.__stderr__):
        yield  # somebody captures them
        return
    streams = tuple(_Tolerant(cast(TextIO, stream)) for stream in before)
    sys.stdout, sys.stderr = cast(tuple[TextIO, TextIO], streams)
    try:
        yield
    finally:
        for stream in streams:
            with contextlib.suppress(BrokenPipeError):
                stream.flush()
        sys.stdout, sys.stderr = before


def tell_terminal(line: str) -> None:
    """Says on a terminal, and nowhere else, what is going on."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


def output_closed() -> int:
    """The exit code of a program whose standard output is read no more, as by `head`; what follows goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def suit_tensorflow(observation_space: Any) -> None:
    """Has TensorFlow, if it is not imported yet, compute in the way that suits a Gymnasium space of observations.

    For images it uses oneDNN, which TensorFlow leaves off on some processors and whose convolutions are several times
    as fast; for vectors it runs each operation on one thread, as on networks so small two wait for each other
    (docs/performance.md). Of a GPU's memory it takes what it needs, so that several runs or ranks can share one. It
    holds for the process; the variables TF_ENABLE_ONEDNN_OPTS, TF_NUM_INTRAOP_THREADS and TF_FORCE_GPU_ALLOW_GROWTH
    decide otherwise.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        images = len(observation_space.shape or ()) == 3 or hasattr(observation_space, "parts")
        os.environ.setdefault(*(("TF_ENABLE_ONEDNN_OPTS", "1") if images else ("TF_NUM_INTRAOP_THREADS", "1")))


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages off the terminal, unless TF_CPP_MIN_LOG_LEVEL asks for them (0, 1, 2)."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # While it is being imported TensorFlow ignores that level, so standard error itself is closed to it.
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
