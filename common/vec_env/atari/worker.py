"""A worker process that plays some of the games of a `NativeAtariVectorEnv`.

It waits for a message and answers it. An empty message asks for a step; the answer is empty as well, because actions
and results are exchanged through shared memory. All other messages are pickled: the name of a method of `Game` and, for
each game, its arguments. They are answered by `(None, results)`. An exception is answered by
`(name of the environment, traceback)`.

In few steps a game has to be brought to the start of its next episode, which takes as long as 3 to 20 steps. A helper
thread does that while the worker steps its other games: emulators do not hold Python's lock, so that a core that has
nothing left to do in this step takes part of it. Games do not know of each other, so the bits are the same.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import cv2
import numpy as np

from common.shared_memory import SharedMemory
from common.vec_env.atari.game import Game, GameSettings, slot_type
from common.vec_env.workers import of_environments, serve_parent

STEP = b""


def shared_slots(memory: SharedMemory, frame_stack: int, num_envs: int) -> np.ndarray:
    """Returns the slots of all games, a structured array `[num_envs]` in shared memory."""
    return np.ndarray(num_envs, slot_type(frame_stack), memory.buf)


def run_games(
    settings: GameSettings,
    memory: SharedMemory,
    num_envs: int,
    indices: Sequence[int],
    pipe: Connection,
) -> None:
    """Plays games until the parent closes the pipe.

    Args:
      settings: settings of all games.
      memory: shared memory that holds the slots of all games.
      num_envs: number of games of the whole vector environment.
      indices: indices of the games that this process plays.
      pipe: connection to the parent.
    """
    serve_parent()
    cv2.setNumThreads(0)
    slots = shared_slots(memory, settings.frame_stack, num_envs)
    games = _Games(indices, [Game(settings, slots[i]) for i in indices])

    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        pipe.send((None, None))

        while True:
            message = pipe.recv_bytes()
            try:
                if message == STEP:
                    games.step()
                    pipe.send_bytes(STEP)
                else:
                    pipe.send((None, games.call(*pickle.loads(message))))
            except Exception:
                pipe.send((games.current, traceback.format_exc()))


class _Games:
    """The games of one worker."""

    def __init__(self, indices: Sequence[int], games: Sequence[Game]) -> None:
        self._indices = indices
        self._games = games
        self._seeds: list[int | None] = [None] * len(games)
        self._current = 0
        self._helper = ThreadPoolExecutor(1)

    @property
    def current(self) -> str:
        """Name of the environment that was called last."""
        index = self._indices[self._current]
        seed = self._seeds[self._current]
        return of_environments(index, index, None if seed is None else seed - index)

    def step(self) -> None:
        """Steps every game, and brings those whose episode ended to the start of the next one."""
        starting: list[tuple[int, Future[None]]] = []
        for i, game in enumerate(self._games):
            self._current = i
            if game.step():
                starting.append((i, self._helper.submit(game.begin_episode)))

        for i, start in reversed(starting):  # the helper takes the first ones first
            self._current = i
            if start.cancel():  # it has not come to this one yet
                self._games[i].begin_episode()
            else:
                start.result()

    def call(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Calls a method of every game, and returns the results.

        Args:
          method: name of a method of `Game`.
          arguments: for each game, its arguments; None skips the game.
        """
        results = []
        for i, (game, given) in enumerate(zip(self._games, arguments, strict=True)):
            if given is None:
                continue
            self._current = i

            if method == "reset" and given[0] is not None:
                self._seeds[i] = given[0]
            results.append(getattr(game, method)(*given))

        return results
