"""Replays a model: scores on the terminal, the game in a window or in a video file."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from baselines_acktr.evaluation import games
from baselines_acktr.learning.rollouts import Episode, require_same_step
from common.atomic_file import replacing
from common.errors import UserError
from common.vec_env.extras import or_extra

VIDEO_SUFFIXES = (".mp4", ".gif")
_SMALL = 300  # frames of fewer rows are shown twice as large


class Actor(Protocol):
    """What playing needs of a model."""

    def step(
        self, observations: np.ndarray, deterministic: bool = False, state: Any = None, episode_start: Any = None
    ) -> tuple[np.ndarray, Any, Any, Any]: ...


def play(
    model: Actor,
    env: gym.vector.VectorEnv,
    seed: int | None = None,
    episodes: int | None = None,
    greedy: bool = False,
    video: str | None = None,
) -> list[Episode]:
    """Plays whole games and prints the score of each and their mean.

    Args:
      model: chooses the actions.
      env: of any number of environments, as for `learn` and, for a video, with `render_mode="rgb_array"`.
      seed: of the first games; None: as the environment has been made.
      episodes: how many games in all, shared out equally so that short games are not favoured; None: one in each
        environment.
      greedy: the most likely action instead of a sampled one.
      video: file to write, .mp4 or .gif; several environments are shown side by side.

    Returns:
      The games in the order in which they ended.

    Raises:
      UserError: it is no vector environment with statistics of its episodes, it cannot be rendered, or the video has
        another suffix or cannot be written.
    """
    require_same_step(env)
    played: list[Episode] = []

    def act(observations: np.ndarray, state: Any, starts: np.ndarray) -> tuple[np.ndarray, Any]:
        actions, _, following, _ = model.step(observations, greedy, state, starts)
        return actions, following

    with _show_frames(env, video) as show, _rendering_errors():
        for episode in games(act, env, episodes or env.num_envs, seed, show):
            played.append(episode)
            print(f"episode {len(played)}: score {episode.score:g}, length {episode.length}", flush=True)

    score, length = (np.mean([getattr(episode, name) for episode in played]) for name in ("score", "length"))
    print(f"mean of {len(played)}: score {score:.6g}, length {length:.6g}", flush=True)
    return played


def record(model: Actor, env: gym.vector.VectorEnv, seed: int, path: Path, length: int, greedy: bool = False) -> None:
    """Writes a video of `length` steps from the start of a game; `env` needs `render_mode="rgb_array"`."""
    with _show_frames(env, str(path)) as show, _rendering_errors():
        observations, _ = env.reset(seed=seed)
        show()
        state, starts = None, None
        for _ in range(length):
            actions, _, state, _ = model.step(observations, greedy, state, starts)
            observations, _, terminated, truncated, _ = env.step(actions)
            starts = terminated | truncated
            show()


class TrainingVideos:
    """Records the current policy every `interval` timesteps of training, in an environment of its own.

    Args:
      make_env: opens that environment, with `render_mode="rgb_array"`.
      folder: where step-<timesteps>.mp4 go.
      interval: timesteps between two videos; 0: none.
      length: steps of a video.
      start: timesteps at which training starts.
    """

    def __init__(
        self, make_env: Callable[[], gym.vector.VectorEnv], folder: Path, interval: int, length: int, start: int = 0
    ) -> None:
        self._make_env, self._folder, self._interval, self._length = make_env, folder, interval, length
        self._done = start // interval if interval else 0

    def maybe(self, model: Actor, timesteps: int, seed: int, greedy: bool) -> None:
        """Records a video if `timesteps` has reached the next multiple of the interval."""
        if not self._interval or timesteps // self._interval <= self._done:
            return
        self._done = timesteps // self._interval
        with contextlib.closing(self._make_env()) as env:
            record(model, env, seed, self._folder / f"step-{timesteps:08d}.mp4", self._length, greedy)


def require_frames(env: gym.vector.VectorEnv) -> None:
    """Raises `UserError` if `env`, opened with `render_mode="rgb_array"`, gives no frames."""
    with _rendering_errors():
        env.reset()
        _frames(env)


def check_video_name(path: str) -> None:
    """Raises `UserError` if the suffix of `path` is not one of `VIDEO_SUFFIXES`."""
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        raise UserError(f"--video={path}: must end in {' or '.join(VIDEO_SUFFIXES)}")


def tile(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Returns frames [H, W, 3] side by side in a grid that is nearly square, of even height and width, uint8."""
    height, width = frames[0].shape[:2]
    columns = math.ceil(math.sqrt(len(frames)))
    rows = math.ceil(len(frames) / columns)
    grid = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, frame in enumerate(frames):
        top, left = height * (i // columns), width * (i % columns)
        grid[top : top + height, left : left + width] = frame
    if grid.shape[0] < _SMALL:
        grid = grid.repeat(2, axis=0).repeat(2, axis=1)
    return np.pad(grid, ((0, grid.shape[0] % 2), (0, grid.shape[1] % 2), (0, 0)))


def _frames(env: gym.vector.VectorEnv) -> list[np.ndarray]:
    frames = [frame for frame in env.render() or () if isinstance(frame, np.ndarray)]
    if not frames:
        raise UserError("this environment cannot be shown in a video: it gives no frames")
    return frames


@contextlib.contextmanager
def _rendering_errors() -> Iterator[None]:
    """Turns a missing graphics package into a `UserError` that says what to install."""
    try:
        yield
    except gym.error.DependencyNotInstalled as error:
        reason = " ".join(str(error).split())
        raise UserError(f"this environment cannot be shown: {reason}{or_extra(reason)}") from error


@contextlib.contextmanager
def _show_frames(env: gym.vector.VectorEnv, video: str | None) -> Iterator[Callable[[], None]]:
    """Gives a function to call after every step: it adds the frame to the video file, where there is one."""
    if video is None:
        yield lambda: None
        return
    check_video_name(video)
    target = Path(video).expanduser()

    with contextlib.ExitStack() as stack:
        with _writing(video):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(replacing(target, target.suffix))
            writer = _open_writer(Path(file.name), env.metadata.get("render_fps") or 30)
            stack.callback(_close_quietly, writer)

        def show() -> None:
            frame = tile(_frames(env))
            with _writing(video):
                writer.append_data(frame)

        yield show
        with _writing(video):
            writer.close()
            stack.close()


def _close_quietly(writer: Any) -> None:
    """Closes a writer that may be closed already, or broken."""
    with contextlib.suppress(OSError):
        writer.close()


@contextlib.contextmanager
def _writing(video: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"--video={video}: cannot be written: {error.strerror or error}") from error


def _open_writer(path: Path, fps: float) -> Any:
    import imageio.v2  # late: only videos need it

    if path.suffix.lower() == ".mp4":
        return imageio.v2.get_writer(path, fps=fps, macro_block_size=1)
    return imageio.v2.get_writer(path, duration=1000 / fps, loop=0)
