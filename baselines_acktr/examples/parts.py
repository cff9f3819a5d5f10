"""An environment whose observations have several parts, all of which are needed.

python run.py --env=baselines_acktr.examples.parts:CameraAndOrder-v0 --num_timesteps=2e4
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

_SIZE = 36  # pixels


class CameraAndOrder(gym.Env):
    """A camera shows a lamp on the left or on the right; an order says whether to go there or to the other side.

    An episode is one action, whose reward is 1 where it is right. An agent that sees one part alone can only guess, so
    it gets 0.5 in the mean.

    Args:
      is_continuous: actions are numbers [1], whose sign counts, in place of 0 (left) and 1 (right).
      shown: the parts that say something; the others are zeros.
    """

    observation_space = gym.spaces.Dict(
        camera=gym.spaces.Box(0, 255, (_SIZE, _SIZE, 1), np.uint8),
        order=gym.spaces.Box(-1, 1, (1,), np.float32),
    )
    state_attributes = ("_side", "_order")

    def __init__(self, is_continuous: bool = False, shown: tuple[str, ...] = ("camera", "order")) -> None:
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32) if is_continuous else gym.spaces.Discrete(2)
        self._shown = shown
        self._side = 0
        self._order = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self._side, self._order = self.np_random.choice([-1, 1], 2).tolist()
        return self._observation(), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        chosen = np.ravel(action)[0] if isinstance(self.action_space, gym.spaces.Box) else 2 * action - 1
        reward = float(chosen * self._side * self._order > 0)
        return self._observation(), reward, True, False, {}

    def _observation(self) -> dict[str, np.ndarray]:
        camera = np.zeros((_SIZE, _SIZE, 1), np.uint8)
        lamp = slice(0, _SIZE // 2) if self._side < 0 else slice(_SIZE // 2, _SIZE)
        camera[:, lamp] = 255
        observation: dict[str, np.ndarray] = {"camera": camera, "order": np.array([self._order], np.float32)}
        return {name: part if name in self._shown else np.zeros_like(part) for name, part in observation.items()}


gym.register("CameraAndOrder-v0", f"{__name__}:CameraAndOrder")
