"""Atari on ale-py's C++ emulators, preprocessed as Baselines does it.

One `AtariVectorEnv` of one game each, with a C++ thread of its own, because an instance can only step all of its games
at once, whereas after the loss of a life a single game has to be stepped. Every call sends the actions to all games
and then collects the results; a game whose episode ended gets the actions of its reset while others still run.

What the agent sees, after Baselines' `make_atari` and `wrap_deepmind`:

* a new game starts with 1 to 30 no-op frames, uniformly drawn;
* an action lasts 4 frames, the frame seen is the maximum of the last two, gray, resized to 84x84 by area; the last
  `frame_stack` frames are stacked, and the stack is cleared to zero at the start of an episode;
* the loss of a life ends the agent's episode, but the game goes on after one no-op;
* where the game has FIRE, an episode starts with actions 1 and 2; their rewards only count in the game's score;
* the reward is the sign of the score's change.

Differences to Baselines:

* A game is truncated after 108,000 frames not counting its no-ops (Baselines: 400,000 frames, counting them).
* In the step in which the game ends, the frames that the emulator skipped because of it are not captured, so the final
  observation repeats earlier frames. It is only read where a game is truncated.
* A game that ends during the no-op after a life was lost starts anew; Baselines would step the finished game.
* Random streams differ: the number of no-ops comes from the emulator's C++ generator.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

MAX_FRAMES = 108_000
MAX_NOOPS = 30
SCREEN = 84

_NOOP = 0
_FIRE_RESET = (1, 2)
_RESET = -1
_FULL_STRENGTH = np.ones(1, np.float32)


class _Game:
    """One emulator, and the actions still to come before its next episode starts.

    Attributes:
      num_actions: number of actions of the game.
      noops: no-op frames with which the running game started.
      frame: uint8 `[1, 1, 84, 84]`, the newest frame.
      reward: int32 `[1]`, the change of the game's score.
      lives: lives left.
      life_lost: the last action lost a life and the game goes on.
      over: the last action ended the game.
      truncated: it did so by the limit of frames.
    """

    lives: int

    def __init__(self, spec: EnvSpec, max_frames: int) -> None:
        from ale_py.vector_env import AtariVectorEnv

        native = AtariVectorEnv(
            spec.kwargs["game"],
            num_envs=1,
            num_threads=1,
            max_num_frames_per_episode=max_frames,
            repeat_action_probability=spec.kwargs.get("repeat_action_probability", 0.25),
            full_action_space=spec.kwargs.get("full_action_space", False),
            autoreset_mode=AutoresetMode.NEXT_STEP,
            stack_num=1,
            noop_max=MAX_NOOPS + 1,  # 0 to 30; 0 is drawn again
            reward_clipping=False,
            use_fire_reset=False,
        )
        self._native = native.ale
        names = [action.name for action in self._native.get_action_set()]
        self.num_actions = len(names)
        has_fire = "FIRE" in names
        self._fire_reset = _FIRE_RESET if has_fire and self.num_actions > 2 else ()
        self._actions = [np.array([action], np.int32) for action in range(self.num_actions)]
        self._script: list[int] = []

    def send(self, action: int) -> None:
        """Starts one step of 4 frames; after the end of a game, any action starts the next game instead."""
        self._native.send(self._actions[action], _FULL_STRENGTH)

    def receive(self) -> None:
        """Waits for the step and takes its results."""
        self.frame, self.reward, terminated, truncated, info = self._native.recv()
        lives = info["lives"].item()
        self.life_lost = 0 < lives < self.lives  # at 0 lives some games still run for a few frames
        self.lives = lives
        self.truncated = truncated.item()
        self.over = self.truncated or terminated.item()

    def start(self, seed: int) -> None:
        """Seeds the emulator (-1: lets its random stream run on), starts a game and sends its first action."""
        self._new_game(*self._force_reset(seed))
        self._script = list(self._fire_reset)
        self._send_script()

    def begin_reset(self) -> None:
        """Sends the first action of what lies between two episodes of the agent."""
        self._script = [_RESET if self.over else _NOOP, *self._fire_reset]
        self._send_script()

    def is_ready(self) -> bool:
        """Says whether the reset is complete."""
        return not self._script

    def continue_reset(self) -> bool:
        """Waits for one action of the reset and sends the next; returns whether the one that ended was a step."""
        action = self._script.pop(0)
        if action == _RESET:
            frame, _, _, _, info = self._native.recv()
            self._new_game(frame, info)
        else:
            self.receive()
            if self.over:
                self._script.insert(0, _RESET)
            elif self.life_lost and action in _FIRE_RESET:
                self._script.insert(0, _NOOP)
        self._send_script()
        return action != _RESET

    def _send_script(self) -> None:
        if self._script:
            self.send(max(self._script[0], _NOOP))

    def _force_reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        return self._native.reset(np.array([0]), np.array([seed]))

    def _new_game(self, frame: np.ndarray, info: dict[str, Any]) -> None:
        while info["episode_frame_number"][0] == 0:  # no no-op was drawn
            frame, info = self._force_reset(-1)
        self.noops = info["episode_frame_number"].item()
        self.frame, self.lives = frame, info["lives"].item()
        self.over = self.truncated = self.life_lost = False


class _Scores:
    """The score, length and starting time of every running game, and the games that ended since the last `infos`."""

    def __init__(self, num_envs: int) -> None:
        self._scores = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, int)
        self._starts = np.full(num_envs, time.perf_counter())
        self._finished: list[int] = []
        self._episode = {"r": np.zeros(num_envs), "l": np.zeros(num_envs, int), "t": np.zeros(num_envs)}
        self.emulated_steps = 0

    def add(self, rewards: np.ndarray) -> None:
        """Counts one step of every game; `rewards` `[N]`."""
        self._scores += rewards
        self._lengths += 1
        self.emulated_steps += len(rewards)

    def add_one(self, i: int, reward: int) -> None:
        """Counts one step of game `i`."""
        self._scores[i] += reward
        self._lengths[i] += 1
        self.emulated_steps += 1

    def finish(self, i: int) -> None:
        """Ends game `i`, and starts the count of its next."""
        now = time.perf_counter()
        for column, value in zip("rlt", (self._scores[i], self._lengths[i], now - self._starts[i]), strict=True):
            self._episode[column][i] = value
        self._scores[i], self._lengths[i], self._starts[i] = 0, 0, now
        self._finished.append(i)

    def infos(self) -> dict[str, Any]:
        """Returns `episode` and `_episode` where games ended since the last call."""
        if not self._finished:
            return {}
        mask = _mask(len(self._scores), self._finished)
        episode = {key: np.where(mask, column, 0) for key, column in self._episode.items()}
        self._finished = []
        return {"episode": episode, "_episode": mask}


class NativeAtariVectorEnv(VectorEnv):
    """Steps `num_envs` games of one Atari environment in C++ threads.

    Besides the contract of `common.vec_env`, `infos["lives"]` (int `[N]`) holds the lives left.
    """

    single_action_space: spaces.Discrete

    def __init__(self, spec: EnvSpec, num_envs: int, *, frame_stack: int = 4, max_frames: int = MAX_FRAMES) -> None:
        """Starts the emulators.

        Args:
          spec: the registered environment; its game, action set and probability of sticky actions are used.
          num_envs: number of games.
          frame_stack: frames per observation.
          max_frames: emulator frames after which a game is truncated.
        """
        self.spec = spec
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._games = [_Game(spec, max_frames) for _ in range(num_envs)]
        self.single_observation_space = spaces.Box(0, 255, (SCREEN, SCREEN, frame_stack), np.uint8)
        self.single_action_space = spaces.Discrete(self._games[0].num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._stack = np.zeros((num_envs, SCREEN, SCREEN, frame_stack), np.uint8)
        self._scores = _Scores(num_envs)

    @property
    def emulated_steps(self) -> int:
        """Actions emulated since the last `reset` in all games, those between two episodes included."""
        return self._scores.emulated_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new game everywhere; `options` are ignored. Returns uint8 `[N, 84, 84, frame_stack]` and infos."""
        del options
        seeds = [-1 if seed is None else (seed + i) % 2**31 for i in range(self.num_envs)]
        with ThreadPoolExecutor(self.num_envs) as pool:  # loading the games takes most of the time
            list(pool.map(_Game.start, self._games, seeds))
        self._scores = _Scores(self.num_envs)
        self._stack = np.zeros_like(self._stack)
        self._complete_resets(list(range(self.num_envs)))
        return self._stack, self._infos()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one action of 4 frames in every game, and resets those whose episode ended.

        Args:
          actions: int `[N]`.

        Raises:
          ValueError: an action that the game does not have, naming the environment's index.
        """
        for game, action in zip(self._games, self._checked(actions), strict=True):
            game.send(action)
        terminations = np.zeros(self.num_envs, bool)
        truncations = np.zeros(self.num_envs, bool)
        frames, rewards, ended = [], [], []
        for i, game in enumerate(self._games):
            game.receive()
            frames.append(game.frame)
            rewards.append(game.reward)
            if game.over or game.life_lost:
                terminations[i] = game.life_lost or not game.truncated
                truncations[i] = game.truncated
                ended.append(i)
                game.begin_reset()
        game_rewards = np.concatenate(rewards)
        self._scores.add(game_rewards)
        self._stack = _pushed(self._stack, np.concatenate(frames)[:, 0])
        final_obs = self._final_observations(ended)
        self._complete_resets(ended)
        return (
            self._stack,
            np.sign(game_rewards).astype(np.float32),
            terminations,
            truncations,
            self._infos() | final_obs,
        )

    def render(self) -> None:
        """Is not supported: the C++ environment has no screen to show."""
        raise NotImplementedError("The native Atari backend cannot render: use the sync backend with a render_mode.")

    def close_extras(self, **kwargs: Any) -> None:
        """Stops the emulators' threads."""
        self._games = []

    def _checked(self, actions: np.ndarray) -> list[int]:
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(
                f"actions: expected integers of shape ({self.num_envs},), got {actions.dtype} {actions.shape}"
            )
        wrong = np.flatnonzero((actions < 0) | (actions >= self.single_action_space.n))
        if wrong.size:
            allowed = f"0 to {self.single_action_space.n - 1}"
            raise ValueError(f"actions: environment {wrong[0]} got {actions[wrong[0]]}, allowed are {allowed}")
        return actions.tolist()

    def _final_observations(self, ended: list[int]) -> dict[str, Any]:
        """Copies the stacks of the ended episodes into infos, and clears them for the next episodes."""
        if not ended:
            return {}
        final_obs = np.full(self.num_envs, None, object)
        for i in ended:
            final_obs[i] = self._stack[i].copy()
            self._stack[i] = 0
        return {"final_obs": final_obs, "_final_obs": _mask(self.num_envs, ended)}

    def _complete_resets(self, ended: list[int]) -> None:
        """Lets the resets of some games run to their end and puts the frame they end with on top of the stack."""
        for i in ended:
            if self._games[i].over:
                self._scores.finish(i)
        pending = ended
        while pending := [i for i in pending if not self._games[i].is_ready()]:
            for i in pending:
                self._continue_reset(i)
        for i in ended:
            self._stack[i, ..., -1] = self._games[i].frame

    def _continue_reset(self, i: int) -> None:
        game = self._games[i]
        if game.continue_reset():
            self._scores.add_one(i, game.reward.item())
            if game.over:
                self._scores.finish(i)

    def _infos(self) -> dict[str, Any]:
        return {"lives": np.array([game.lives for game in self._games])} | self._scores.infos()


def _mask(size: int, indices: list[int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[indices] = True
    return mask


def _pushed(stack: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Returns a new stack `[N, H, W, K]` without its oldest frame and with `frames` `[N, H, W]` as the newest."""
    new = np.empty_like(stack)
    if stack.shape[-1] == 4 and sys.byteorder == "little":  # four channels shift as one integer, 15 times faster
        np.right_shift(stack.view(np.uint32), 8, out=new.view(np.uint32))
    else:
        new[..., :-1] = stack[..., 1:]
    new[..., -1] = frames
    return new
