"""Reading and restoring the state of a single environment as arrays, so that a run can be resumed.

The backends sync and subproc use it. An environment or wrapper lists what changes in it in the class attribute
`state_attributes`: names of attributes or properties that hold numbers, booleans, None, arrays, or tuples and lists
of these. An empty tuple means that nothing changes. The random generator `np_random` is always part of the state.

The wrappers that `make_vec_env` uses are known here, as are Gymnasium's classic control tasks, its MuJoCo tasks and
Atari games; they need no `state_attributes`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import (
    AtariPreprocessing,
    DtypeObservation,
    OrderEnforcing,
    RecordEpisodeStatistics,
    TimeLimit,
)

from common.errors import RunFailedError, UserError, brief
from common.named_arrays import Arrays, with_prefix, without_prefix
from common.random_state import get_random_state, is_supported, set_random_state
from common.vec_env.door import CheckedEnv
from common.vec_env.workers import EnvironmentFailedError, of_environments

_WRAPPERS: dict[type, tuple[str, ...]] = {
    TimeLimit: ("_elapsed_steps",),
    OrderEnforcing: ("_has_reset",),
    RecordEpisodeStatistics: ("episode_returns", "episode_lengths"),
    DtypeObservation: (),
    AtariPreprocessing: ("lives", "game_over", "obs_buffer"),
}
_CLASSIC_CONTROL = ("state", "steps_beyond_terminated", "last_u")
_MAX_NONES = 2**16  # largest accepted length of a sequence of None
# Fields of MjData that rewards read before the next step computes them again.
_STALE_FIELDS = ("xpos", "xipos", "site_xpos", "geom_xpos", "subtree_com", "cfrc_ext")


class ResumableEnv(gym.Wrapper):
    """The outermost wrapper of an environment. It reads and restores the state of everything that it wraps.

    Attributes:
      state_gap: why the state cannot be read, in a few words; "" if it can.
      env_state: the complete state, as named arrays.

    Args:
      env: the environment.
      index: index of the environment, which error messages name. None in a worker process, which names itself.
    """

    def __init__(self, env: gym.Env, index: int | None = None) -> None:
        super().__init__(env)
        self._index = index
        self._seed: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment.

        Raises:
          EnvironmentFailedError: the environment raised an exception.
        """
        if seed is not None:
            self._seed = seed

        try:
            return self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._named(error) from error

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment.

        Raises:
          EnvironmentFailedError: the environment raised an exception.
        """
        try:
            return self.env.step(action)
        except Exception as error:
            raise self._named(error) from error

    def _named(self, error: Exception) -> Exception:
        if self._index is None or isinstance(error, UserError | RunFailedError):
            return error
        seed = None if self._seed is None else self._seed - self._index
        name = of_environments(self._index, self._index, seed)
        return EnvironmentFailedError(f"{name} raised an exception:\n{''.join(traceback.format_exception(error))}")

    @property
    def state_gap(self) -> str:
        for layer in _layers(self.env):
            if _attributes(layer) is None:
                return f"{type(layer).__name__} does not say in `state_attributes` what changes in it"

        if gap := self._odd_value():
            return gap

        base: Any = self.unwrapped
        if base._np_random is not None and not is_supported(base._np_random):
            return f"np_random of {type(base).__name__} is not a numpy.random.Generator with PCG64"
        if _is_atari(base) and base.ale.getFloat("repeat_action_probability"):
            return "the emulator does not tell which action it repeats"

        return ""

    def _odd_value(self) -> str:
        """Names an attribute whose present value cannot be stored, and says why; "" if there is none."""
        arrays: list[tuple[str, np.ndarray]] = []
        for layer in _layers(self.env):
            for name in _attributes(layer) or ():
                owner = f"{type(layer).__name__}.{name}"
                value = getattr(layer, name, None)
                if (odd := next(_odd_parts(value), None)) is not None:
                    return (
                        f"{owner} holds {brief(repr(odd))}, which is not a number, boolean, array or sequence of them"
                    )

                for other, array in arrays:
                    if any(np.may_share_memory(array, own) for own in _arrays_in(value)):
                        return f"{owner} and {other} share an array"

                arrays += [(owner, array) for array in _arrays_in(value)]

        return ""

    @property
    def env_state(self) -> Arrays:
        state: Arrays = {}
        for depth, layer in enumerate(_layers(self.env)):
            for name in _attributes(layer) or ():
                _encode(f"{depth}/{name}", getattr(layer, name, None), state)

        base = self.unwrapped
        if base._np_random is not None:
            state["random"] = get_random_state(base._np_random)
        return state | with_prefix("simulator", _simulator_state(base))

    @env_state.setter
    def env_state(self, state: Arrays) -> None:
        for depth, layer in enumerate(_layers(self.env)):
            for name in _attributes(layer) or ():
                value = _decode(f"{depth}/{name}", state)
                if value is not None or hasattr(layer, name):
                    setattr(layer, name, value)

        base = self.unwrapped
        if "random" in state:
            base.np_random = np.random.default_rng()
            set_random_state(base.np_random, state["random"])

        _set_simulator_state(base, without_prefix("simulator", state))


def _layers(env: gym.Env) -> Iterator[Any]:
    while isinstance(env, gym.Wrapper):
        if not isinstance(env, CheckedEnv):  # it has no state, and older checkpoints number the layers without it
            yield env
        env = env.env
    yield env


def _attributes(layer: gym.Env) -> tuple[str, ...] | None:
    """Returns the names of the attributes that change, besides generator and simulator; None if they are unknown."""
    given = getattr(type(layer), "state_attributes", None)
    if given is not None:
        return given
    if isinstance(layer, gym.Wrapper):
        return _WRAPPERS.get(type(layer))

    module = type(layer).__module__
    if module.startswith("gymnasium.envs.classic_control."):
        return _CLASSIC_CONTROL

    if module.startswith("gymnasium.envs.mujoco.") or _is_atari(layer):
        return ()
    return None


def _encode(name: str, value: Any, state: Arrays) -> None:
    """Adds a value to `state` so that `_decode` restores its type. None adds nothing."""
    if isinstance(value, tuple | list):
        state[f"{name}.{type(value).__name__}"] = np.array(len(value))
        for i, item in enumerate(value):
            _encode(f"{name}.{i}", item, state)
    elif isinstance(value, np.ndarray | np.generic):
        state[name] = np.array(value)
    elif value is not None:
        state[f"{name}.python"] = np.array(value)


def _parts(value: Any) -> Iterator[Any]:
    """Yields the elements of tuples and lists, at any depth."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)
    else:
        yield value


