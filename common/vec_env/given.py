"""A vector environment of whatever a user of the library has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from common.errors import UserError, brief
from common.vec_env.make import make_vec_env
from common.vec_env.one import EnvWrapper, check_maker, checked_kwargs, checked_wrappers

GivenEnv = str | gym.Env | VectorEnv | Callable[..., gym.Env | VectorEnv]


@contextlib.contextmanager
def opened(
    env: GivenEnv,
    num_env: int | None = None,
    seed: int | None = None,
    rank: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: EnvWrapper | Iterable[EnvWrapper] | None = (),
    default_num_env: Callable[[str | None], int] = lambda env_id: 1,
) -> Iterator[VectorEnv]:
    """Yields a vector environment, and closes it at the end of the block unless the caller has made it.

    Args:
      env: an id registered with Gymnasium; one environment; a vector environment; or a function that makes one of
        either.
      num_env: how many environments there shall be, of an id or a function that makes one.
      seed, rank, env_kwargs, wrappers: as for `make_vec_env`.
      default_num_env: how many there are, given the id or None, where `num_env` is None.

    Raises:
      UserError: `env` is something else, or an argument does not go with it; and as `make_vec_env`.
    """
    wrappers = checked_wrappers(wrappers)
    env_kwargs = checked_kwargs(env_kwargs)
    if isinstance(env, str):
        number = default_num_env(env) if num_env is None else num_env
        with make_vec_env(env, number, seed, rank=rank, env_kwargs=env_kwargs, wrappers=wrappers) as made:
            yield made
        return
    if isinstance(env, VectorEnv):
        for name, value in (("num_env", num_env), ("env_kwargs", env_kwargs), ("wrappers", wrappers)):
            if value:
                raise UserError(f"{name}: a vector environment is taken as it is; give it to what makes it")
        yield env
        return
    if isinstance(env, gym.Env):
        if num_env not in (None, 1):
            raise UserError(f"num_env={num_env}: env is one environment; give its id, or a function that makes it")
        if env_kwargs:
            raise UserError("env_kwargs: env is made already; give its id, or a function that makes it")
        alone = make_vec_env(lambda: env, 1, seed, rank=rank, wrappers=wrappers)
        alone.unwrapped.spec = env.spec
        yield alone
        return
    if not callable(env):
        raise UserError(
            f"env={brief(env)}: must be the id of an environment, an environment, a vector environment, or a function "
            "that makes one"
        )
    with contextlib.ExitStack() as stack:
        number = default_num_env(None) if num_env is None else num_env
        yield _made_by(env, stack, number, seed, rank, env_kwargs, wrappers)


def _made_by(
    make: Callable[..., gym.Env | VectorEnv],
    stack: contextlib.ExitStack,
    num_env: int,
    seed: int | None,
    rank: int,
    env_kwargs: Mapping[str, Any],
    wrappers: Sequence[EnvWrapper],
) -> VectorEnv:
    """The vector environment that a function makes, or one of `num_env` environments that it makes."""
    check_maker(make, env_kwargs)
    first = make(**env_kwargs)
    if isinstance(first, VectorEnv):
        stack.callback(first.close)
        if wrappers:
            raise UserError("wrappers: a vector environment is taken as it is; give them to what makes it")
        return first

    waiting = [first]  # the first of those that are made below

    def next_env(**arguments: Any) -> gym.Env:
        made = waiting.pop() if waiting else make(**arguments)
        return made  # type: ignore[return-value]

    made = make_vec_env(next_env, num_env, seed, rank=rank, env_kwargs=env_kwargs, wrappers=wrappers)
    stack.callback(made.close)
    return made
