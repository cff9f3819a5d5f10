"""The Atari preprocessing of Baselines as wrappers of a single game, for the backends sync and subproc.

Gymnasium's `AtariPreprocessing` does the no-ops, the frame skip, the maximum over two frames and the resizing. The
wrappers here add what it lacks. `common.vec_env.atari.vector` lists what the agent observes. Given the same no-ops
and actions, the wrappers and the native backend agree in every frame, reward, end of episode, number of lives and
score. Only their random streams differ, and with them the numbers of no-ops.
"""

from __future__ import annotations

from typing import Any, SupportsFloat, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import AtariPreprocessing, TimeLimit

from common.vec_env.atari import vector
from common.vec_env.wrappers import EpisodeStatistics

Info = dict[str, Any]


class EpisodicLife(gym.Wrapper):
    """Ends the episode of the agent when a life is lost. The next reset continues the same game with one no-op."""

    state_attributes = ("_lives", "_continues")

    def __init__(self, env: gym.Env) -> None:
        """Wraps a preprocessed Atari environment."""
        super().__init__(env)
        self._lives = 0
        self._continues = False

    def step(self, action: int) -> tuple[Any, Any, bool, bool, Info]:
        """Steps the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        life_lost = 0 < info["lives"] < self._lives  # at 0 lives some games still run for a few frames
        self._lives = info["lives"]
        self._continues = life_lost and not (terminated or truncated)
        return observation, reward, terminated or life_lost, truncated, info

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Continues the game with one no-op if a life was just lost and no seed is given, else starts a new game."""
        over = True
        info: Info = {}
        if self._continues and seed is None:
            observation, _, terminated, truncated, info = self.env.step(0)
            over = terminated or truncated

        if over:
            observation, new_info = self.env.reset(seed=seed, options=options)
            info = info | new_info

        self._lives = info["lives"]
        self._continues = False

        return observation, info


class FireReset(gym.Wrapper):
    """Takes the actions 1 and 2 after every reset, for games that wait for FIRE."""

    state_attributes = ()

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Resets the environment, and returns the observation after both actions.

        If a game ended during the reset, the info has its `episode`.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        for action in (1, 2):
            observation, _, terminated, truncated, step_info = self.env.step(action)
            info = info | step_info
            if terminated or truncated:
                observation, reset_info = self.env.reset()
                info = info | reset_info

        return observation, info


class SignReward(gym.RewardWrapper):
    """Replaces the reward by its sign."""

    state_attributes = ()

    def reward(self, reward: SupportsFloat) -> float:
        """Returns -1, 0 or 1."""
        return float(np.sign(float(reward)))


class ZeroPaddedStack(gym.Wrapper):
    """Stacks the last K frames in the last axis, `[H, W, K]`, with the newest last. A reset fills the stack with zeros.

    Gymnasium's `FrameStackObservation` stacks along the first axis instead.
    """

    state_attributes = ("_stack",)

    def __init__(self, env: gym.Env, size: int) -> None:
        """Wraps an environment with observations uint8 `[H, W]`.

        Args:
          env: the environment.
          size: number of frames `K`.
        """
        super().__init__(env)
        space = cast(spaces.Box, env.observation_space)
        self.observation_space = spaces.Box(0, 255, (*space.shape, size), np.uint8)
        self._stack = np.zeros((*space.shape, size), np.uint8)

    def step(self, action: int) -> tuple[np.ndarray, Any, bool, bool, Info]:
        """Steps the environment, and pushes the frame onto the stack."""
        frame, reward, terminated, truncated, info = self.env.step(action)
        self._stack = np.concatenate([self._stack[..., 1:], frame[..., None]], axis=-1)  # [H, W, K]
        return self._stack, reward, terminated, truncated, info

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        """Resets the environment, and clears the stack."""
        frame, info = self.env.reset(seed=seed, options=options)
        self._stack = np.zeros_like(self._stack)
        self._stack[..., -1] = frame
        return self._stack, info


def wrap_atari(env: gym.Env, frame_stack: int, frame_skip: int = 4, max_steps: int | None = None) -> gym.Env:
    """Adds the preprocessing of Baselines to an Atari environment, and statistics of whole games to `info["episode"]`.

    Args:
      env: an Atari environment that was made with `frameskip=1`.
      frame_stack: frames per observation.
      frame_skip: emulator frames that one action lasts.
      max_steps: steps after which a game is truncated; None for no limit.

    Returns:
      An environment with observations uint8 `[84, 84, frame_stack]`.
    """
    env = AtariPreprocessing(
        env,
        noop_max=vector.MAX_NOOPS,
        frame_skip=frame_skip,
        screen_size=vector.SCREEN,
    )
    if max_steps is not None:
        env = TimeLimit(env, max_steps)

    env = EpisodicLife(EpisodeStatistics(env))
    meanings = env.get_wrapper_attr("get_action_meanings")()
    if "FIRE" in meanings and len(meanings) > 2:
        env = FireReset(env)
    return ZeroPaddedStack(SignReward(env), frame_stack)
