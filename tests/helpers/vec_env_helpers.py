"""Small environments for the tests of the vector environments; importing this registers them."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np

OK, RAISE, DIE, HANG = range(4)


class Counter(gym.Env):
    """Counts its steps in one array that it reuses; ends after `end` steps; the reward of step k is k.

    Its observation is `[seed of the last seeded reset, steps]`.
    """

    action_space = gym.spaces.Discrete(4)

    def __init__(self, end: int = 3, dtype: str = "float64") -> None:
        self._end = end
        self._observation = np.zeros(2, dtype)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), self._observation.dtype.type)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self._observation[0] = seed
        self._observation[1] = 0
        return self._observation, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._observation[1] += 1
        steps = float(self._observation[1])
        return self._observation, steps, steps >= self._end, False, {}


def get_into_trouble(how: int) -> None:
    """Raises, kills its process, or hangs, as one of the numbers above says."""
    if how == RAISE:
        raise ArithmeticError("the cart fell off")
    if how == DIE:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == HANG:
        time.sleep(600)


class Trouble(Counter):
    """Does what the action says: nothing special, raise, kill its process, or hang."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        get_into_trouble(action)
        return super().step(action)

    def loaded_modules(self) -> list[str]:
        """Names of the modules loaded in the process of this environment."""
        return sorted(sys.modules)


class TroubleLater(Counter):
    """Does, in every environment but the first, what `when` and `what` say: at `reset`, or at `close`."""

    def __init__(self, when: str, what: int) -> None:
        super().__init__()
        self._when, self._what = when, what

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        if self._when == "reset" and seed:
            get_into_trouble(self._what)
        return super().reset(seed=seed)

    def close(self) -> None:
        if self._when == "close" and self._observation[0]:
            get_into_trouble(self._what)


class Unbuildable(Counter):
    """Can only be built in the process that runs the tests."""

    def __init__(self, parent: int) -> None:
        super().__init__()
        if os.getpid() != parent:
            raise OSError("no joystick found")


class Mixed(Counter):
    """Observes its steps and a category, as a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gym.spaces.Dict(steps=self.observation_space, kind=gym.spaces.Discrete(3))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict]:
        return {"steps": super().reset(seed=seed)[0], "kind": 2}, {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, *others = super().step(action)
        return {"steps": observation, "kind": 1}, *others


gym.register("Mixed-v0", entry_point="vec_env_helpers:Mixed")
gym.register("Counter-v0", entry_point="vec_env_helpers:Counter")
gym.register("Float32Counter-v0", entry_point="vec_env_helpers:Counter", kwargs={"dtype": "float32"})
gym.register("LimitedCounter-v0", entry_point="vec_env_helpers:Counter", kwargs={"end": 99}, max_episode_steps=2)
gym.register("Trouble-v0", entry_point="vec_env_helpers:Trouble", kwargs={"end": 99})
gym.register("Unbuildable-v0", entry_point="vec_env_helpers:Unbuildable", kwargs={"parent": os.getpid()})
for when in ("Reset", "Close"):
    for what, name in ((RAISE, "Raise"), (DIE, "Die"), (HANG, "Hang")):
        kwargs = {"when": when.lower(), "what": what}
        gym.register(f"{when}{name}-v0", entry_point="vec_env_helpers:TroubleLater", kwargs=kwargs)
