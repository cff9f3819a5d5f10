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


class Trouble(Counter):
    """Does what the action says: nothing special, raise, kill its process, or hang."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if action == RAISE:
            raise ArithmeticError("the cart fell off")
        if action == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == HANG:
            time.sleep(600)
        return super().step(action)

    def loaded_modules(self) -> list[str]:
        """Names of the modules loaded in the process of this environment."""
        return sorted(sys.modules)


class Unbuildable(Counter):
    """Can only be built in the process that runs the tests."""

    def __init__(self, parent: int) -> None:
        super().__init__()
        if os.getpid() != parent:
            raise OSError("no joystick found")


gym.register("Counter-v0", entry_point="vec_env_helpers:Counter")
gym.register("Float32Counter-v0", entry_point="vec_env_helpers:Counter", kwargs={"dtype": "float32"})
gym.register("LimitedCounter-v0", entry_point="vec_env_helpers:Counter", kwargs={"end": 99}, max_episode_steps=2)
gym.register("Trouble-v0", entry_point="vec_env_helpers:Trouble", kwargs={"end": 99})
gym.register("Unbuildable-v0", entry_point="vec_env_helpers:Unbuildable", kwargs={"parent": os.getpid()})
