"""Building vector environments from an id."""

from __future__ import annotations

import functools
import math
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from common.errors import RunFailedError, UserError, brief, closest
from common.importing import import_named
from common.random_state import rank_seed
from common.vec_env.door import CheckedEnv
from common.vec_env.env_state import ResumableEnv
from common.vec_env.ids import find_spec, is_atari, newer_version, skips_at_random, split_module, with_kwargs
from common.vec_env.rendering import draw_in_memory, ensure_offscreen_rendering, follow_body
from common.vec_env.workers import EnvironmentFailedError
from common.vec_env.wrappers import (
    ChannelAxis,
    EpisodeInfo,
    EpisodeStatistics,
    FlatObservation,
    SeededVectorEnv,
    is_picture,
    owned_float32,
)

BACKENDS = ("auto", "native", "subproc", "sync")

# Registration arguments of an Atari game that the native backend supports. Others, such as a mode, need the wrappers.
_NATIVE_OPTIONS = {
    "game",
    "frameskip",
    "max_num_frames_per_episode",
    "repeat_action_probability",
    "full_action_space",
}


def make_vec_env(
    env_id: str,
    num_env: int,
    seed: int | None = None,
    *,
    backend: str = "auto",
    frame_stack: int = 4,
    reward_scale: float = 1.0,
    log_dir: str | Path | None = None,
    rank: int = 0,
    render_mode: str | None = None,
    step_timeout: float = 300.0,
    atari_preprocessing: bool = True,
    pixels: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
) -> SeededVectorEnv:
    """Builds a vector environment of `num_env` environments that follows the contract of `common.vec_env`.

    Observations of Box spaces stay as they are, except that gray images `[H, W]` of bytes get a channel axis.
    Observations of other spaces (Discrete, Dict, ...) are flattened into one vector.

    Atari games are preprocessed as in OpenAI Baselines. `XNoFrameskip-v4` has no sticky actions. `ALE/X-v5` is the
    same game, in which the emulator repeats the previous action in a frame with the registered probability of 0.25. A
    game that is registered with wrappers, a time limit (in steps of the agent) or another frame skip keeps these, and
    runs on another backend than the native one. A game with `obs_type="ram"` is not preprocessed.

    Args:
      env_id: an id registered with Gymnasium, or `module:Id`. The module is imported by worker processes as well.
      num_env: number of environments, at least 1.
      seed: environment `i` of MPI rank `k` starts with the seed `seed + 1000003 k + i`. None chooses random seeds.
      backend: "native" runs Atari games in a few worker processes and Gymnasium's MuJoCo tasks in C++ threads.
        "subproc" runs each environment in a worker process of its own. "sync" runs all of them in this process. "auto"
        chooses native where it is possible and nothing is rendered, subproc for rendered frames of a MuJoCo task (which
        cannot be rendered in a process that has TensorFlow), and sync otherwise.
      frame_stack: frames per observation of an Atari game.
      reward_scale: factor by which rewards are multiplied, above 0.
      log_dir: folder for monitor files. None writes none.
      rank: MPI rank.
      render_mode: Gymnasium's render mode, for the backends sync and subproc. With `pixels`, "rgb_array" shows what the
        agent observes.
      step_timeout: seconds after which a worker process that does not answer is an error.
      atari_preprocessing: whether to preprocess Atari games. Without it the native backend cannot be used.
      pixels: observe rendered frames of a native MuJoCo task instead of its own observations.
      env_kwargs: {name: value} of arguments that the environment is made with, beside those it is registered with.

    Raises:
      UserError: an unknown id or backend, a missing dependency, or a number out of range.
    """
    _check(num_env, frame_stack, reward_scale, seed, step_timeout)
    spec = with_kwargs(find_spec(env_id), env_kwargs or {})
    preprocess = is_atari(spec) and atari_preprocessing and spec.kwargs.get("obs_type") != "ram"
    native_atari = preprocess and _is_native_game(spec)
    native_mujoco = _is_mujoco(spec) and _is_native_task(spec)
    rendered = render_mode is not None and not (pixels and render_mode == "rgb_array")
    offscreen = _is_mujoco(spec) and rendered and render_mode != "human"
    native_fits = not rendered and (native_atari or native_mujoco)
    if render_mode == "rgb_array":
        draw_in_memory()
    backend = _choose_backend(backend, env_id, native_fits, offscreen)

    if preprocess:
        _check_atari(spec)
    if pixels and not (native_mujoco and backend == "native"):
        raise UserError(f"--pixels: needs one of Gymnasium's MuJoCo tasks on the native backend, got {env_id}")

    if backend == "native" and native_mujoco:
        env = _make_mujoco(spec, num_env, pixels, step_timeout)
    elif backend == "native":
        env = _make_atari(spec, num_env, frame_stack, step_timeout)
    else:
        module, _ = split_module(env_id)
        atari_stack = frame_stack if preprocess else 0
        factory = functools.partial(make_env, spec, module, render_mode, atari_stack, backend == "sync")
        with _construction_errors(spec, env_id, env_kwargs or {}):
            env = _make_batch(factory, num_env, backend, step_timeout, offscreen)

    env.unwrapped.spec = spec
    if log_dir is not None:
        env = _make_monitor(env, log_dir, spec.id, rank)

    first_seed = None if seed is None else rank_seed(seed, rank)
    arguments = {"env_id": env_id, "frame_stack": frame_stack, "reward_scale": reward_scale, "pixels": pixels}
    if env_kwargs:
        arguments["env_kwargs"] = dict(env_kwargs)
    return SeededVectorEnv(env, first_seed, reward_scale, arguments)


