"""What is done with the model: videos and evaluations during training; its replay and its export afterwards."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines_acktr.session import environments
from baselines_acktr.session.settings import Settings
from baselines_acktr.session.usage import speaker
from common.errors import UserError
from common.process import Interruption

if TYPE_CHECKING:  # Gymnasium is imported late: --help is instant
    from baselines_acktr.callbacks import Callback
    from common.vec_env.wrappers import SeededVectorEnv


def check_shown(settings: Settings, env: SeededVectorEnv, rank: int) -> None:
    """Raises UserError where a video is wanted and there are no frames, or a window that cannot be opened."""
    from baselines_acktr.play import require_frames
    from common.vec_env.rendering import window_problem

    if settings.options.video or settings.options.save_video_interval:
        try:
            require_frames(env)
        except UserError as error:
            flag = "--video" if settings.options.video else "--save_video_interval"
            raise UserError(f"{flag}: {error}") from error
    elif rank == 0 and environments.in_window(settings):
        problem = window_problem(environments.open_game(settings))
        if problem:
            hint = "give --video=FILE.mp4, or unset DISPLAY to see the scores alone"
            raise UserError(f"--play: no window can be opened: {problem}; {hint}")


def after_update(settings: Settings, interruption: Interruption, rank: int = 0) -> Callable[[Any], bool]:
    """Returns what the learner calls after every update: it records videos (in rank 0), and stops an interrupted run.

    A video that cannot be written is reported and left out: it is no reason to lose the training.
    """
    from baselines_acktr.play import TrainingVideos

    options = settings.options
    videos = TrainingVideos(
        functools.partial(environments.make_env, settings, 1, **environments.FRAMES),
        Path(settings.log_path) / "videos",
        options.save_video_interval if rank == 0 else 0,
        options.save_video_length,
        start=settings.trained,
    )

    def callback(model: Any) -> bool:
        try:
            videos.maybe(model, model.timesteps, settings.seed, options.greedy)
        except UserError as error:
            print(f"{speaker()}: a video of the training is missing: {error}", file=sys.stderr)
        return interruption.signal != 0

    return callback


def evaluation(settings: Settings) -> Callback:
    """Returns what evaluates the model during training, as --eval_interval says; nothing where that is 0."""
    from baselines_acktr.callbacks import Callbacks, EvalCallback

    options = settings.options
    if not options.eval_interval:
        return Callbacks()
    num_env = min(options.eval_episodes, settings.num_env)
    return EvalCallback(
        functools.partial(environments.make_env, settings, num_env, backend=options.env_backend),
        options.eval_interval,
        options.eval_episodes,
        greedy=not options.eval_sampled,
        folder=settings.log_path,
    )


def replay(model: Any, settings: Settings) -> None:
    """Plays the model in new environments, in a window where there is a display, or into the video."""
    from baselines_acktr.play import play
    from common.vec_env.rendering import has_display

    options = settings.options
    if not (options.video or has_display()):
        print("no display: scores only; --video=FILE.mp4 shows the games", file=sys.stderr)
    with environments.open_game(settings)() as env:
        play(model, env, settings.seed, options.play_episodes, options.greedy, options.video)
    if options.video:
        print(f"the video is {options.video}", file=sys.stderr)


def deploy(model: Any, settings: Settings) -> None:
    """Writes the model for other programs."""
    options = settings.options
    model.export(options.export, options.export_format or None, deterministic=not options.export_sample)
    print(f"exported to {options.export}", file=sys.stderr)
