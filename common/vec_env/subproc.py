"""Environments in worker processes: Gymnasium's `AsyncVectorEnv`, with clear errors and a reliable end.

Workers do not import the user's main script again. `cloudpickle` transfers what the script defines.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import multiprocessing
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, cast

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import CloudpickleWrapper, write_to_shared_memory

from common.errors import UserError
from common.vec_env.workers import (
    CLOSE_TIMEOUT,
    START_METHOD,
    START_TIMEOUT,
    Worker,
    WorkerError,
    kill_at_end,
    of_environments,
    require_room,
    serve_parent,
    starting,
    stop,
)

_NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EACCES)


class SubprocVectorEnv(AsyncVectorEnv):
    """Runs each environment in a worker process of its own, with same-step autoreset.

    Observations are passed through shared memory.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env]],
        step_timeout: float = 300.0,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Starts the workers.

        Args:
          env_fns: functions that build one environment each. The first one is also called in this process, to read its
            spaces.
          step_timeout: seconds after which an environment that does not answer is an error.
          prepare: function that every worker calls first.

        Raises:
          UserError: a worker raised it, or the system has no room for workers.
          WorkerError: an environment could not be built. The message has its index and the traceback of the worker.
        """
        self.timeout = max(step_timeout, START_TIMEOUT)
        self._failed = False
        self.processes = []
        require_room(len(env_fns))
        multiprocessing.get_context(START_METHOD).set_forkserver_preload([__name__])  # imports Gymnasium once for all

        with _system_errors(), self._killed_unless_started(), contextlib.ExitStack() as self._starting:
            self._starting.enter_context(starting())
            super().__init__(
                env_fns,
                context=START_METHOD,
                worker=functools.partial(_worker, prepare),
                autoreset_mode=AutoresetMode.SAME_STEP,
                shared_memory=True,
            )

        self.timeout = step_timeout

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Asks the workers to close, and kills those that are still alive after 2 seconds. It never raises or hangs."""
        for pipe in self.parent_pipes:
            with contextlib.suppress(OSError):
                if not (terminate or self._failed):
                    pipe.send(("close", None))
                pipe.close()

        stop(self.processes, 0.0 if terminate or self._failed else CLOSE_TIMEOUT)
        self.error_queue.close()

    def _check_spaces(self) -> None:
        """Replaces Gymnasium's pipes by pipes that notice a dead or hanging worker.

        Gymnasium's constructor calls this method at its end.
        """
        self._starting.close()

        self._workers: list[Worker] = []
        for i, (process, pipe) in enumerate(zip(self.processes, self.parent_pipes, strict=True)):
            name = of_environments(i, i, None)
            self._workers.append(Worker(process, pipe, name))

        kill_at_end(self, self._workers)
        watched = [_WatchedPipe(self, worker) for worker in self._workers]
        self.parent_pipes = cast(list[Connection], watched)  # they have what Gymnasium uses of a connection
        super()._check_spaces()

    def reset_async(self, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> None:
        """Sends the command to reset, and records the seeds for error messages."""
        if seed is not None:
            each = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
            for i, (worker, own) in enumerate(zip(self._workers, each, strict=True)):
                worker.name = of_environments(i, i, None if own is None else own - i)
        super().reset_async(seed, options)

    @contextlib.contextmanager
    def _killed_unless_started(self) -> Iterator[None]:
        """A context manager that kills the workers started so far if its block raises.

        They are killed before the resources that they still have to open are gone.
        """
        try:
            yield
        except BaseException:
            stop([process for process in self.processes if process.pid is not None], 0.0)
            raise

    @contextlib.contextmanager
    def killed_on_error(self) -> Iterator[None]:
        """A context manager that kills all workers if its block raises.

        After an error the remaining answers could no longer be matched to their commands.
        """
        try:
            yield
        except Exception:
            self._failed = True
            self._state = AsyncState.DEFAULT
            self.close()
            raise


class _WatchedPipe:
    """The part of a connection that Gymnasium uses of a worker's pipe.

    If a worker answers with an error, or not at all, all workers are killed and the error is raised.
    """

    def __init__(self, owner: SubprocVectorEnv, worker: Worker) -> None:
        self._owner = owner
        self._worker = worker
        self.poll = worker.pipe.poll
        self.close = worker.pipe.close

    @property
    def closed(self) -> bool:
        return self._worker.pipe.closed

    def send(self, message: tuple[str, Any]) -> None:
        """Sends a command to the worker."""
        with self._owner.killed_on_error():
            self._worker.send(pickle.dumps(message))

    def recv(self) -> tuple[Any, bool]:
        """Waits for the answer of the worker."""
        with self._owner.killed_on_error():
            answer, success = pickle.loads(self._worker.receive(self._owner.timeout))
            if isinstance(answer, UserError):
                raise answer
            if not success:
                raise WorkerError(f"{self._worker.name} raised an exception in its worker process:\n{answer}")

        return answer, success


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """A context manager that turns errors of the system, such as a full /dev/shm, into a `UserError`.

    Gymnasium's workers need semaphores and shared memory, which lie in /dev/shm.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise UserError(
            f"--env_backend=subproc: workers cannot be started: {error}; they need room in /dev/shm, sync does without"
        ) from error


def _worker(
    prepare: Callable[[], None] | None,
    index: int,
    env_fn: CloudpickleWrapper,
    pipe: Connection,
    parent_pipe: Connection,
    shared_memory: Any,
    error_queue: Any,
    autoreset_mode: AutoresetMode,
    semaphore: Any,
) -> None:
    """Runs one environment in a worker process, until the parent closes the pipe.

    It answers each command with `(result, True)`. On an error it ends with `(error, False)`, where the error is a
    `UserError` or the traceback of any other exception.
    """
    del error_queue, autoreset_mode, semaphore
    serve_parent()
    parent_pipe.close()

    env = None
    try:
        if prepare:
            prepare()

        env = env_fn()
        write = functools.partial(write_to_shared_memory, env.observation_space, index, shared_memory=shared_memory)

        while True:
            command, data = pipe.recv()
            if command == "close":
                break
            pipe.send((_answer(env, command, data, write), True))

    except (EOFError, ConnectionError):  # the parent is gone
        pass
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send((error if isinstance(error, UserError) else traceback.format_exc(), False))
    finally:
        if env is not None:
            env.close()


def _answer(env: gym.Env, command: str, data: Any, write: Callable[..., None]) -> Any:
    if command == "reset":
        observation, info = env.reset(**data)
        write(value=observation)
        return None, info

    if command == "reset-noop":
        return None, {}

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
