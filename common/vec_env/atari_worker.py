"""A process that plays some of the games of a `NativeAtariVectorEnv`.

It waits for a message and answers it. An empty message asks for a step and is answered by an empty one: actions and
results lie in shared memory. Others are pickled: the name of a method of `Game` and its arguments for each game,
answered by `(None, results)`. An exception is answered by `(index of the environment, traceback)`.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import cv2
import numpy as np

from common.vec_env.atari_game import Game, GameSettings, slot_type

STEP = b""


def shared_slots(memory: SharedMemory, frame_stack: int, num_envs: int) -> np.ndarray:
    """Returns the slots of all games, a structured array `[num_envs]` in shared memory."""
    return np.ndarray(num_envs, slot_type(frame_stack), memory.buf)


def run_games(
    settings: GameSettings, memory: SharedMemory, num_envs: int, indices: Sequence[int], pipe: Connection
) -> None:
    """Plays the games with these `indices` until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the workers
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
    """Does the same with all games of a worker.

    Attributes:
      current: index of the environment that is at work.
    """

    def __init__(self, indices: Sequence[int], games: Sequence[Game]) -> None:
        self.current = indices[0]
        self._indices = indices
        self._games = games

    def step(self) -> None:
        """Steps every game."""
        for i, game in zip(self._indices, self._games, strict=True):
            self.current = i
            game.step()

    def call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Calls a method of every game with its own arguments, and returns the results."""
        results = []
        for i, game, given in zip(self._indices, self._games, arguments, strict=True):
            self.current = i
            results.append(getattr(game, method)(*given))
        return results
