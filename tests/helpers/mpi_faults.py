"""An environment whose steps fail in one MPI rank, as the variable FAULT says: `exception`, `exit` or `kill`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv


class Faulty(CartPoleEnv):
    """CartPole; rank 1 fails FAULT_AFTER seconds after the first checkpoint was written, and first notes the time."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self._folder, self._begun = Path(os.environ["FAULT_FOLDER"]), 0.0

    def step(self, action):
        if os.environ.get("OMPI_COMM_WORLD_RANK") == "1" and self._due():
            (self._folder / "fault").write_text(str(time.time()))
            match os.environ["FAULT"]:
                case "exception":
                    raise ValueError("this environment is broken")
                case "exit":
                    sys.exit(3)
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)

    def _due(self) -> bool:
        if not self._begun and any(self._folder.glob("checkpoints/*.model")):
            self._begun = time.monotonic()
        return bool(self._begun) and time.monotonic() - self._begun >= float(os.environ["FAULT_AFTER"])


gym.register("Faulty-v0", entry_point=Faulty, max_episode_steps=500)
