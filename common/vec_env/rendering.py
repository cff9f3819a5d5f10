"""Offscreen OpenGL for MuJoCo through EGL, which needs no display.

Nothing may be rendered in a process that has TensorFlow or will import it. Mesa, which renders on the CPU, and
TensorFlow each contain a copy of LLVM, and a process with both dies of a segmentation fault. So
`ensure_offscreen_rendering` and `create_context`, which create an OpenGL context in the calling process, are for worker
processes and for programs without TensorFlow.
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
    """Returns whether this process can open a window."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def draw_in_memory() -> None:
    """Has pygame, which draws classic control, look for no display where there is none; it would complain about it.

    An `SDL_VIDEODRIVER` that the user has set is respected.
    """
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def window_problem(open_env: Callable[[], gym.vector.VectorEnv]) -> str:
    """Returns why no window can be opened; "" if one can.

    This is tested in a separate process, because graphics libraries end their process when the display does not answer.

    Args:
      open_env: picklable function that opens the environment with `render_mode="human"`.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_open_window, args=(open_env, sender))
    process.start()
    sender.close()

    try:
        return receiver.recv()
    except EOFError:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        return f"the display {display} does not answer"
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
    """Selects EGL for Gymnasium's own rendering if there is no display.

    A `MUJOCO_GL` that the user has set is respected.

    Raises:
      UserError: EGL is needed and missing.
    """
    backend = os.environ.get("MUJOCO_GL") or ("" if has_display() else "egl")
    if backend == "egl":
        create_context("--video").free()
        os.environ["MUJOCO_GL"] = "egl"


def create_context(flag: str) -> GLContext:
    """Creates an EGL context, regardless of `MUJOCO_GL`. It belongs to the thread that makes it current.

    Args:
      flag: the flag that the user typed, which the error message names.

    Raises:
      UserError: EGL is missing.
    """
    try:
        from mujoco.egl import GLContext

        return GLContext(1, 1)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # each missing library raises another type, AttributeError or ctypes.ArgumentError
        raise UserError(
            f"{flag}: cannot render without EGL; on Debian and Ubuntu: apt-get install {PACKAGES}"
        ) from error


def follow_body(env: gym.Env) -> None:
    """Shows a MuJoCo task of Gymnasium through the camera "track" of its model, if there is one, and renders faster.

    Gymnasium's own camera does not move, so a HalfCheetah runs out of sight. Without shadows and multisampling a frame
    takes a twentieth of the time if EGL runs on the CPU. Call this before the first frame is rendered.
    """
    import mujoco

    task: Any = env.unwrapped
    camera = mujoco.mj_name2id(task.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        task.mujoco_renderer.camera_id = camera

    task.model.vis.quality.shadowsize = task.model.vis.quality.offsamples = 0
