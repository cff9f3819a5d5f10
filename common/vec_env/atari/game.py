"""One Atari game, preprocessed as Baselines does it; `common.vec_env.atari.vector` says what the agent sees."""

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
_LINES, _ROWS = 5, 2  # lines of a screen of 210 lines that are resized, independently of all others, to rows of 84


@dataclasses.dataclass(frozen=True)
class GameSettings:
    """What all games of one environment have in common.

    Attributes:
      game: name of the ROM.
      frame_stack: frames per observation.
      max_frames: frames after which a game is truncated, its no-ops included.
      max_noops: largest number of no-ops that a game starts with.
      stickiness: probability that a frame repeats the action of the frame before it.
      full_action_space: all 18 actions instead of those that matter in the game.
    """

    game: str
    frame_stack: int
    max_frames: int
    max_noops: int
    stickiness: float
    full_action_space: bool


def slot_type(frame_stack: int) -> np.dtype:
    """Returns the structure in which a game finds its next action and leaves the results of a step."""
    observation = (SCREEN, SCREEN, frame_stack)
    return np.dtype(
        [
            ("action", np.int32),
            ("observation", np.uint8, observation),
            ("reward", np.int32),  # change of the game's score
            ("terminated", np.bool_),
            ("truncated", np.bool_),
            ("final_obs", np.uint8, observation),  # of the episode that the step ended
            ("lives", np.int32),
            ("final_lives", np.int32),  # of the episode that the step ended
            ("emulated", np.int64),  # steps since the last reset, those between two episodes included
            ("game_ended", np.bool_),  # since the last action, with the three that follow
            ("score", np.int64),
            ("length", np.int64),  # steps
            ("duration", np.float64),  # seconds
        ],
        align=True,
    )


def load_emulator(settings: GameSettings, seed: int) -> ale_py.ALEInterface:
    """Starts an emulator; it takes a twelfth of a second."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # of the process; no banner
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setInt("max_num_frames_per_episode", settings.max_frames)
    ale.setFloat("repeat_action_probability", 0.0)  # the emulator would not save the action to repeat
    ale.loadROM(str(get_rom_path(settings.game)))
    return ale


def game_actions(settings: GameSettings, ale: ale_py.ALEInterface) -> list[ale_py.Action]:
    """Returns the actions of a game in the order of their numbers."""
    return ale.getLegalActionSet() if settings.full_action_space else ale.getMinimalActionSet()


class Game:
    """One emulator, its frame stack and its counts."""

    def __init__(self, settings: GameSettings, slot: np.void) -> None:
        """Prepares a game that `reset` or `set_state` starts.

        Args:
          settings: of all games.
          slot: the game's own memory, of `slot_type`.
        """
        self._settings = settings
        self._slot = slot
        self._stack = slot["observation"]
        self._loaded = False

    def reset(self, seed: int | None) -> None:
        """Starts a new game; without a seed the random streams run on."""
        if seed is None and not self._loaded:
            seed = int(np.random.SeedSequence().generate_state(1)[0] % 2**31)
        if seed is not None:
            self._load(seed)
        self._slot["emulated"] = 0
        self._slot["game_ended"] = False
        self._over = True
        self._start_count()
        self._begin_episode()

    def step(self) -> None:
        """Takes the action in the slot; where that ends an episode, goes on to the start of the next."""
        slot = self._slot
        slot["game_ended"] = False
        slot["reward"] = self._act(self._actions[slot["action"]])
        slot["terminated"] = self._life_lost or self._ale.game_over(with_truncation=False)
        slot["truncated"] = self._ale.game_truncated()
        self._show()
        if self._over or self._life_lost:
            slot["final_obs"] = self._stack
            slot["final_lives"] = self._lives
            self._begin_episode()

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns all that a game's future depends on, and its statistics so far."""
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
        """Takes back what `get_state` returned."""
        self._load(0)
        self._ale.restoreState(ale_py.ALEState(state["emulator"].tobytes()))
        set_random_state(self._rng, state["random"])
        self._stack[:] = state["observation"]
        self._screen[:] = state["screen"]
        self._resized[:] = self._stack[..., -1]
        self._frame[:] = state["frame"]
        self._last_action = int(state["action"])
        self._slot["lives"] = self._lives = int(state["lives"])
        self._score, self._length = int(state["score"]), int(state["length"])
        self._started = time.perf_counter() - float(state["duration"])

    def _load(self, seed: int) -> None:
        self._loaded = True
        self._ale = load_emulator(self._settings, seed)
        self._rng = np.random.default_rng(seed)
        actions = game_actions(self._settings, self._ale)
        self._actions = [action.value for action in actions]
        has_fire = ale_py.Action.FIRE in actions and len(actions) > 2
        self._fire_reset = [self._actions[i] for i in _FIRE_RESET] if has_fire else []
        self._frame = self._ale.getScreenGrayscale()  # the last one of a step
        self._next_screen: np.ndarray | None = None  # to be shown
        self._screen = np.zeros_like(self._frame)  # shown last
        self._resized = np.zeros((SCREEN, SCREEN), np.uint8)

    def _act(self, action: int) -> int:
        """Emulates one step, up to the end of the game; returns the change of the score.

        Where the game ends early, one or both of the last two frames are those of the step before, as in Baselines.
        """
        ale, stickiness = self._ale, self._settings.stickiness
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
        """Resizes the lines of the screen that have changed, and pushes it onto the stack."""
        screen = self._next_screen
        if screen is not None:
            lines, rows = (_LINES, _ROWS) if len(screen) == SCREEN * _LINES // _ROWS else (len(screen), SCREEN)
            bands = (len(screen) // lines, -1)
            changed = (screen.view(np.uint64).reshape(bands) != self._screen.view(np.uint64).reshape(bands)).any(1)
            if changed.any():
                first, last = int(changed.argmax()), len(changed) - int(changed[::-1].argmax())
                band, shown = slice(first * lines, last * lines), slice(first * rows, last * rows)
                self._screen[band] = screen[band]
                size = SCREEN, (last - first) * rows
                cv2.resize(screen[band], size, self._resized[shown], interpolation=cv2.INTER_AREA)
            self._next_screen = None
        _push(self._stack, self._resized)

    def _begin_episode(self) -> None:
        """Does what lies between two episodes of the agent, and puts the first frame of the next on an empty stack."""
        self._go_on()
        for action in self._fire_reset:
            self._act(action)
            if self._over or self._life_lost:
                self._go_on()
        self._stack[:] = 0
        self._slot["lives"] = self._lives
        self._show()

    def _go_on(self) -> None:
        """Continues a game with a no-op, or starts the next where it is over."""
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
            self._slot["score"], self._slot["length"] = self._score, self._length
            self._slot["duration"] = time.perf_counter() - self._started
            self._start_count()

    def _start_count(self) -> None:
        self._score = self._length = 0
        self._started = time.perf_counter()


def _push(stack: np.ndarray, frame: np.ndarray) -> None:
    """Drops the oldest frame of a stack `[H, W, K]` and adds the newest."""
    if stack.shape[-1] == 4 and sys.byteorder == "little":  # four channels shift as one integer
        numbers = stack.view(np.uint32)
        np.right_shift(numbers, 8, out=numbers)
    else:
        stack[..., :-1] = stack[..., 1:]
    stack[..., -1] = frame
