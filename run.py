"""Trains and replays agents from the command line.

python run.py --alg=acktr --env=SeaquestNoFrameskip-v4 --num_timesteps=1e7 --save_path=models/seaquest
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines_acktr.settings import CONTINUOUS, DISCRETE, FLAGS, LEARNERS, Settings, check_files, settle
from common import cli
from common.errors import RunFailedError, UserError
from common.process import Interruption, num_processes, quiet_tensorflow

if TYPE_CHECKING:  # TensorFlow and Gymnasium are imported late: --help is instant and environment workers stay small
    import gymnasium as gym

    from baselines_acktr.keeper import Keeper
    from common.logger import Logger
    from common.vec_env.wrappers import SeededVectorEnv

FRAMES = {"render_mode": "rgb_array"}
DESCRIPTION = "Trains and replays agents."
USAGE = """usage: python run.py --env=ID [--flag=value ...]

Train ACKTR on Seaquest and keep the result:
  python run.py --alg=acktr --env=SeaquestNoFrameskip-v4 --num_timesteps=1e7 --save_path=models/seaquest
Watch it:
  python run.py --load_path=models/seaquest --num_timesteps=0 --play --video=seaquest.mp4
All flags:
  python run.py --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0 done, 1 stopped by a bad number or a failed environment, 2 a
    mistake of the user, 128 + signal interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        print(USAGE, file=sys.stderr)
        return 2
    if any(flag in argv for flag in cli.HELP_FLAGS):
        print(FLAGS.help("python run.py", "--env=ID [--flag=value ...]", DESCRIPTION))
        return 0
    with Interruption() as interruption:
        try:
            return run(argv, interruption)
        except (KeyboardInterrupt, Exception) as error:
            return explain(error, interruption)


def explain(error: BaseException, interruption: Interruption) -> int:
    """Prints in one line why a run ended, and returns its exit code; raises what is no mistake but a bug.

    What fails after a signal is taken for its consequence: it may have gone to other processes, too.
    """
    known = isinstance(error, UserError | RunFailedError)
    reason = f": {error}" if known else ""
    if interruption.signal or isinstance(error, KeyboardInterrupt):
        print(f"run.py: interrupted{reason}", file=sys.stderr)
        return 128 + (interruption.signal or signal.SIGINT)
    if not known:
        raise error
    if isinstance(error, UserError):
        print(f"run.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"run.py: stopped{reason}", file=sys.stderr)
    return 1


def run(argv: Sequence[str], interruption: Interruption) -> int:
    """Parses, builds the environments, learns and saves, plays."""
    _check_processes()
    settings = settle(FLAGS.parse(argv))
    check_files(settings.options)
    settings, learn = probe(settings.preset(log_path=default_log_path()))
    with training_env(settings) as env, open_logger(argv, settings) as logger, open_keeper(settings) as keeper:
        interruption.deferred = True
        model = learn(env=env, logger=logger, keeper=keeper, callback=after_update(settings, interruption))
        interruption.deferred = False
    if interruption.signal:
        where = f", saved to {keeper.folder}: go on with --resume" if keeper else ""
        print(f"run.py: interrupted after {model.timesteps} timesteps{where}", file=sys.stderr)
        return 128 + interruption.signal
    if settings.options.play:
        replay(model, settings)
    return 0


def training_env(settings: Settings) -> SeededVectorEnv:
    """Opens the environments to train in; a single one, without monitor files, where nothing is to be trained."""
    options = settings.options
    if options.num_timesteps == 0:
        return make_env(settings, num_env=1)
    return make_env(settings, settings.num_env, backend=options.env_backend, log_dir=settings.log_path)


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
        **details,
    )


def probe(settings: Settings) -> tuple[Settings, Callable[..., Any]]:
    """Opens one environment to see whether it can be learned and shown, before anything is written.

    Returns:
      The settings with the network that suits the observations, and `learn` of the algorithm with them filled in.

    Raises:
      UserError: no learner has its spaces, the network does not fit them, there are too few timesteps for one update,
        the checkpoint was trained on other spaces, or a video is wanted and there are no frames.
    """
    from baselines_acktr.play import require_frames

    options = settings.options
    videos = options.video or options.save_video_interval
    with make_env(settings, 1, **(FRAMES if videos else {})) as env:
        kind = _kind_of_actions(settings.env, env.single_action_space)
        with quiet_tensorflow():
            module = importlib.import_module(LEARNERS[options.alg, kind].module)
        model_class = getattr(module, LEARNERS[options.alg, kind].model)
        observations = env.single_observation_space
        settings = settings.with_learner(kind, model_class.preset(observations))
        settings = settings.preset(
            network=model_class.default_network(observations),
            num_env=default_num_env(settings),
        )
        _check_budget(settings)
        if options.load_path:
            _check_spaces(options.load_path, env)
        if videos:
            require_frames(env)
        _check_network(settings, env, model_class)
    return settings, functools.partial(module.learn, **_arguments(settings))


def _arguments(settings: Settings) -> dict[str, Any]:
    """Returns the arguments of `learn` that are settings."""
    names = ("network", "seed", "log_interval", "save_path", "load_path", "resume")
    named = {name: getattr(settings.options, name) for name in names}
    return named | dataclasses.asdict(settings.config) | {"total_timesteps": settings.options.num_timesteps}