def _make_monitor(env: VectorEnv, log_dir: str | Path, env_id: str, rank: int) -> VectorEnv:
    from common.vec_env.monitor import Monitor

    return Monitor(env, log_dir, env_id, rank)


def make_env(
    spec: EnvSpec,
    module: str = "",
    render_mode: str | None = None,
    atari_stack: int = 0,
    named: bool = False,
    index: int = 0,
) -> gym.Env:
    """Builds one environment, which reports statistics of its games in `info["episode"]`.

    Args:
      spec: specification of the registered environment.
      module: module to import first; "" for none.
      render_mode: Gymnasium's render mode.
      atari_stack: frames per observation of a preprocessed Atari game; 0 for an environment without preprocessing.
      named: whether exceptions of the environment are raised with its index.
      index: index of the environment.

    Raises:
      UserError: the environment declares or returns something that is not allowed (see `door`).
    """
    if module:
        import_named(module, f"--env={module}:{spec.id}")

    options: dict[str, Any] = {"disable_env_checker": True}
    if render_mode is not None:  # not every environment has this argument
        options["render_mode"] = render_mode

    name = f"--env={spec.id}: environment {index}"
    number = index if named else None

    with warnings.catch_warnings(), _silent_models(spec):
        warnings.filterwarnings("ignore", message=".*(out of date|precision lowered)")
        if atari_stack:
            return ResumableEnv(_make_game(spec, atari_stack, name, options), number)
        return ResumableEnv(_make_task(spec, name, options), number)


def _make_game(spec: EnvSpec, frame_stack: int, name: str, options: dict[str, Any]) -> gym.Env:
    """Builds a preprocessed Atari game."""
    from common.vec_env.atari.wrappers import wrap_atari

    env = CheckedEnv(gym.make(spec, frameskip=1, max_episode_steps=-1, **options), name)
    return wrap_atari(env, frame_stack, frames_per_step(spec), spec.max_episode_steps)


def _make_task(spec: EnvSpec, name: str, options: dict[str, Any]) -> gym.Env:
    """Builds an environment as it is registered, with Box observations."""
    env = gym.make(spec, **options)
    if _is_mujoco(spec) and "render_mode" in options:
        follow_body(env)

    env = CheckedEnv(env, name)
    if not isinstance(env.observation_space, gym.spaces.Box):
        env = FlatObservation(env)
    elif is_picture(env.observation_space):
        env = ChannelAxis(env)

    return EpisodeStatistics(owned_float32(env))


def frames_per_step(spec: EnvSpec) -> int:
    """Returns the number of emulator frames that one action of a preprocessed game lasts.

    This is the registered frame skip, or the 4 frames of Baselines if none is registered (a frame skip of 1, as in
    `XNoFrameskip-v4`).
    """
    frames = spec.kwargs.get("frameskip", 1)
    return 4 if frames == 1 else frames


def _is_native_game(spec: EnvSpec) -> bool:
    """Returns whether the native backend supports everything that an Atari game is registered with."""
    plain = not spec.additional_wrappers and spec.max_episode_steps is None
    return plain and spec.kwargs.keys() <= _NATIVE_OPTIONS and frames_per_step(spec) == 4


def _make_atari(spec: EnvSpec, num_env: int, frame_stack: int, step_timeout: float) -> VectorEnv:
    from common.vec_env.atari.vector import NativeAtariVectorEnv

    return NativeAtariVectorEnv(spec, num_env, frame_stack=frame_stack, step_timeout=step_timeout)


