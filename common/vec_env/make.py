"""Building vector environments from an id."""

from __future__ import annotations

import functools
import math
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from common.errors import RunFailedError, UserError, brief, closest
from common.foreign_names import answers
from common.random_state import rank_seed
from common.vec_env.extras import or_extra
from common.vec_env.ids import find_spec, is_atari, newer_version, skips_at_random, split_module, with_kwargs
from common.vec_env.one import (
    EnvWrapper,
    check_maker,
    checked_kwargs,
    checked_wrappers,
    frames_per_step,
    is_mujoco,
    make_env,
    make_own_env,
)
from common.vec_env.rendering import draw_in_memory, ensure_offscreen_rendering
from common.vec_env.workers import EnvironmentFailedError
from common.vec_env.wrappers import EpisodeInfo, SeededVectorEnv

BACKENDS = ("auto", "native", "subproc", "sync")
# Arguments of Stable-Baselines3's function of the same name.
_OF_MAKE_VEC_ENV = {
    "n_envs": "Write num_env=.",
    "vec_env_cls": 'Write backend="sync" or backend="subproc".',
    "wrapper_class": "Write wrappers=.",
    "monitor_dir": "Write log_dir=.",
}

# Registration arguments of an Atari game that the native backend supports. Others, such as a mode, need the wrappers.
_NATIVE_OPTIONS = {
    "game",
    "frameskip",
    "max_num_frames_per_episode",
    "repeat_action_probability",
    "full_action_space",
}


@answers(_OF_MAKE_VEC_ENV)
def make_vec_env(
    env_id: str | Callable[..., gym.Env],
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
    wrappers: EnvWrapper | Iterable[EnvWrapper] | None = (),
) -> SeededVectorEnv:
    """Builds a vector environment of `num_env` environments that follows the contract of `common.vec_env`.

    Observations of Box spaces stay as they are, except that gray images `[H, W]` of bytes get a channel axis.
    Observations of other spaces (Discrete, Dict, ...) are flattened into one vector.

    Atari games are preprocessed as in OpenAI Baselines. `XNoFrameskip-v4` has no sticky actions. `ALE/X-v5` is the
    same game, in which the emulator repeats the previous action in a frame with the registered probability of 0.25. A
    game that is registered with wrappers, a time limit (in steps of the agent) or another frame skip keeps these, and
    runs on another backend than the native one. A game with `obs_type="ram"` is not preprocessed.

    Args:
      env_id: an id registered with Gymnasium, or `module:Id`, whose module is imported by worker processes as well; or
        a function that makes one environment of your own, such as its class.
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
      env_kwargs: {name: value} of arguments that each environment is made with, beside those it is registered with.
      wrappers: one or several functions from an environment to a wrapped one, the first innermost, such as
        `gymnasium.Wrapper` classes. They see the environment as it is registered, and rule the native backend out.

    Raises:
      UserError: an unknown id or backend, a missing dependency, or a number out of range.
    """
    _check(num_env, frame_stack, reward_scale, seed, step_timeout)
    env_kwargs = checked_kwargs(env_kwargs)
    wrappers = checked_wrappers(wrappers)
    first_seed = None if seed is None else rank_seed(seed, rank)
    if callable(env_id):
        check_maker(env_id, env_kwargs)
        env = _make_own(env_id, num_env, backend, env_kwargs, wrappers, step_timeout)
        if log_dir is not None:
            env = _make_monitor(env, log_dir, getattr(env_id, "__name__", "own"), rank)
        return SeededVectorEnv(env, first_seed, reward_scale)

    spec = with_kwargs(find_spec(env_id), env_kwargs)
    preprocess = is_atari(spec) and atari_preprocessing and spec.kwargs.get("obs_type") != "ram"
    native_atari = preprocess and _is_native_game(spec)
    native_mujoco = is_mujoco(spec) and _is_native_task(spec)
    rendered = render_mode is not None and not (pixels and render_mode == "rgb_array")
    offscreen = is_mujoco(spec) and rendered and render_mode != "human"
    native_fits = not rendered and not wrappers and (native_atari or native_mujoco)
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
        factory = functools.partial(make_env, spec, module, render_mode, atari_stack, backend == "sync", wrappers)
        with _construction_errors(env_id, spec, env_kwargs):
            env = _make_batch(factory, num_env, backend, step_timeout, offscreen)

    env.unwrapped.spec = spec
    if log_dir is not None:
        env = _make_monitor(env, log_dir, spec.id, rank)

    arguments = {"env_id": env_id, "frame_stack": frame_stack, "reward_scale": reward_scale, "pixels": pixels}
    if env_kwargs:
        arguments["env_kwargs"] = env_kwargs
    # Without the wrappers the arguments would make another environment.
    return SeededVectorEnv(env, first_seed, reward_scale, {} if wrappers else arguments)


def _make_own(
    make: Callable[..., gym.Env],
    num_env: int,
    backend: str,
    env_kwargs: dict[str, Any],
    wrappers: Sequence[EnvWrapper],
    step_timeout: float,
) -> VectorEnv:
    """Builds a batch of environments of the user's own."""
    backend = _choose_backend(backend, brief(make), False, False)
    factory = functools.partial(make_own_env, make, env_kwargs, wrappers, backend == "sync")
    with _construction_errors(brief(make), None, env_kwargs):
        return _make_batch(factory, num_env, backend, step_timeout, False)


def _make_monitor(env: VectorEnv, log_dir: str | Path, env_id: str, rank: int) -> VectorEnv:
    from common.vec_env.monitor import Monitor

    return Monitor(env, log_dir, env_id, rank)


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


def _is_native_task(spec: EnvSpec) -> bool:
    from common.vec_env.mujoco.vector import supports

    return supports(spec)


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
def _construction_errors(env_id: str, spec: EnvSpec | None, env_kwargs: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"--env={env_id}: {error}; try pip install {error.name}") from error
    except (ImportError, gym.error.Error) as error:
        newer = newer_version(spec) if spec else ""
        reason = " ".join(str(error).split())
        raise UserError(f"--env={env_id}: {reason}{or_extra(reason)}{newer}") from error
    except (UserError, RunFailedError):
        raise
    except Exception as error:
        unknown = [name for name in env_kwargs if f"unexpected keyword argument '{name}'" in str(error)]
        if isinstance(error, TypeError) and unknown:
            raise UserError(f"--env_kwargs: {env_id}: {brief(error, 300)}") from error
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
        if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
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
