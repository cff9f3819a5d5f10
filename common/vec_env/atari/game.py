"""A single Atari game with the preprocessing of Baselines.

`common.vec_env.atari.vector` describes what the agent observes.
"""

from __future__ import annotations

import dataclasses
import sys
import time

import ale_py
import cv2
import numpy as np
from ale_py.roms import get_rom_path

from common.random_state import get_random_state, set_random_state

MAX_FRAMES = 108_000
MAX_NOOPS = 30
SCREEN = 84

_SKIP = 4
_NOOP = 0
_FIRE_RESET = (1, 2)
_LINES = 5  # Resizing 210 lines to 84 rows maps every 5 lines to 2 rows, independently of all other lines.
_ROWS = 2


@dataclasses.dataclass(frozen=True)
class GameSettings:
    """Settings that all games of a vector environment share.

    Attributes:
      game: name of the ROM.
      frame_stack: frames per observation.
      max_frames: emulator frames after which a game is truncated, including its no-ops.
      max_noops: largest number of no-ops at the start of a game.
      stickiness: probability that a frame repeats the action of the previous frame.
      full_action_space: use all 18 actions instead of those that have an effect in the game.
    """

    game: str
    frame_stack: int
    max_frames: int
    max_noops: int
    stickiness: float
    full_action_space: bool


def slot_type(frame_stack: int) -> np.dtype:
    """Returns the dtype of a slot.

    A slot is the memory through which a game receives its action and returns the results of a step.
    """
    observation = (SCREEN, SCREEN, frame_stack)
    return np.dtype(
        [
            ("action", np.int32),
            ("observation", np.uint8, observation),
            ("reward", np.int32),  # change of the game's score
            ("terminated", np.bool_),  # whether the agent's episode ended
            ("truncated", np.bool_),
            ("final_obs", np.uint8, observation),  # last observation of the episode that the step ended
            ("lives", np.int32),
            ("final_lives", np.int32),  # lives at the end of the episode that the step ended
            ("emulated", np.int64),  # steps since the last reset, including those between two episodes
            ("game_ended", np.bool_),  # whether a game ended in this step; the next three fields describe it
            ("score", np.int64),
            ("length", np.int64),  # in steps
            ("duration", np.float64),  # in seconds
        ],
        align=True,
    )


