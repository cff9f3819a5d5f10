"""Rendered frames of a MuJoCo task as observations, for agents that learn from pixels.

An observation is uint8 `[42, 42, 6]`. Channels 0 to 2 are red, green and blue of the current frame, channels 3 to 5
those of the frame one step earlier. An episode starts with its first frame in both. A frame shows the positions
`qpos` and nothing else of the state; `pixels_worker` defines what it looks like.

Frames are rendered in worker processes, because TensorFlow may be loaded in this one (see `rendering`).
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
_ENLARGED = 8  # factor by which frames are enlarged for display


class PixelObserver:
    """Renders all simulations of a `NativeMujocoVectorEnv`, in one worker process per available core.

    Attributes:
      space: observation space of one environment.
    """

    space = spaces.Box(0, 255, (SIZE, SIZE, 6), np.uint8)

    def __init__(self, env: NativeMujocoVectorEnv, step_timeout: float = 300.0) -> None:
        """Starts the processes.

        Args:
          env: the environment to observe. Only its `spec`, `num_envs`, `model` and `qpos` are read; nothing is written.
          step_timeout: seconds after which a process that does not answer is an error.

        Raises:
          UserError: EGL is missing.
          WorkerError: a process failed or died.
        """
        self._env = env
        self._step_timeout = step_timeout
        self._frames = np.zeros((env.num_envs, *FRAME_SHAPE), np.uint8)  # [N, 42, 42, 3], the last frames
        self._workers = Workers()
        self._start_workers(min(len(os.sched_getaffinity(0)), env.num_envs, _MAX_PROCESSES))

    @property
    def processes(self) -> list[BaseProcess]:
        """The worker processes."""
        return self._workers.processes

    def reset(self, rows: np.ndarray) -> np.ndarray:
        """Returns the first observations of new episodes, uint8 `[M, 42, 42, 6]`.

        Args:
          rows: int `[M]`, indices of the environments.

        Raises:
          WorkerError: a process failed, died or hangs.
        """
        frames = self._render(self._env.qpos[rows])  # [M, 42, 42, 3]
        self._frames[rows] = frames
        return np.concatenate([frames, frames], axis=-1)  # [M, 42, 42, 6]

    def observe(self) -> np.ndarray:
        """Returns the observations of all simulations after a step, uint8 `[N, 42, 42, 6]`, in a new array.

        Raises:
          WorkerError: a process failed, died or hangs.
        """
        previous = self._frames
        self._frames = self._render(self._env.qpos)
        return np.concatenate([self._frames, previous], axis=-1)  # [N, 42, 42, 6]

    def render(self) -> tuple[np.ndarray, ...]:
        """Returns the current frames, enlarged to uint8 `[336, 336, 3]` each."""
        return tuple(self._frames.repeat(_ENLARGED, axis=1).repeat(_ENLARGED, axis=2))

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Ends the processes, and kills those that are still alive after `timeout` seconds."""
        self._workers.close(timeout)
        if hasattr(self, "_shared_frames"):
            del self._shared_positions, self._shared_frames
            self._memory.close()

    def _start_workers(self, number: int) -> None:
        env = self._env
        size = (env.num_envs, env.model.nq)
        self._memory = SharedMemory(pixels_worker.shared_size(*size))
        positions, frames = pixels_worker.shared_arrays(self._memory, *size)
        self._shared_positions = positions  # [N, nq]
        self._shared_frames = frames  # [N, 42, 42, 3]

        arguments = [(env.model, env.spec.name, self._memory, env.num_envs)] * number
        names = [f"renderer {index}" for index in range(number)]

        try:
            self._workers.start(pixels_worker.__name__, pixels_worker.render_frames, arguments, names)
        except BaseException:
            self.close(timeout=0.0)
            raise

    def _render(self, qpos: np.ndarray) -> np.ndarray:
        """Renders the positions `[M, nq]`, shared out equally among the processes, to frames uint8 `[M, 42, 42, 3]`."""
        count = len(qpos)
        number = len(self._workers)
        self._shared_positions[:count] = qpos

        for i in range(number):
            self._workers.send(i, ROWS.pack(count * i // number, count * (i + 1) // number))

        for _ in self._workers.answers(self._step_timeout):
            pass

        return self._shared_frames[:count].copy()
