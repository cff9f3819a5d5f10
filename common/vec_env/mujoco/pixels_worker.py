"""A process that renders the frames of a `PixelObserver`, and what a frame is.

A frame is part of the environment's definition:

* Rendered at 84x84 and reduced to 42x42 by the mean of 2x2 pixels, row 0 at the top.
* The camera is the model's own camera "track", which follows the body, where there is one (HalfCheetah, Walker2d,
  Hopper, Swimmer, Ant, Humanoid); a free one from `CAMERAS`; MuJoCo's default free camera for all other models.
  Gymnasium's default is a free camera, out of whose sight a HalfCheetah runs, and which looks at the Reacher from
  afar. Here the Reacher is seen from straight above, up to where its fingertip can reach.
* All that the model shows is drawn: bodies, floor, target, with its own lights and textures. There are no shadows, no
  reflections and no sky (black), no multisampling, and round shapes have 12 slices and 6 stacks.
* A floor with a pattern reaches 25 times as far as the model draws it, 1 km for HalfCheetah, which otherwise runs out
  of its floor after 40 m. It is drawn with a few large quads.

Where EGL runs on the CPU, most of a frame's time goes to the vertices of round shapes: MuJoCo's default of 28 slices
and 16 stacks takes twice as long, its shadows and its multisampling much longer still.
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
ROWS = struct.Struct("II")  # the message that asks for frames: the first row, and the one after the last
DONE = b""


def shared_size(num_envs: int, nq: int) -> int:
    """Returns the bytes of `shared_arrays`."""
    return num_envs * (nq * np.dtype(np.float64).itemsize + int(np.prod(FRAME_SHAPE)))


def shared_arrays(memory: SharedMemory, num_envs: int, nq: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions, float64 `[N, nq]`, and frames, uint8 `[N, 42, 42, 3]`, in shared memory."""
    positions = np.ndarray((num_envs, nq), np.float64, memory.buf)
    return positions, np.ndarray((num_envs, *FRAME_SHAPE), np.uint8, memory.buf, positions.nbytes)


def render_frames(model: mujoco.MjModel, task: str, memory: SharedMemory, num_envs: int, pipe: Connection) -> None:
    """Renders the rows that each message names until the parent closes the pipe.

    It answers `DONE`, also when it is ready for the first message. On an error it ends with a pickled answer:
    `("", error)` with the `UserError` or the traceback.
    """
    serve_parent()
    cv2.setNumThreads(0)
    # Threads of Mesa's own only add to the cost of frames as small as these.
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
    """Renders single frames of a model, which it changes, with the OpenGL context of this process."""

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
        """Computes what a frame needs of the forward dynamics: bodies, centres of mass for the camera, lights."""
        for compute in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            compute(self._model, self._data)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, self._options, None, self._camera, everything, self._scene)


def _set_quality(model: mujoco.MjModel) -> None:
    """Sets the quality, the size of a frame and the floor that the module's docstring gives."""
    model.vis.global_.offwidth = model.vis.global_.offheight = SUPERSAMPLING * SIZE
    model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
    model.vis.quality.numslices, model.vis.quality.numstacks = 12, 6
    floors = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (model.geom_matid >= 0)
    model.geom_size[floors, :2] *= FLOOR_FACTOR
    model.geom_size[floors, 2] = model.geom_size[floors, 0]  # the size of the quads that it is drawn with
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
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, track
    return camera
