"""Environments in worker processes: Gymnasium's `AsyncVectorEnv`, made to fail loudly and to stop.

Workers are forked from a server process that knows nothing of this one: TensorFlow, if it is loaded here, is not there.
The user's main script is not imported again by the workers either; `cloudpickle` carries what it defines.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, cast

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import CloudpickleWrapper, write_to_shared_memory

_START_TIMEOUT = 300.0  # seconds for a worker to build its environment
_CLOSE_TIMEOUT = 2.0  # seconds until a worker that does not close is killed


class SubprocVectorEnv(AsyncVectorEnv):
    """One worker process per environment, with same-step autoreset and observations in shared memory."""

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]], step_timeout: float = 300.0) -> None:
        """Starts the workers.

        Args:
          env_fns: functions that build one environment each.
          step_timeout: seconds after which an environment that does not answer is an error.

        Raises:
          RuntimeError: an environment could not be built, with its index and the worker's traceback.
        """
        self.timeout = max(step_timeout, _START_TIMEOUT)
        self._failed = False
        self.processes = []
        multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])  # imports Gymnasium once for all
        with _bare_main():
            super().__init__(
                env_fns,
                context="forkserver",
                worker=_worker,  # type: ignore[arg-type]  # the annotation lacks two arguments that Gymnasium passes
                autoreset_mode=AutoresetMode.SAME_STEP,
                shared_memory=True,
            )
        self.timeout = step_timeout

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Asks the workers to close, and kills those that have not after 2 seconds; never raises or hangs."""
        for pipe in self.parent_pipes:
            with contextlib.suppress(OSError):
                if not (terminate or self._failed):
                    pipe.send(("close", None))
                pipe.close()
        deadline = time.monotonic() + (0.0 if terminate or self._failed else _CLOSE_TIMEOUT)
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
        for process in self.processes:
            process.join()
        self.error_queue.close()

    def _check_spaces(self) -> None:
        """Runs at the end of Gymnasium's constructor: from here on every pipe notices a dead or hanging worker."""
        watched = [
            _WatchedPipe(self, index, pipe, process)
            for index, (pipe, process) in enumerate(zip(self.parent_pipes, self.processes, strict=True))
        ]
        self.parent_pipes = cast(list[Connection], watched)  # they have what Gymnasium uses of a connection
        super()._check_spaces()

    def fail(self, message: str) -> None:
        """Kills the workers, whose answers can no longer be told apart, and raises.

        Raises:
          RuntimeError: with `message`.
        """
        self._failed = True
        self._state = AsyncState.DEFAULT
        self.close()
        raise RuntimeError(message)


class _WatchedPipe:
    """The parent's end of a worker's pipe; an answer that is an error, or none, raises with the environment's index."""

    def __init__(self, owner: SubprocVectorEnv, index: int, pipe: Connection, process: multiprocessing.Process) -> None:
        self._owner = owner
        self._index = index
        self._pipe = pipe
        self._process = process
        self.poll = pipe.poll
        self.close = pipe.close

    @property
    def closed(self) -> bool:
        return self._pipe.closed

    def send(self, message: tuple[str, Any]) -> None:
        """Sends a command."""
        try:
            self._pipe.send(message)
        except (BrokenPipeError, ConnectionResetError):
            self._fail_dead()

    def recv(self) -> tuple[Any, bool]:
        """Waits for the worker's answer."""
        try:
            if not self._pipe.poll(self._owner.timeout):
                self._owner.fail(f"environment {self._index} did not answer within {self._owner.timeout:g} s")
            answer, success = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._fail_dead()
        if not success:
            self._owner.fail(f"environment {self._index} raised an exception in its worker process:\n{answer}")
        return answer, success

    def _fail_dead(self) -> None:
        self._process.join(_CLOSE_TIMEOUT)
        self._owner.fail(f"the worker process of environment {self._index} died (exit code {self._process.exitcode})")


def _worker(
    index: int,
    env_fn: CloudpickleWrapper,
    pipe: Connection,
    parent_pipe: Connection,
    shared_memory: Any,
    error_queue: Any,
    autoreset_mode: AutoresetMode,
    semaphore: Any,
) -> None:
    """Answers the parent's commands with `(result, True)`, or `(traceback, False)`, until it closes the pipe."""
    del error_queue, autoreset_mode, semaphore
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the workers
    parent_pipe.close()
    env = None
    try:
        env = env_fn()
        write = functools.partial(write_to_shared_memory, env.observation_space, index, shared_memory=shared_memory)
        while True:
            command, data = pipe.recv()
            if command == "close":
                break
            pipe.send((_answer(env, command, data, write), True))
    except (EOFError, ConnectionError):  # the parent is gone
        pass
    except Exception:
        with contextlib.suppress(OSError):
            pipe.send((traceback.format_exc(), False))
    finally:
        if env is not None:
            env.close()


def _answer(env: gym.Env, command: str, data: Any, write: Callable[..., None]) -> Any:
    if command == "reset":
        observation, info = env.reset(**data)
        write(value=observation)
        return None, info
    if command == "step":
        observation, reward, terminated, truncated, info = env.step(data)
        if terminated or truncated:
            final = {"final_info": info, "final_obs": observation}
            observation, info = env.reset()
            info = final | info
        write(value=observation)
        return None, reward, terminated, truncated, info
    if command == "_call":
        name, args, kwargs = data
        attribute = env.get_wrapper_attr(name)
        return attribute(*args, **kwargs) if callable(attribute) else attribute
    if command == "_setattr":
        return env.set_wrapper_attr(*data)
    if command == "_check_spaces":
        return data[1] == env.observation_space, data[2] == env.action_space
    raise ValueError(f"unknown command {command}")


@contextlib.contextmanager
def _bare_main() -> Iterator[None]:
    """Hides the main script from `multiprocessing`, which would import it, and all it imports, in every worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
