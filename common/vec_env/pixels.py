"""What a MuJoCo task looks like, as the observation of an agent that learns from pixels.

An observation is uint8 `[42, 42, 6]`: red, green and blue of the current frame in channels 0 to 2, those of the frame
one step earlier in channels 3 to 5. An episode starts with its first frame in both. A frame depends on the positions
`qpos` alone, which is all of the state that it shows.

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
import copy
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cv2
import mujoco
import numpy as np
from gymnasium import spaces

from common.vec_env.rendering import create_context

if TYPE_CHECKING:
    from common.vec_env.mujoco import NativeMujocoVectorEnv

SIZE = 42
SUPERSAMPLING = 2
FLOOR_FACTOR = 25
CAMERAS: dict[str, dict[str, Any]] = {
    "Reacher": {"lookat": (0, 0, 0), "distance": 0.56, "azimuth": 90, "elevation": -90},
    "InvertedPendulum": {"lookat": (0, 0, 0.2), "distance": 2.7, "azimuth": 90, "elevation": 0},
    "InvertedDoublePendulum": {"lookat": (0, 0, 0.5), "distance": 3.0, "azimuth": 90, "elevation": 0},
}

_MAX_THREADS = 8  # each has an OpenGL context of 12 MiB that takes 0.15 s to create


class PixelObserver:
    """Renders all simulations of a `NativeMujocoVectorEnv`, on one thread per core.

    Attributes:
      space: the observation space of one environment.
    """

    space = spaces.Box(0, 255, (SIZE, SIZE, 6), np.uint8)

    def __init__(self, env: NativeMujocoVectorEnv) -> None:
        """Starts the threads.

        Args:
          env: read through `spec`, `num_envs`, `model` and `qpos`, and never written to.

        Raises:
          UserError: EGL is missing.
        """
        assert env.spec is not None
        self._env = env
        # Threads of Mesa's own only add to the cost of frames as small as these.
        os.environ.setdefault("LP_NUM_THREADS", "0")
        model = _model_to_render(env.model)
        camera = _camera(model, env.spec.name)
        num_threads = min(os.cpu_count() or 1, env.num_envs, _MAX_THREADS)
        self._renderers = [_Renderer(model, camera) for _ in range(num_threads)]
        self._frames = np.zeros((env.num_envs, SIZE, SIZE, 3), np.uint8)

    def reset(self, rows: np.ndarray) -> np.ndarray:
        """Returns the first observations, uint8 `[M, 42, 42, 6]`, of new episodes in `rows`, int `[M]`."""
        frames = self._render(self._env.qpos[rows])
        self._frames[rows] = frames
        return np.concatenate([frames, frames], axis=-1)

    def observe(self) -> np.ndarray:
        """Returns a new array with the observations of all simulations, uint8 `[N, 42, 42, 6]`, after a step of all."""
        previous, self._frames = self._frames, self._render(self._env.qpos)
        return np.concatenate([self._frames, previous], axis=-1)

    def close(self) -> None:
        """Frees the contexts and ends the threads."""
        while self._renderers:
            self._renderers.pop().close()

    def _render(self, qpos: np.ndarray) -> np.ndarray:
        """Returns frames, uint8 `[M, 42, 42, 3]`, of the positions `[M, nq]`."""
        frames = np.empty((len(qpos), SIZE, SIZE, 3), np.uint8)
        parts = len(self._renderers)
        jobs = zip(self._renderers, np.array_split(qpos, parts), np.array_split(frames, parts), strict=True)
        for future in [renderer.start(positions, out) for renderer, positions, out in jobs]:
            future.result()
        return frames


class _Renderer:
    """One thread with an OpenGL context of its own, which is current there for as long as both live."""

    def __init__(self, model: mujoco.MjModel, camera: mujoco.MjvCamera) -> None:
        self._model = model
        self._camera = camera
        self._data = mujoco.MjData(model)
        self._scene = _plain_scene(model)
        self._options = mujoco.MjvOption()
        size = SUPERSAMPLING * SIZE
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        self._thread = ThreadPoolExecutor(1, "pixels")
        self._thread.submit(self._open).result()

    def start(self, qpos: np.ndarray, out: np.ndarray) -> Future[None]:
        """Starts to render positions `[M, nq]` into `out`, uint8 `[M, 42, 42, 3]`."""
        return self._thread.submit(self._render, qpos, out)

    def close(self) -> None:
        """Frees the context in the thread that it belongs to, and ends the thread."""
        with contextlib.suppress(RuntimeError):  # at the end of the interpreter the thread has already ended
            self._thread.submit(self._free).result()
        self._thread.shutdown()

    def _open(self) -> None:
        self._gl = create_context("--pixels")
        self._gl.make_current()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def _free(self) -> None:
        self._context.free()
        self._gl.free()

    def _render(self, qpos: np.ndarray, out: np.ndarray) -> None:
        for positions, frame in zip(qpos, out, strict=True):
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


def _model_to_render(model: mujoco.MjModel) -> mujoco.MjModel:
    """Returns a copy with the quality, the size of a frame and the floor that the module's docstring gives."""
    model = copy.copy(model)
    model.vis.global_.offwidth = model.vis.global_.offheight = SUPERSAMPLING * SIZE
    model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
    model.vis.quality.numslices, model.vis.quality.numstacks = 12, 6
    floors = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (model.geom_matid >= 0)
    model.geom_size[floors, :2] *= FLOOR_FACTOR
    model.geom_size[floors, 2] = model.geom_size[floors, 0]  # the size of the quads that it is drawn with
    model.mat_texrepeat[model.geom_matid[floors]] *= FLOOR_FACTOR
    return model


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