def _odd_parts(value: Any) -> Iterator[Any]:
    """Yields the parts of a value that are neither None nor storable as an array of numbers or booleans."""
    for part in _parts(value):
        if part is not None and np.asarray(part).dtype.kind not in "biufc":
            yield part


def _arrays_in(value: Any) -> list[np.ndarray]:
    return [part for part in _parts(value) if isinstance(part, np.ndarray) and part.size]


def _decode(name: str, state: Arrays) -> Any:
    for sequence in (tuple, list):
        if (length := state.get(f"{name}.{sequence.__name__}")) is not None:
            if not 0 <= length <= max(len(state), _MAX_NONES):  # every item but None has an entry of its own
                raise ValueError(f"{name}: a sequence of {length}")
            return sequence(_decode(f"{name}.{i}", state) for i in range(int(length)))

    if f"{name}.python" in state:
        return state[f"{name}.python"].item()
    if name not in state:
        return None

    array = state[name].copy()
    return array[()] if array.ndim == 0 else array


def _simulator_state(env: Any) -> Arrays:
    if _is_atari(env):
        emulator = env.ale.cloneState(include_rng=True).serialize()
        return {"emulator": np.frombuffer(emulator, np.uint8)}

    if _is_mujoco(env):
        fields = {name: getattr(env.data, name).copy() for name in _STALE_FIELDS}
        return {"physics": _physics(env)} | fields

    return {}


def _set_simulator_state(env: Any, state: Arrays) -> None:
    if _is_atari(env):
        import ale_py

        env.ale.restoreState(ale_py.ALEState(state["emulator"].tobytes()))
    elif _is_mujoco(env):
        import mujoco

        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(env.model, env.data, state["physics"], kind)
        for name in _STALE_FIELDS:
            getattr(env.data, name)[:] = state[name]


def _physics(env: Any) -> np.ndarray:
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = np.empty(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, physics, kind)
    return physics


def _is_atari(env: Any) -> bool:
    return type(env).__module__ == "ale_py.env"


def _is_mujoco(env: Any) -> bool:
    modules = [base.__module__ for base in type(env).__mro__]
    return "gymnasium.envs.mujoco.mujoco_env" in modules
