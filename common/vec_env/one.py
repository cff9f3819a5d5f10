"""Building one environment, of an id or of the user's own, with everything around it that the contract asks for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from common.arguments import called, misfit
from common.errors import UserError, brief
from common.importing import import_named
from common.joined_space import JoinedBox, is_picture, parts_of, require_kind
from common.vec_env.actions import with_choices
from common.vec_env.door import CheckedEnv
from common.vec_env.env_state import ResumableEnv
from common.vec_env.rendering import follow_body
from common.vec_env.wrappers import (
    ChannelAxis,
    EpisodeStatistics,
    FlatObservation,
    JoinedObservation,
    owned_float32,
)

EnvWrapper = Callable[[gym.Env], gym.Env]


def make_env(
    spec: EnvSpec,
    module: str = "",
    render_mode: str | None = None,
    atari_stack: int = 0,
    named: bool = False,
    wrappers: Sequence[EnvWrapper] = (),
    index: int = 0,
) -> gym.Env:
    """Builds one registered environment, which reports statistics of its games in `info["episode"]`.

    Args:
      spec: specification of the registered environment.
      module: module to import first; "" for none.
      render_mode: Gymnasium's render mode.
      atari_stack: frames per observation of a preprocessed Atari game; 0 for an environment without preprocessing.
      named: whether exceptions of the environment are raised with its index.
      wrappers: are put around what is registered, the first innermost.
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
            return ResumableEnv(_make_game(spec, atari_stack, name, options, wrappers), number)
        return ResumableEnv(_make_task(spec, name, options, wrappers), number)


def make_own_env(
    make: Callable[..., gym.Env],
    env_kwargs: dict[str, Any],
    wrappers: Sequence[EnvWrapper] = (),
    named: bool = False,
    index: int = 0,
) -> gym.Env:
    """Builds one environment by a function of the user's; other arguments, result and errors as of `make_env`.

    Args:
      make: returns the environment.
      env_kwargs: keyword arguments for it.
    """
    env = make(**env_kwargs)
    if not isinstance(env, gym.Env):
        raise UserError(f"env: the function returned {brief(env)}; must be a gymnasium.Env")
    env = _with_contract(_wrapped(env, wrappers), f"env: environment {index}")
    return ResumableEnv(env, index if named else None)


def checked_kwargs(env_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The argument `env_kwargs`, None being none; raises UserError unless it is {name: value}."""
    if env_kwargs is None:
        return {}
    if not isinstance(env_kwargs, Mapping) or not all(isinstance(name, str) for name in env_kwargs):
        shown = brief(repr(env_kwargs))
        raise UserError(f'env_kwargs={shown}: must be a dict from names to values, such as {{"gravity": 9.8}}')
    return dict(env_kwargs)


def checked_wrappers(wrappers: EnvWrapper | Iterable[EnvWrapper] | None) -> list[EnvWrapper]:
    """The argument `wrappers` as a list, None being none.

    Raises:
      UserError: one of them is no function that can be called with an environment alone.
    """
    if wrappers is None:
        return []
    found = list(wrappers) if isinstance(wrappers, Iterable) and not callable(wrappers) else [wrappers]
    if not all(callable(wrapper) for wrapper in found):
        shown = brief(repr(wrappers))
        raise UserError(f"wrappers={shown}: must be one or several functions from an environment to a wrapped one")

    for wrapper in found:
        if problem := misfit(wrapper, None):
            name = called(wrapper)
            raise UserError(f"wrappers: {name}(env): {problem}; write lambda env: {name}(env, ...)")
    return found


def check_maker(make: Callable[..., Any], env_kwargs: Mapping[str, Any]) -> None:
    """Raises UserError unless a function that makes an environment can be called with such arguments."""
    problem = misfit(make, **env_kwargs)
    if problem and env_kwargs:
        raise UserError(f"env_kwargs: {called(make)}: {problem}")
    if problem:
        raise UserError(f"env: {called(make)}(): {problem}; what it needs is given by env_kwargs=")


def _wrapped(env: gym.Env, wrappers: Sequence[EnvWrapper]) -> gym.Env:
    """Puts the user's wrappers around an environment."""
    for wrapper in wrappers:
        env = wrapper(env)
        if not isinstance(env, gym.Env):
            raise UserError(f"wrappers: {brief(wrapper)} returned {brief(env)}; must be a gymnasium.Env")
    return env


def _make_game(
    spec: EnvSpec, frame_stack: int, name: str, options: dict[str, Any], wrappers: Sequence[EnvWrapper]
) -> gym.Env:
    """Builds a preprocessed Atari game."""
    from common.vec_env.atari.wrappers import wrap_atari

    game = gym.make(spec, frameskip=1, max_episode_steps=-1, **options)
    env = CheckedEnv(_wrapped(game, wrappers), name)
    return wrap_atari(env, frame_stack, frames_per_step(spec), spec.max_episode_steps)


def _make_task(spec: EnvSpec, name: str, options: dict[str, Any], wrappers: Sequence[EnvWrapper]) -> gym.Env:
    """Builds an environment as it is registered, with Box observations."""
    env = gym.make(spec, **options)
    if is_mujoco(spec) and "render_mode" in options:
        follow_body(env)
    return _with_contract(_wrapped(env, wrappers), name)


def _with_contract(env: gym.Env, name: str) -> gym.Env:
    """Checks an environment, and gives it Box observations and statistics of its games."""
    env = with_choices(CheckedEnv(env, name))
    if not isinstance(env.observation_space, gym.spaces.Box):
        env = _in_one_vector(env, name)
    elif is_picture(env.observation_space):
        env = ChannelAxis(env)

    return EpisodeStatistics(owned_float32(env))


def _in_one_vector(env: gym.Env, name: str) -> gym.Env:
    """An environment whose observations are a vector: one that knows its parts, where there are images among them."""
    parts = list(parts_of(env.observation_space))
    try:
        if any(part.image for part in parts):
            return JoinedObservation(env, JoinedBox(parts))
        for part in parts:
            if not part.space.is_np_flattenable:  # a Graph or a Sequence
                require_kind(part)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return FlatObservation(env)


def frames_per_step(spec: EnvSpec) -> int:
    """Returns the number of emulator frames that one action of a preprocessed game lasts.

    This is the registered frame skip, or the 4 frames of Baselines if none is registered (a frame skip of 1, as in
    `XNoFrameskip-v4`).
    """
    frames = spec.kwargs.get("frameskip", 1)
    return 4 if frames == 1 else frames


def is_mujoco(spec: EnvSpec) -> bool:
    """Returns whether an environment is one of Gymnasium's MuJoCo tasks."""
    return str(spec.entry_point).startswith("gymnasium.envs.mujoco.")


def _silent_models(spec: EnvSpec) -> AbstractContextManager[None]:
    """Prevents MuJoCo from writing warnings about a model to a file in the current directory."""
    if not is_mujoco(spec):
        return nullcontext()
    from common.vec_env.mujoco.physics import MujocoWarnings

    return MujocoWarnings(lambda message: None)