def after_update(settings: Settings, interruption: Interruption) -> Callable[[Any], bool]:
    """Returns what the learner calls after every update: it records videos, and stops an interrupted run.

    A video that cannot be written is reported and left out: it is no reason to lose the training.
    """
    from baselines_acktr.play import TrainingVideos

    options = settings.options
    videos = TrainingVideos(
        functools.partial(make_env, settings, 1, **FRAMES),
        Path(settings.log_path) / "videos",
        options.save_video_interval,
        options.save_video_length,
        start=settings.trained,
    )

    def callback(model: Any) -> bool:
        try:
            videos.maybe(model, model.timesteps, settings.seed, options.greedy)
        except UserError as error:
            print(f"run.py: a video of the training is missing: {error}", file=sys.stderr)
        return interruption.signal != 0

    return callback


def replay(model: Any, settings: Settings) -> None:
    """Plays the model in new environments, in a window where there is a display, or into the video."""
    from baselines_acktr.play import has_display, play

    options = settings.options
    num_env = settings.num_env if settings.origins["num_env"] == "command line" else 1
    render_mode = "rgb_array" if options.video else "human" if num_env == 1 and has_display() else None
    backend = "auto" if render_mode else options.env_backend
    with make_env(settings, num_env, backend=backend, render_mode=render_mode) as env:
        play(model, env, settings.seed, options.play_episodes, options.greedy, options.video)


def open_logger(argv: Sequence[str], settings: Settings) -> contextlib.AbstractContextManager[Logger | None]:
    """Opens the log folder and writes its run.json; nothing where nothing is to be trained."""
    options = settings.options
    if options.num_timesteps == 0:
        return contextlib.nullcontext()
    from baselines_acktr import run_info
    from common.logger import Logger, default_formats

    logger = Logger(settings.log_path, options.log_format or default_formats())
    run_info.write(logger.folder, run_info.collect(argv, settings.values(), settings.origins, settings.seed))
    print(f"logging to {logger.folder}", flush=True)
    return logger


def open_keeper(settings: Settings) -> contextlib.AbstractContextManager[Keeper | None]:
    """Opens the folder of the checkpoints, in the log folder; nothing where none are kept or nothing is trained."""
    options = settings.options
    if options.num_timesteps == 0 or options.keep == 0:
        return contextlib.nullcontext()
    from baselines_acktr import keeper

    folder = Path(settings.log_path) / keeper.FOLDER
    start = int(Path(settings.load_path).stem) if options.resume else None
    return keeper.Keeper(
        folder,
        keep=options.keep,
        every=options.keep_every,
        interval=options.save_interval,
        settings=settings.values(),
        start=start,
    )


def default_num_env(settings: Settings) -> int:
    """Returns how many environments suit the learner: more or fewer for Atari games than elsewhere."""
    from common.vec_env.ids import find_spec, is_atari

    config = settings.config
    return config.num_env_atari if is_atari(find_spec(settings.env)) else config.num_env


def default_log_path() -> str:
    """Returns the log folder of OPENAI_LOGDIR, else a new temporary one."""
    from common.logger import default_folder

    return str(default_folder())


def _check_processes() -> None:
    if (size := num_processes()) > 1:
        raise UserError(
            f"mpirun -n {size}: this version trains in one process, {size} would overwrite each other's files; start "
            "it without mpirun or srun, or with -n 1"
        )


def _kind_of_actions(env_id: str, space: gym.Space) -> str:
    from gymnasium.spaces import Box, Discrete, MultiDiscrete

    if isinstance(space, Discrete | MultiDiscrete):
        return DISCRETE
    if isinstance(space, Box):
        return CONTINUOUS
    raise UserError(f"--env={env_id}: its actions are {type(space).__name__}; must be Discrete, MultiDiscrete or Box")


def _check_budget(settings: Settings) -> None:
    total, trained = settings.options.num_timesteps, settings.trained
    batch = settings.config.batch_size(settings.num_env)
    if settings.options.resume and total < trained + batch:
        print(f"nothing is left to train: {trained} of {total} timesteps are done", file=sys.stderr)
    elif 0 < total < trained + batch:
        done = f"the checkpoint's {trained} timesteps, which count, plus " if trained else ""
        raise UserError(f"--num_timesteps={total}: must be 0, or at least {done}one batch of {batch}")


def _check_network(settings: Settings, env: gym.vector.VectorEnv, model_class: type) -> None:
    """Builds the model once; mistakes inside a network of the user's own keep their traceback."""
    name, space = settings.network, env.single_observation_space
    try:
        model_class(space, env.single_action_space, name, settings.config, settings.seed).close()
    except UserError:
        raise
    except ValueError as error:
        if ":" in name:
            raise
        raise UserError(
            f"--network={name}: its sizes do not fit observations of shape {space.shape}: {error}"
        ) from error


def _check_spaces(path: str, env: gym.vector.VectorEnv) -> None:
    from baselines_acktr import checkpoint

    checkpoint.check_compatible(
        checkpoint.load_meta(path),
        path,
        observation_space=env.single_observation_space,
        action_space=env.single_action_space,
    )


if __name__ == "__main__":
    sys.exit(main())
