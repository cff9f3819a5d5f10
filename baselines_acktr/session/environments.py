"""The environments of a run: those that it trains in, those that it plays in, and how many suit it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from baselines_acktr.session.settings import Settings
from common.process import tell_terminal

if TYPE_CHECKING:  # Gymnasium is imported late: --help is instant
    from common.vec_env.wrappers import SeededVectorEnv

FRAMES = {"render_mode": "rgb_array"}


def training_env(settings: Settings, rank: int = 0) -> SeededVectorEnv:
    """Opens the environments to train in; a single one, without monitor files, where nothing is to be trained."""
    options = settings.options
    if options.num_timesteps == 0:
        return make_env(settings, num_env=1)
    if rank == 0:
        tell_terminal(f"starting {settings.num_env} environments ...")
    return make_env(settings, settings.num_env, backend=options.env_backend, log_dir=settings.log_path, rank=rank)


def make_env(settings: Settings, num_env: int, **details: Any) -> SeededVectorEnv:
    """Opens environments of the run; `details` as for `make_vec_env`."""
    from common.vec_env import make_vec_env

    options = settings.options
    return make_vec_env(
        settings.env,
        num_env,
        settings.seed,
        frame_stack=options.frame_stack,
        reward_scale=options.reward_scale,
        pixels=options.pixels,
        env_kwargs=settings.env_kwargs,
        **details,
    )


def open_game(settings: Settings) -> Callable[[], SeededVectorEnv]:
    """Returns what opens the environments to play in."""
    render_mode = "rgb_array" if settings.options.video else "human" if in_window(settings) else None
    backend = "auto" if render_mode else settings.options.env_backend
    return functools.partial(make_env, settings, _num_games(settings), backend=backend, render_mode=render_mode)


def _num_games(settings: Settings) -> int:
    return settings.num_env if settings.origins["num_env"] == "command line" else 1


def in_window(settings: Settings) -> bool:
    """Returns whether the model is played in a window."""
    from common.vec_env.rendering import has_display

    options = settings.options
    alone = _num_games(settings) == 1 and not options.pixels
    return options.play and not options.video and alone and has_display()


def default_num_env(settings: Settings) -> int:
    """Returns how many environments suit the learner: more or fewer for Atari games than elsewhere."""
    from common.vec_env.ids import find_spec, is_atari

    return settings.config.default_num_env(is_atari(find_spec(settings.env)))
