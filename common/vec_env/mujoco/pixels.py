"""What a MuJoCo task looks like, as the observation of an agent that learns from pixels.

An observation is uint8 `[42, 42, 6]`: red, green and blue of the current frame in channels 0 to 2, those of the frame
one step earlier in channels 3 to 5. An episode starts with its first frame in both. A frame depends on the positions
`qpos` alone, which is all of the state that it shows; `pixels_worker` defines it.

The frames are rendered in worker processes, because TensorFlow may be loaded in this one (see `rendering`).
"""

from __future__ import annotations

import os
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from common.shared_memory import SharedMemory
from common.vec_env.mujoco import pixels_worker
from common.vec_env.mujoco.pixels_worker import FRAME_SHAPE, ROWS, SIZE
from common.vec_env.workers import CLOSE_TIMEOUT, Workers

if TYPE_CHECKING:
    from common.vec_env.mujoco.vector import NativeMujocoVectorEnv

_MAX_PROCESSES = 8
_ENLARGED = 8  # pixels of a picture that is shown, for one that is observed


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
          WorkerError: a process failed or died.
        """
        self._env = env
        self._step_timeout = step_timeout
        self._frames = np.zeros((env.num_envs, *FRAME_SHAPE), np.uint8)
        self._workers = Workers()
        self._start_workers(min(len(os.sched_getaffinity(0)), env.num_envs, _MAX_PROCESSES))

    @property
    def processes(self) -> list[BaseProcess]:
        """The worker processes."""
        return self._workers.processes

    def reset(self, rows: np.ndarray) -> np.ndarray:
        """Returns the first observations, uint8 `[M, 42, 42, 6]`, of new episodes in `rows`, int `[M]`.

        Raises:
          WorkerError: a process failed, died or hangs.
        """
        frames = self._render(self._env.qpos[rows])
        self._frames[rows] = frames
        return np.concatenate([frames, frames], axis=-1)

    def observe(self) -> np.ndarray:
        """Returns a new array with the observations of all simulations, uint8 `[N, 42, 42, 6]`, after a step of all.

        Raises:
          WorkerError: a process failed, died or hangs.
        """
        previous, self._frames = self._frames, self._render(self._env.qpos)
        return np.concatenate([self._frames, previous], axis=-1)

    def render(self) -> tuple[np.ndarray, ...]:
        """Returns the current frames enlarged, uint8 `[336, 336, 3]` each."""
        return tuple(self._frames.repeat(_ENLARGED, axis=1).repeat(_ENLARGED, axis=2))

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Ends the processes, and kills those that have not ended after `timeout` seconds."""
        self._workers.close(timeout)
        if hasattr(self, "_shared_frames"):
            del self._shared_positions, self._shared_frames
            self._memory.close()

    def _start_workers(self, number: int) -> None:
        size = (self._env.num_envs, self._env.model.nq)
        self._memory = SharedMemory(pixels_worker.shared_size(*size))
        self._shared_positions, self._shared_frames = pixels_worker.shared_arrays(self._memory, *size)
        arguments = [(self._env.model, self._env.spec.name, self._memory, self._env.num_envs)] * number
        names = [f"renderer {index}" for index in range(number)]
        try:
            self._workers.start(pixels_worker.__name__, pixels_worker.render_frames, arguments, names)
        except BaseException:
            self.close(timeout=0.0)
            raise

    def _render(self, qpos: np.ndarray) -> np.ndarray:
        """Returns frames, uint8 `[M, 42, 42, 3]`, of the positions `[M, nq]`, shared out equally."""
        count, number = len(qpos), len(self._workers)
        self._shared_positions[:count] = qpos
        for i in range(number):
            self._workers.send(i, ROWS.pack(count * i // number, count * (i + 1) // number))
        for _ in self._workers.answers(self._step_timeout):
            pass
        return self._shared_frames[:count].copy()
