"""Offscreen OpenGL for MuJoCo: EGL, which needs no display.

TensorFlow and Mesa, where it renders on the CPU, each bring an LLVM of their own, and a process that has both dies of
a segmentation fault, whichever comes first. So nothing is rendered in a process that has TensorFlow, or will have it:
both functions create a context where they are called, and are for worker processes and programs without TensorFlow.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from common.errors import UserError

if TYPE_CHECKING:
    import gymnasium as gym
    from mujoco.egl import GLContext

PACKAGES = "libegl1 libegl-mesa0 libgl1-mesa-dri libgles2"


def has_display() -> bool:
    """Whether a window can be opened here."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def window_problem(open_env: Callable[[], gym.vector.VectorEnv]) -> str:
    """Why no window can be opened, "" where one can.

    It is tried in a process of its own, because graphics libraries end theirs where a display does not answer.

    Args:
      open_env: opens the environment with `render_mode="human"`; can be pickled.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_open_window, args=(open_env, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return f"the display {os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')} does not answer"
    finally:
        process.join()


def _open_window(open_env: Callable[[], gym.vector.VectorEnv], result: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with contextlib.closing(open_env()) as env:
            env.reset()
        result.send("")
    except Exception as error:
        result.send(" ".join(str(error).split()))


def ensure_offscreen_rendering() -> None:
    """Chooses EGL for Gymnasium's own rendering where there is no display; a `MUJOCO_GL` of the user's stays.

    Raises:
      UserError: EGL is wanted and missing.
    """
    backend = os.environ.get("MUJOCO_GL") or ("" if has_display() else "egl")
    if backend == "egl":
        create_context("--video").free()
        os.environ["MUJOCO_GL"] = "egl"


def create_context(flag: str) -> GLContext:
    """Creates an EGL context, whatever `MUJOCO_GL` says; it belongs to the thread that makes it current.

    Args:
      flag: what the user asked for, to name it where EGL is missing.

    Raises:
      UserError: EGL is missing.
    """
    try:
        from mujoco.egl import GLContext

        return GLContext(1, 1)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # for each missing library another one, from an AttributeError to a ctypes.ArgumentError
        raise UserError(
            f"{flag}: cannot render without EGL; on Debian and Ubuntu: apt-get install {PACKAGES}"
        ) from error


def follow_body(env: gym.Env) -> None:
    """Lets a MuJoCo task of Gymnasium be seen through its model's camera "track", where there is one, and drawn fast.

    Gymnasium's own camera stands still, so that a HalfCheetah runs out of sight. Without shadows and multisampling a
    frame takes a twentieth of the time where EGL runs on the CPU. Call it before the first frame.
    """
    import mujoco

    task: Any = env.unwrapped
    camera = mujoco.mj_name2id(task.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        task.mujoco_renderer.camera_id = camera
    task.model.vis.quality.shadowsize = task.model.vis.quality.offsamples = 0