def load_emulator(settings: GameSettings, seed: int) -> ale_py.ALEInterface:
    """Starts an emulator. This takes about 80 ms."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # for the whole process; hides the banner
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setInt("max_num_frames_per_episode", settings.max_frames)
    ale.setFloat(
        "repeat_action_probability", 0.0
    )  # done by `Game`, as the emulator does not save which action it repeats
    ale.loadROM(str(get_rom_path(settings.game)))

    return ale


def game_actions(settings: GameSettings, ale: ale_py.ALEInterface) -> list[ale_py.Action]:
    """Returns the actions of a game; the index of an action is its number."""
    return ale.getLegalActionSet() if settings.full_action_space else ale.getMinimalActionSet()


class Game:
    """One emulator with its frame stack and its statistics."""

    def __init__(self, settings: GameSettings, slot: np.void) -> None:
        """Prepares a game. It starts with `reset` or `set_state`.

        Args:
          settings: settings of all games.
          slot: memory of this game, of `slot_type`.
        """
        self._settings = settings
        self._slot = slot
        self._stack = slot["observation"]
        self._loaded = False

    def reset(self, seed: int | None) -> None:
        """Starts a new game. Without a seed the random streams continue."""
        if seed is None and not self._loaded:
            seed = int(np.random.SeedSequence().generate_state(1)[0] % 2**31)
        if seed is not None:
            self._load(seed)

        self._slot["emulated"] = 0
        self._slot["game_ended"] = False
        self._over = True
        self._start_count()
        self.begin_episode()

    def step(self) -> bool:
        """Takes the action in the slot, and returns whether that ended the episode: `begin_episode` is next then."""
        slot = self._slot
        slot["game_ended"] = False
        slot["reward"] = self._act(self._actions[slot["action"]])
        slot["terminated"] = self._life_lost or self._ale.game_over(with_truncation=False)
        slot["truncated"] = self._ale.game_truncated()
        self._show()

        ended = self._over or self._life_lost
        if ended:
            slot["final_obs"] = self._stack
            slot["final_lives"] = self._lives
        return ended

    def begin_episode(self) -> None:
        """Continues to the start of the next episode, and puts its first frame onto a cleared stack.

        After a lost life this takes as long as 3 steps. A new game takes as long as 20: it starts the console anew.
        """
        self._go_on()
        for action in self._fire_reset:
            self._act(action)
            if self._over or self._life_lost:
                self._go_on()

        self._stack[:] = 0
        self._slot["lives"] = self._lives
        self._show()

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns everything that the future of the game depends on, and its statistics so far."""
        state = self._ale.cloneState(include_rng=True).serialize()
        return {
            "emulator": np.frombuffer(state, np.uint8),
            "random": get_random_state(self._rng),
            "observation": self._stack.copy(),
            "screen": self._screen.copy(),
            "frame": self._frame.copy(),
            "action": np.int64(self._last_action),
            "lives": np.int64(self._lives),
            "score": np.int64(self._score),
            "length": np.int64(self._length),
            "duration": np.float64(time.perf_counter() - self._started),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restores what `get_state` returned."""
        self._load(0)
        self._ale.restoreState(ale_py.ALEState(state["emulator"].tobytes()))
        set_random_state(self._rng, state["random"])

        self._stack[:] = state["observation"]  # [84, 84, frame_stack]
        self._screen[:] = state["screen"]
        self._resized[:] = self._stack[..., -1]  # [84, 84], the newest frame
        self._frame[:] = state["frame"]

        self._last_action = int(state["action"])
        self._slot["lives"] = self._lives = int(state["lives"])
        self._score = int(state["score"])
        self._length = int(state["length"])
        self._started = time.perf_counter() - float(state["duration"])

    def _load(self, seed: int) -> None:
        self._loaded = True
        self._ale = load_emulator(self._settings, seed)
        self._rng = np.random.default_rng(seed)

        actions = game_actions(self._settings, self._ale)
        self._actions = [action.value for action in actions]
        has_fire = ale_py.Action.FIRE in actions and len(actions) > 2
        self._fire_reset = [self._actions[i] for i in _FIRE_RESET] if has_fire else []

        self._frame = self._ale.getScreenGrayscale()  # [H, W], the last frame of a step
        self._next_screen: np.ndarray | None = None  # [H, W], the screen to show next
        self._screen = np.zeros_like(self._frame)  # [H, W], the screen shown last
        self._resized = np.zeros((SCREEN, SCREEN), np.uint8)  # [84, 84]

    def _act(self, action: int) -> int:
        """Emulates one step of 4 frames, or up to the end of the game, and returns the change of the score.

        If the game ends early, one or both of the last two frames are those of the previous step, as in Baselines.
        """
        ale = self._ale
        stickiness = self._settings.stickiness

        reward = 0
        for frame in range(_SKIP):
            if not stickiness or self._rng.random() >= stickiness:
                self._last_action = action

            reward += ale.act(self._last_action)
            if frame == _SKIP - 2:
                self._next_screen = ale.getScreenGrayscale()
            elif frame == _SKIP - 1:
                ale.getScreenGrayscale(self._frame)

            if ale.game_over():
                break

        if self._next_screen is not None:
            np.maximum(self._next_screen, self._frame, out=self._next_screen)

        lives = ale.lives()
        self._life_lost = 0 < lives < self._lives  # at 0 lives some games still run for a few frames
        self._lives = lives
        self._over = ale.game_over()
        self._count(reward)

        return reward

    def _show(self) -> None:
        """Pushes the current screen onto the stack, and resizes only those of its lines that have changed."""
        screen = self._next_screen
        if screen is not None:
            lines = len(screen)
            rows = SCREEN
            if len(screen) == SCREEN * _LINES // _ROWS:  # the screen can be resized in bands
                lines = _LINES
                rows = _ROWS
            bands = (len(screen) // lines, -1)

            new = screen.view(np.uint64).reshape(bands)  # [bands, ...], 8 pixels in one number
            old = self._screen.view(np.uint64).reshape(bands)
            changed = (new != old).any(axis=1)  # [bands]
            if changed.any():
                first = int(changed.argmax())
                last = len(changed) - int(changed[::-1].argmax())
                band = slice(first * lines, last * lines)
                shown = slice(first * rows, last * rows)

                self._screen[band] = screen[band]
                size = SCREEN, (last - first) * rows
                cv2.resize(screen[band], size, self._resized[shown], interpolation=cv2.INTER_AREA)

            self._next_screen = None

        _push(self._stack, self._resized)

    def _go_on(self) -> None:
        """Continues a game with one no-op, or starts a new one if it is over."""
        if not self._over:
            self._act(_NOOP)
        if self._over:
            self._new_game()

    def _new_game(self) -> None:
        ale = self._ale
        ale.reset_game()

        for _ in range(self._rng.integers(1, self._settings.max_noops + 1)):
            ale.act(_NOOP)
            if ale.game_over():
                ale.reset_game()

        ale.getScreenGrayscale(self._frame)
        self._next_screen = self._frame.copy()
        self._last_action = _NOOP
        self._lives = ale.lives()
        self._over = self._life_lost = False

    def _count(self, reward: int) -> None:
        self._slot["emulated"] += 1
        self._score += reward
        self._length += 1

        if self._over:
            self._slot["game_ended"] = True
            self._slot["score"] = self._score
            self._slot["length"] = self._length
            self._slot["duration"] = time.perf_counter() - self._started
            self._start_count()

    def _start_count(self) -> None:
        self._score = self._length = 0
        self._started = time.perf_counter()


def _push(stack: np.ndarray, frame: np.ndarray) -> None:
    """Removes the oldest frame of a stack `[H, W, K]` and adds the newest frame `[H, W]`."""
    if stack.shape[-1] == 4 and sys.byteorder == "little":  # four channels shift as one integer
        numbers = stack.view(np.uint32)
        np.right_shift(numbers, 8, out=numbers)
    else:
        stack[..., :-1] = stack[..., 1:]

    stack[..., -1] = frame