def _make_mujoco(spec: EnvSpec, num_env: int, pixels: bool, step_timeout: float) -> VectorEnv:
    from common.vec_env.mujoco.vector import NativeMujocoVectorEnv

    if not pixels:
        return NativeMujocoVectorEnv(spec, num_env)

    from common.vec_env.mujoco.pixels import PixelObserver

    observer = functools.partial(PixelObserver, step_timeout=step_timeout)
    return NativeMujocoVectorEnv(spec, num_env, observer=observer)


def _is_mujoco(spec: EnvSpec) -> bool:
    return str(spec.entry_point).startswith("gymnasium.envs.mujoco.")


def _is_native_task(spec: EnvSpec) -> bool:
    from common.vec_env.mujoco.vector import supports

    return supports(spec)


def _silent_models(spec: EnvSpec) -> AbstractContextManager[None]:
    """Prevents MuJoCo from writing warnings about a model to a file in the current directory."""
    if not _is_mujoco(spec):
        return nullcontext()
    from common.vec_env.mujoco.physics import MujocoWarnings

    return MujocoWarnings(lambda message: None)


def _make_batch(
    factory: functools.partial[gym.Env],
    num_env: int,
    backend: str,
    step_timeout: float,
    offscreen: bool,
) -> VectorEnv:
    factories = [functools.partial(factory, index=i) for i in range(num_env)]
    if backend == "subproc":
        from common.vec_env.subproc import SubprocVectorEnv

        prepare = ensure_offscreen_rendering if offscreen else None
        return EpisodeInfo(SubprocVectorEnv(factories, step_timeout, prepare))

    if offscreen:
        ensure_offscreen_rendering()

    return EpisodeInfo(SyncVectorEnv(factories, autoreset_mode=AutoresetMode.SAME_STEP))


@contextmanager
def _construction_errors(spec: EnvSpec, env_id: str, env_kwargs: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        if not any(f"unexpected keyword argument '{name}'" in str(error) for name in env_kwargs):
            raise EnvironmentFailedError(f"--env={env_id}: cannot be made:\n{traceback.format_exc()}") from error
        raise UserError(f"--env_kwargs: {env_id}: {brief(error, 300)}") from error
    except ModuleNotFoundError as error:
        raise UserError(f"--env={env_id}: {error}; try pip install {error.name}") from error
    except (ImportError, gym.error.Error) as error:
        raise UserError(f"--env={env_id}: {' '.join(str(error).split())}{newer_version(spec)}") from error
    except (UserError, RunFailedError):
        raise
    except Exception as error:
        raise EnvironmentFailedError(f"--env={env_id}: cannot be made:\n{traceback.format_exc()}") from error


def _choose_backend(backend: str, env_id: str, native_fits: bool, offscreen: bool) -> str:
    if backend not in BACKENDS:
        raise UserError(f"--env_backend={backend}: must be one of {', '.join(BACKENDS)}.{closest(backend, BACKENDS)}")

    if backend == "native" and not native_fits:
        raise UserError(
            "--env_backend=native: needs a preprocessed Atari game or a MuJoCo task of Gymnasium, v4 or v5, that is "
            f"not rendered, got {env_id}"
        )

    if backend == "auto":
        if native_fits:
            return "native"
        return "subproc" if offscreen else "sync"

    if backend == "sync" and offscreen and "tensorflow" in sys.modules:
        raise UserError(
            f"--env_backend=sync: cannot render {env_id} in a process that has TensorFlow, which would crash: use "
            "subproc"
        )

    return backend


def _check(num_env: int, frame_stack: int, reward_scale: float, seed: int | None, step_timeout: float) -> None:
    at_least = [("num_env", num_env, 1), ("frame_stack", frame_stack, 1)]
    if seed is not None:
        at_least.append(("seed", seed, 0))

    for name, number, least in at_least:
        if not (isinstance(number, Integral) and number >= least):
            raise UserError(f"--{name}={number}: must be a whole number of at least {least}")

    for name, factor in (("reward_scale", reward_scale), ("step_timeout", step_timeout)):
        if not (isinstance(factor, Real) and math.isfinite(factor) and factor > 0):
            raise UserError(f"--{name}={factor}: must be a finite number above 0")


def _check_atari(spec: EnvSpec) -> None:
    if spec.kwargs.get("continuous"):
        raise UserError(
            f"--env={spec.id}: continuous=True: a game's actions must be discrete; register it without that"
        )

    if skips_at_random(spec):
        raise UserError(f"--env={spec.id}: skips frames at random. Did you mean {spec.name}NoFrameskip-v4?")
