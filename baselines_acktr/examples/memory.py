"""Environments that only an agent with a memory can solve.

    python run.py --env=baselines_acktr.examples.memory:FixedSequence-v0 --network=lstm

Each of them shows less than its state, so an agent without a memory acts alike where it would have to act differently.
"""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np

_POSITIONS = [0, 2]  # of the cart, and of the pole
_ANGLE = [0, 1]  # of the pendulum: its cosine and its sine


class FixedSequence(gym.Env):
    """A sequence of actions, always the same, that brings a reward of 1 for each right one (OpenAI Baselines' tests).

    Every observation is the number 1, [1], so the agent has to remember how far it is.

    Args:
      length: steps of an episode.
      n_actions: how many actions there are.
      seed: of the sequence.
    """

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    state_attributes = ("_time",)

    def __init__(self, length: int = 10, n_actions: int = 10, seed: int = 0) -> None:
        self.action_space = gym.spaces.Discrete(n_actions)
        self.sequence = np.random.default_rng(seed).integers(n_actions, size=length)
        self._time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._time = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = float(action == self.sequence[self._time])
        self._time += 1
        return np.ones(1, np.float32), reward, self._time == len(self.sequence), False, {}


class Positions(gym.ObservationWrapper):
    """A task of which some numbers are seen, the positions: velocities have to be found out from several of them.

    Args:
      env: observes vectors.
      places: of the numbers that are seen.
    """

    state_attributes = ()

    def __init__(self, env: gym.Env, places: list[int]) -> None:
        super().__init__(env)
        self._places = places
        whole = cast(gym.spaces.Box, env.observation_space)
        self.observation_space = gym.spaces.Box(whole.low[places], whole.high[places], dtype=np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[self._places]


def positions_of_cartpole(**arguments: Any) -> gym.Env:
    """Makes a CartPole without velocities; arguments as for Gymnasium's own."""
    return Positions(gym.make("CartPole-v1", **arguments).unwrapped, _POSITIONS)


def positions_of_pendulum(**arguments: Any) -> gym.Env:
    """Makes a pendulum without its velocity; arguments as for Gymnasium's own."""
    return Positions(gym.make("Pendulum-v1", **arguments).unwrapped, _ANGLE)


gym.register("FixedSequence-v0", f"{__name__}:FixedSequence")
gym.register("PositionsOfCartPole-v0", f"{__name__}:positions_of_cartpole", max_episode_steps=500)
gym.register("PositionsOfPendulum-v0", f"{__name__}:positions_of_pendulum", max_episode_steps=200)
