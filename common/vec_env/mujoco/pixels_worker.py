"""A worker process that renders the frames of a `PixelObserver`.

What a frame shows is part of the definition of the environment:

* It is rendered at 84x84 and reduced to 42x42 by averaging 2x2 pixels. Row 0 is at the top.
* The camera is the model's own camera "track", which follows the body, if there is one (HalfCheetah, Walker2d, Hopper,
  Swimmer, Ant, Humanoid). Otherwise it is a free camera from `CAMERAS`, or else MuJoCo's default free camera.
  Gymnasium's default is a free camera, which loses sight of a HalfCheetah and looks at the Reacher from far away.
  Here the Reacher is seen from straight above, and the frame ends where its fingertip can reach.
* Everything that the model shows is drawn (bodies, floor, target), with the lights and textures of the model. There
  are no shadows, no reflections, no sky (it is black) and no multisampling. Round shapes have 12 slices and 6 stacks.
* A floor with a pattern is extended to 25 times its size. For HalfCheetah this is 1 km; its original floor ends
  after 40 m. It is drawn with a few large quads.

If EGL runs on the CPU, most of the time goes to the vertices of round shapes. MuJoCo's default of 28 slices and 16
stacks takes twice as long, and shadows and multisampling take much longer still.
"""

from __future__ import annotations

import contextlib
import os
import struct
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cv2
import mujoco
import numpy as np

from common.errors import UserError
from common.shared_memory import SharedMemory
from common.vec_env.rendering import create_context
from common.vec_env.workers import serve_parent

SIZE = 42
FRAME_SHAPE = (SIZE, SIZE, 3)
SUPERSAMPLING = 2
FLOOR_FACTOR = 25
CAMERAS: dict[str, dict[str, Any]] = {
    "Reacher": {"lookat": (0, 0, 0), "distance": 0.56, "azimuth": 90, "elevation": -90},
    "InvertedPendulum": {"lookat": (0, 0, 0.2), "distance": 2.7, "azimuth": 90, "elevation": 0},
    "InvertedDoublePendulum": {"lookat": (0, 0, 0.5), "distance": 3.0, "azimuth": 90, "elevation": 0},
}
ROWS = struct.Struct("II")  # the message that asks for frames: first row, and end (exclusive)
DONE = b""


def shared_size(num_envs: int, nq: int) -> int:
    """Returns the size of the `shared_arrays` in bytes."""
    return num_envs * (nq * np.dtype(np.float64).itemsize + int(np.prod(FRAME_SHAPE)))


def shared_arrays(memory: SharedMemory, num_envs: int, nq: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two arrays in shared memory: positions, float64 `[N, nq]`, and frames, uint8 `[N, 42, 42, 3]`."""
    positions = np.ndarray((num_envs, nq), np.float64, memory.buf)
    return positions, np.ndarray((num_envs, *FRAME_SHAPE), np.uint8, memory.buf, positions.nbytes)


def render_frames(model: mujoco.MjModel, task: str, memory: SharedMemory, num_envs: int, pipe: Connection) -> None:
    """Renders frames until the parent closes the pipe.

    Each message names a range of rows. The answer `DONE` means that they are rendered. The first `DONE`, before any
    message, means that the process is ready. On an error, the process ends with a pickled answer `("", error)`, where
    the error is a `UserError` or a traceback.

    Args:
      model: the compiled model.
      task: name of the task, which selects the camera.
      memory: holds the `shared_arrays`.
      num_envs: number of simulations.
      pipe: connection to the parent.
    """
    serve_parent()
    cv2.setNumThreads(0)
    # For frames as small as these, Mesa's own threads only cost time.
    os.environ.setdefault("LP_NUM_THREADS", "0")

    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        try:
            renderer = _Renderer(model, task)
            positions, frames = shared_arrays(memory, num_envs, model.nq)
            pipe.send_bytes(DONE)

            while True:
                first, end = ROWS.unpack(pipe.recv_bytes())
                for row in range(first, end):
                    renderer.render(positions[row], frames[row])
                pipe.send_bytes(DONE)

        except (EOFError, ConnectionError):
            raise
        except UserError as error:
            pipe.send(("", error))
        except Exception:
            pipe.send(("", traceback.format_exc()))


class _Renderer:
    """Renders single frames of a model with the OpenGL context of this process. It modifies the model."""

    def __init__(self, model: mujoco.MjModel, task: str) -> None:
        _set_quality(model)
        self._model = model
        self._data = mujoco.MjData(model)
        self._camera = _camera(model, task)
        self._scene = _plain_scene(model)
        self._options = mujoco.MjvOption()

        size = SUPERSAMPLING * SIZE
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)

        self._gl = create_context("--pixels")
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def render(self, positions: np.ndarray, frame: np.ndarray) -> None:
        """Renders positions `[nq]` into `frame`, uint8 `[42, 42, 3]`."""
        self._data.qpos[:] = positions
        self._update_scene()
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._context)  # row 0 is at the bottom
        frame[::-1] = cv2.resize(self._pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    def _update_scene(self) -> None:
        """Computes what a frame needs of the forward dynamics: bodies, centres of mass (for the camera) and lights."""
        for compute in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            compute(self._model, self._data)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, self._options, None, self._camera, everything, self._scene)


def _set_quality(model: mujoco.MjModel) -> None:
    """Sets rendering quality, frame size and floor as the docstring of the module describes them."""
    model.vis.global_.offwidth = SUPERSAMPLING * SIZE
    model.vis.global_.offheight = SUPERSAMPLING * SIZE
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.vis.quality.numslices = 12
    model.vis.quality.numstacks = 6

    floors = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (model.geom_matid >= 0)
    model.geom_size[floors, :2] *= FLOOR_FACTOR
    model.geom_size[floors, 2] = model.geom_size[floors, 0]  # spacing of the quads that draw the floor
    model.mat_texrepeat[model.geom_matid[floors]] *= FLOOR_FACTOR


def _plain_scene(model: mujoco.MjModel) -> mujoco.MjvScene:
    scene = mujoco.MjvScene(model, maxgeom=1000)
    scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
    scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = False
    return scene


def _camera(model: mujoco.MjModel, task: str) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)

    for name, value in CAMERAS.get(task, {}).items():
        setattr(camera, name, value)

    track = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if track >= 0:
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = track

    return camera
