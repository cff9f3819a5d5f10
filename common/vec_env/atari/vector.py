"""The native Atari backend: ale-py's emulators in a few worker processes, with the preprocessing of Baselines.

ale-py's own vector environment always steps all games together. The preprocessing has to step a single game after it
lost a life, so here every process steps its games one by one, and writes the results into shared memory.

The agent observes what `make_atari` and `wrap_deepmind` of Baselines show:

* A new game starts with 1 to 30 no-op frames, drawn uniformly.
* An action lasts 4 frames. The frame shown is the maximum of the last two, in gray, resized to 84x84 by area. The
  last `frame_stack` frames are stacked, and the stack is filled with zeros at the start of an episode.
* Losing a life ends the episode of the agent. The game continues after one no-op.
* If the game has FIRE, an episode starts with the actions 1 and 2. Their rewards count only for the game's score.
* The reward is the sign of the change of the score.

Differences from Baselines:

* A game is truncated after 108,000 frames including its no-ops, as the games are registered today (Baselines:
  400,000).
* The maximum is taken over gray frames, not over colours.
* If one of the two actions that start an episode loses a life or the game, the first frame shown is the one after the
  reset that follows.
* A game that ends during the no-op after a lost life starts anew. Baselines would step the finished game.
* The random streams differ.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from common.shared_memory import SharedMemory
from common.vec_env.atari import worker
from common.vec_env.atari.game import (
    MAX_FRAMES,
    MAX_NOOPS,
    SCREEN,
    GameSettings,
    game_actions,
    load_emulator,
    slot_type,
)
from common.vec_env.door import seed_list
from common.vec_env.workers import CLOSE_TIMEOUT, START_TIMEOUT, Workers, of_environments


class NativeAtariVectorEnv(VectorEnv):
    """A vector environment of `num_envs` games, stepped in worker processes.

    Besides the contract of `common.vec_env`, `infos["lives"]` (int `[N]`) holds the remaining lives, and
    `infos["final_info"]["lives"]` those at the end of an episode.
    """

    single_action_space: spaces.Discrete
    state_gap = ""

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        *,
        frame_stack: int = 4,
        max_frames: int | None = None,
        step_timeout: float = 300.0,
        num_workers: int | None = None,
    ) -> None:
        """Starts the workers.

        Args:
          spec: specification of the registered environment: its game, its actions and its probability of sticky
          actions. num_envs: number of games. frame_stack: frames per observation. max_frames: emulator frames after
          which a game is truncated; None for the registered number. step_timeout: seconds after which a worker
          process that does not answer is an error. num_workers: number of worker processes; None for one per core
          that this process may use.
        """
        self.spec = spec
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = spaces.Box(0, 255, (SCREEN, SCREEN, frame_stack), np.uint8)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

        settings = GameSettings(
            game=spec.kwargs["game"],
            frame_stack=frame_stack,
            max_frames=max_frames or spec.kwargs.get("max_num_frames_per_episode", MAX_FRAMES),
            max_noops=MAX_NOOPS,
            stickiness=spec.kwargs.get("repeat_action_probability", 0.25),
            full_action_space=spec.kwargs.get("full_action_space", False),
        )

        actions = game_actions(settings, load_emulator(settings, seed=0))
        self.single_action_space = spaces.Discrete(len(actions))
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._step_timeout = step_timeout

        num_workers = num_workers or len(os.sched_getaffinity(0))
        shares = np.array_split(np.arange(num_envs), min(num_workers, num_envs))
        self._shares = [range(int(share[0]), int(share[-1]) + 1) for share in shares]

        self._workers = Workers()
        self._start_workers(settings)

    @property
    def processes(self) -> list[BaseProcess]:
        """The worker processes."""
        return self._workers.processes

    @property
    def emulated_steps(self) -> int:
        """Number of actions emulated in all games since the last `reset`, including those between two episodes."""
        return int(self._slots["emulated"].sum())

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new game everywhere, or only where `options["reset_mask"]` (bool `[N]`) is true.

        Args:
          seed: seed of game 0, from which those of the others count on; or a list with a seed, or None, for each.
          options: only the mask is used.

        Returns:
          Observations uint8 `[N, 84, 84, frame_stack]` and infos.
        """
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        if isinstance(seed, int):
            for i, share in enumerate(self._shares):
                self._workers[i].name = of_environments(share[0], share[-1], seed)

        seeds = seed_list(seed, self.num_envs)
        arguments: list[tuple[int | None] | None] = []
        for one, new in zip(seeds, mask.tolist(), strict=True):
            game_seed = None if one is None else one % 2**31
            arguments.append((game_seed,) if new else None)

        self._call("reset", arguments)
        self._slots["game_ended"][~mask] = False
        return self._slots["observation"].copy(), self._infos()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one action of 4 frames in every game, and resets those whose episode ended.

        Args:
          actions: int `[N]`.

        Returns:
          Observations uint8 `[N, 84, 84, frame_stack]`, rewards float32 `[N]` (-1, 0 or 1), terminations bool `[N]`,
          truncations bool `[N]` and infos, as the contract of `common.vec_env` describes them.

        Raises:
          ValueError: an action that the game does not have. The message names the index of the environment.
          WorkerError: a worker failed, died or hangs. The message names its environments and their seeds.
        """
        self._slots["action"] = self._checked(actions)
        for i in range(len(self._workers)):
            self._workers.send(i, worker.STEP)

        observations = np.empty_like(self._slots["observation"])  # [N, 84, 84, frame_stack]
        for i, _ in self._workers.answers(self._step_timeout):  # copies while the other workers are still busy
            games = slice(self._shares[i].start, self._shares[i].stop)
            observations[games] = self._slots["observation"][games]

        return (
            observations,
            np.sign(self._slots["reward"]).astype(np.float32),
            self._slots["terminated"].copy(),
            self._slots["truncated"].copy(),
            self._infos() | self._final_observations(),
        )

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns the state of all games as arrays `[N, ...]`; `observation` holds the current observations."""
        states = self._call("get_state", [()] * self.num_envs)

        longest = max(len(state["emulator"]) for state in states)
        for state in states:
            missing = longest - len(state["emulator"])
            state["emulator"] = np.pad(state["emulator"], (0, missing))  # the emulator ignores what follows its state

        return {key: np.stack([state[key] for state in states]) for key in states[0]}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restores what `get_state` returned, also in another instance with the same number of games.

        Raises:
          ValueError: the state has another number of games.
        """
        if len(state["emulator"]) != self.num_envs:
            raise ValueError(f"state: of {len(state['emulator'])} environments, expected {self.num_envs}")

        arguments = []
        for i in range(self.num_envs):
            own = {key: array[i] for key, array in state.items()}
            arguments.append((own,))
        self._call("set_state", arguments)

    def render(self) -> None:
        """Always raises: worker processes cannot open a window.

        Raises:
          NotImplementedError: always.
        """
        raise NotImplementedError("The native Atari backend cannot render: use the sync backend with a render_mode.")

    def close_extras(self, timeout: float = CLOSE_TIMEOUT, **kwargs: Any) -> None:
        """Ends the workers, and kills those that are still alive after `timeout` seconds."""
        self._workers.close(timeout)
        del self._slots
        self._memory.close()

    def _start_workers(self, settings: GameSettings) -> None:
        slot_size = slot_type(settings.frame_stack).itemsize
        self._memory = SharedMemory(self.num_envs * slot_size)
        self._slots = worker.shared_slots(self._memory, settings.frame_stack, self.num_envs)
        arguments = [(settings, self._memory, self.num_envs, share) for share in self._shares]
        names = [of_environments(share[0], share[-1], None) for share in self._shares]

        try:
            self._workers.start(worker.__name__, worker.run_games, arguments, names)
        except BaseException:
            self.close(timeout=0.0)
            raise

    def _call(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Calls a method of `Game` for every game whose arguments are not None, and returns the results in order."""
        for i, share in enumerate(self._shares):
            self._workers.send(i, pickle.dumps((method, [arguments[game] for game in share])))
        answers = dict(self._workers.answers(max(START_TIMEOUT, self._step_timeout)))
        return [result for i in sorted(answers) for result in answers[i]]

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(
                f"actions: expected integers of shape ({self.num_envs},), got {actions.dtype} {actions.shape}"
            )

        wrong = (actions < 0) | (actions >= self.single_action_space.n)
        if wrong.any():
            index = wrong.argmax()
            allowed = f"0 to {self.single_action_space.n - 1}"
            raise ValueError(f"actions: environment {index} got {actions[index]}, allowed are {allowed}")

        return actions

    def _final_observations(self) -> dict[str, Any]:
        """Returns the infos about the episodes that just ended: the final observations (copies) and the final info."""
        ended = self._slots["terminated"] | self._slots["truncated"]  # [N]
        if not ended.any():
            return {}

        final_obs = np.full(self.num_envs, None, object)  # [N]
        for i in np.flatnonzero(ended):
            final_obs[i] = self._slots["final_obs"][i].copy()

        final_info = {"lives": np.where(ended, self._slots["final_lives"], 0), "_lives": ended}
        over = {"final_info": final_info | self._episodes(), "_final_info": ended}
        return {"final_obs": final_obs, "_final_obs": ended} | over

    def _infos(self) -> dict[str, Any]:
        """Returns the lives, and `episode` and `_episode` if games ended."""
        lives = {"lives": self._slots["lives"].copy(), "_lives": np.ones(self.num_envs, bool)}
        return lives | self._episodes()

    def _episodes(self) -> dict[str, Any]:
        """Returns `episode` and `_episode` if games ended, else an empty dict."""
        ended = self._slots["game_ended"].copy()  # [N]
        if not ended.any():
            return {}

        columns = {
            "r": self._slots["score"] * 1.0,
            "l": self._slots["length"],
            "t": self._slots["duration"],
        }
        episode = {key: np.where(ended, column, 0) for key, column in columns.items()}
        return {"episode": episode, "_episode": ended}
