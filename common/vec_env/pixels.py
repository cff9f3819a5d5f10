"""What a MuJoCo task looks like, as the observation of an agent that learns from pixels.

An observation is uint8 `[42, 42, 6]`: red, green and blue of the current frame in channels 0 to 2, those of the frame
one step earlier in channels 3 to 5. An episode starts with its first frame in both. A frame depends on the positions
`qpos` alone, which is all of the state that it shows; `pixels_worker` defines it.

The frames are rendered in worker processes, because TensorFlow may be loaded in this one (see `rendering`).
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from gymnasium import spaces

from common.errors import UserError
from common.vec_env import pixels_worker
from common.vec_env.pixels_worker import DONE, FRAME_SHAPE, ROWS, SIZE
from common.vec_env.workers import CLOSE_TIMEOUT, START_METHOD, START_TIMEOUT, bare_main, stop

if TYPE_CHECKING:
    from common.vec_env.mujoco import NativeMujocoVectorEnv

_MAX_PROCESSES = 8


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection
    name: str


class PixelObserver:
    """Renders all simulations of a `NativeMujocoVectorEnv`, in one process per core that this process may use.

    Attributes:
      space: the observation space of one environment.
    """

    space = spaces.Box(0, 255, (SIZE, SIZE, 6), np.uint8)

    def __init__(self, env: NativeMujocoVectorEnv, step_timeout: float = 300.0) -> None:
        """Starts the processes.

        Args:
          env: read through `spec`, `num_envs`, `model` and `qpos`, and never written to.
          step_timeout: seconds after which a process that does not answer is an error.

        Raises:
          UserError: EGL is missing.
          RuntimeError: a process failed or died.
        """
        self._env = env
        self._step_timeout = step_timeout
        self._frames = np.zeros((env.num_envs, *FRAME_SHAPE), np.uint8)
        self._workers: list[_Worker] = []
        self._start_workers(min(len(os.sched_getaffinity(0)), env.num_envs, _MAX_PROCESSES))

    @property
    def processes(self) -> list[BaseProcess]:
        """The worker processes."""
        return [worker.process for worker in self._workers]

    def reset(self, rows: np.ndarray) -> np.ndarray:
        """Returns the first observations, uint8 `[M, 42, 42, 6]`, of new episodes in `rows`, int `[M]`.

        Raises:
          RuntimeError: a process failed, died or hangs.
        """
        frames = self._render(self._env.qpos[rows])
        self._frames[rows] = frames
        return np.concatenate([frames, frames], axis=-1)

    def observe(self) -> np.ndarray:
        """Returns a new array with the observations of all simulations, uint8 `[N, 42, 42, 6]`, after a step of all.

        Raises:
          RuntimeError: a process failed, died or hangs.
        """
        previous, self._frames = self._frames, self._render(self._env.qpos)
        return np.concatenate([self._frames, previous], axis=-1)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Ends the processes, and kills those that have not ended after `timeout` seconds."""
        if not self._workers:
            return
        for worker in self._workers:
            worker.pipe.close()
        stop(self.processes, timeout)
        self._workers = []  # and with them their processes' descriptors
        del self._shared_positions, self._shared_frames
        self._memory.close()

    def _start_workers(self, number: int) -> None:
        size = (self._env.num_envs, self._env.model.nq)
        context = multiprocessing.get_context(START_METHOD)
        context.set_forkserver_preload([pixels_worker.__name__])  # imports MuJoCo and OpenCV once for all
        self._memory = SharedMemory(create=True, size=pixels_worker.shared_size(*size))
        self._shared_positions, self._shared_frames = pixels_worker.shared_arrays(self._memory, *size)
        try:
            with bare_main():
                for index in range(number):
                    self._start_worker(context, f"renderer {index}")
            deadline = time.monotonic() + START_TIMEOUT
            for worker in self._workers:
                self._wait(worker, deadline, START_TIMEOUT)
        finally:
            self._memory.unlink()  # the name; the memory itself lasts until all have closed it

    def _start_worker(self, context: Any, name: str) -> None:
        pipe, child_pipe = context.Pipe()
        process = context.Process(
            target=pixels_worker.render_frames,
            args=(self._env.model, self._env.spec.name, self._memory, self._env.num_envs, child_pipe),
            name=name,
            daemon=True,
        )
        process.start()
        child_pipe.close()
        self._workers.append(_Worker(process, pipe, name))

    def _render(self, qpos: np.ndarray) -> np.ndarray:
        """Returns frames, uint8 `[M, 42, 42, 3]`, of the positions `[M, nq]`, shared out equally."""
        count = len(qpos)
        self._shared_positions[:count] = qpos
        bounds = [count * i // len(self._workers) for i in range(len(self._workers) + 1)]
        for worker, first, end in zip(self._workers, bounds[:-1], bounds[1:], strict=True):
            self._send(worker, ROWS.pack(first, end))
        deadline = time.monotonic() + self._step_timeout
        for worker in self._workers:
            self._wait(worker, deadline, self._step_timeout)
        return self._shared_frames[:count].copy()

    def _send(self, worker: _Worker, message: bytes) -> None:
        try:
            worker.pipe.send_bytes(message)
        except (BrokenPipeError, ConnectionResetError):
            self._fail_dead(worker)

    def _wait(self, worker: _Worker, deadline: float, timeout: float) -> None:
        """Waits for a worker's answer until `deadline`, which was `timeout` seconds away when it was asked."""
        try:
            if not worker.pipe.poll(max(0.0, deadline - time.monotonic())):
                self._fail(f"{worker.name} did not answer within {timeout:g} s")
            message = worker.pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            self._fail_dead(worker)
        if message != DONE:
            error = pickle.loads(message)
            if isinstance(error, UserError):
                self.close(timeout=0.0)
                raise error
            self._fail(f"{worker.name} raised an exception in its worker process:\n{error}")

    def _fail_dead(self, worker: _Worker) -> NoReturn:
        worker.process.join(CLOSE_TIMEOUT)
        self._fail(f"the worker process of {worker.name} died (exit code {worker.process.exitcode})")

    def _fail(self, message: str) -> NoReturn:
        self.close(timeout=0.0)
        raise RuntimeError(message)
