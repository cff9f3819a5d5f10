"""Trains and replays agents from the command line.

python run.py --alg=acktr --env=SeaquestNoFrameskip-v4 --num_timesteps=1e7 --save_path=models/seaquest
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines_acktr.session import environments
from baselines_acktr.session.learners import LEARNERS, kind_of
from baselines_acktr.session.settings import FLAGS, Settings, check_files, settle
from common import cli
from common.errors import RunFailedError, UserError, one_line
from common.mpi import ALONE, Communicator, connect
from common.process import Interruption, output_closed, quiet_tensorflow, suit_tensorflow, tolerant_output

if TYPE_CHECKING:  # TensorFlow and Gymnasium are imported late: --help is instant and environment workers stay small
    import gymnasium as gym

    from baselines_acktr.agent.agent import Agent
    from baselines_acktr.session.checkpoints import CheckpointManager, SavedModel
    from common.logger import Logger
    from common.vec_env.wrappers import SeededVectorEnv

DESCRIPTION = "Trains and replays agents."
USAGE = """usage: python run.py --env=ID [--flag=value ...]

Train ACKTR on Seaquest and keep the result:
  python run.py --alg=acktr --env=SeaquestNoFrameskip-v4 --num_timesteps=1e7 --save_path=models/seaquest
Watch it:
  python run.py --load_path=models/seaquest --play --video=seaquest.mp4
All flags:
  python run.py --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0 done, 1 stopped by a bad number or a failed environment, 2 a
    mistake of the user, 128 + signal interrupted, or read no more (SIGPIPE)."""
    with tolerant_output():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        print(USAGE, file=sys.stderr)
        return 2
    if any(flag in argv for flag in cli.HELP_FLAGS):
        print(FLAGS.help("python run.py", "--env=ID [--flag=value ...]", DESCRIPTION))
        return 0
    try:
        comm = connect()
    except UserError as error:
        return explain(error, 0)
    with Interruption(quiet=comm.rank > 0) as interruption:
        try:
            return run(argv, interruption, comm)
        except (KeyboardInterrupt, SystemExit, Exception) as error:
            if isinstance(error, BrokenPipeError) and comm.size == 1:
                return output_closed()
            if comm.size > 1:
                return explain_to_ranks(error, interruption.signal, comm)
            return explain(error, interruption.signal)


def explain(error: BaseException, number: int, name: str = "run.py") -> int:
    """Prints in one line why a run ended, and returns its exit code; raises what is no mistake but a bug.

    What fails after a signal, of which `number` tells, is taken for its consequence: it may have gone to other
    processes, too.
    """
    known = isinstance(error, UserError | RunFailedError)
    reason = f": {error}" if known else ""
    if number or isinstance(error, KeyboardInterrupt):
        print(f"{name}: interrupted{reason}", file=sys.stderr)
        return 128 + (number or signal.SIGINT)
    if not known:
        raise error
    if isinstance(error, UserError):
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return 2
    print(f"{name}: stopped{reason}", file=sys.stderr)
    return 1


def explain_to_ranks(error: BaseException, number: int, comm: Communicator) -> int:
    """As `explain`, for what ends all ranks: rank 0 speaks where all know of it, else this one, and ends the others."""
    if getattr(error, "agreed", False):
        return explain(error, number) if comm.rank == 0 else 2 if isinstance(error, UserError) else 1
    name = f"run.py: rank {comm.rank}"
    try:
        code = explain(error, number, name)
    except BaseException as bug:
        traceback.print_exception(bug)
        print(f"{name}: failed: {type(bug).__name__}", file=sys.stderr)
        code = 1
    sys.stderr.flush()
    comm.abort(code)
    return code


def run(argv: Sequence[str], interruption: Interruption, comm: Communicator = ALONE) -> int:
    """Parses, builds the environments, learns and saves, plays."""
    with contextlib.ExitStack() as stack:
        settings, locked, model = set_up(argv, comm, stack)
        stack.callback(model.close)
        comm.on_root(lambda: take_log_folder(settings, stack, locked))
        env = stack.enter_context(comm.everywhere(lambda: environments.training_env(settings, comm.rank)))
        logger = stack.enter_context(open_logger(argv, settings, comm))
        keeper = stack.enter_context(open_keeper(settings, comm.rank))
        interruption.deferred = True
        train(model, env, settings, logger, keeper, after_update(settings, interruption, comm.rank))
        number = comm.max(interruption.signal)
        interruption.deferred = False
    if number:
        if comm.rank == 0:
            where = f", saved to {keeper.folder}: go on with --resume" if keeper else ""
            print(f"run.py: interrupted after {model.timesteps} timesteps{where}", file=sys.stderr)
        return 128 + number
    if settings.options.play and comm.rank == 0:
        replay(model, settings)
    return 0


def set_up(argv: Sequence[str], comm: Communicator, stack: contextlib.ExitStack) -> tuple[Settings, bool, Agent]:
    """Settles the flags in rank 0, and builds the model in all ranks; writes nothing but a lock, as `prepare`."""
    settled, locked = comm.on_root(lambda: prepare(argv, stack))
    settings, model = comm.everywhere(lambda: probe(settled, comm))
    return settings, locked, model


def prepare(argv: Sequence[str], stack: contextlib.ExitStack) -> tuple[Settings, bool]:
    """Settles the flags and looks at the files that they name; creates nothing.

    Returns:
      The settings, and whether the log folder is locked, until `stack` is left: that of a run to be resumed is before
      its newest checkpoint is chosen, as another process may still write one.
    """
    typed = FLAGS.parse(argv)
    folder = Path(typed.get("log_path") or os.environ.get("OPENAI_LOGDIR") or "").expanduser()
    locked = bool(typed.get("resume")) and folder != Path() and folder.is_dir()
    if locked:
        from baselines_acktr.session import run_info

        stack.enter_context(run_info.lock(folder))
    settings = settle(typed).preset(log_path=default_log_path())
    check_files(settings)
    return settings, locked


def take_log_folder(settings: Settings, stack: contextlib.ExitStack, locked: bool) -> None:
    """Keeps other runs out of the log folder until `stack` is left, where this one trains and it is not `locked` yet.

    The logs of an earlier run are moved out of the way of one that goes on with nothing.
    """
    from baselines_acktr.session import run_info

    options = settings.options
    if options.num_timesteps:
        if not locked:
            stack.enter_context(run_info.lock(Path(settings.log_path)))
        if not options.load_path:
            run_info.set_aside(Path(settings.log_path))
    elif not (options.play or options.save_path):
        print("nothing to do: --num_timesteps=0 without --play or --save_path", file=sys.stderr)


def probe(settings: Settings, comm: Communicator = ALONE) -> tuple[Settings, Agent]:
    """Opens one environment to see whether it can be learned and shown, before anything is written.

    Returns:
      The settings with the network that suits the observations, and the model, that of the checkpoint where there is
      one.

    Raises:
      UserError: no learner has its spaces, the network does not fit them, there are too few timesteps for one update,
        the checkpoint was trained on other spaces, or a video is wanted and there are no frames.
    """
    options = settings.options
    filmed = options.video or options.save_video_interval
    details: dict[str, Any] = environments.FRAMES if filmed else {"backend": options.env_backend}
    with environments.make_env(settings, 1, **details) as env:
        kind = kind_of(env.single_action_space, f"--env={settings.env}")
        observations = env.single_observation_space
        suit_tensorflow(observations)
        with quiet_tensorflow():
            model_class = LEARNERS[options.alg, kind].import_class()

        settings = settings.with_learner(kind, model_class.preset(observations))
        settings = settings.preset(
            network=model_class.default_network(observations), num_env=environments.default_num_env(settings)
        )
        _check_budget(settings, comm)
        if comm.rank == 0 and (names := settings.unknown_to_checkpoint()):
            print(f"the checkpoint is older than --{', --'.join(names)}: now as by default", file=sys.stderr)
        if settings.saved:
            _check_spaces(settings.saved, env)
        _check_shown(settings, env, comm.rank)

        return dataclasses.replace(settings, saved=None), _build(model_class, settings, env, comm)


def _check_shown(settings: Settings, env: SeededVectorEnv, rank: int) -> None:
    """Raises UserError where a video is wanted and there are no frames, or a window that cannot be opened."""
    from baselines_acktr.play import require_frames
    from common.vec_env.rendering import window_problem

    if settings.options.video or settings.options.save_video_interval:
        require_frames(env)
    elif rank == 0 and environments.in_window(settings):
        problem = window_problem(environments.open_game(settings))
        if problem:
            hint = "give --video=FILE.mp4, or unset DISPLAY to see the scores alone"
            raise UserError(f"--play: no window can be opened: {problem}; {hint}")


def _build(model_class: type[Agent], settings: Settings, env: gym.vector.VectorEnv, comm: Communicator) -> Agent:
    """Returns the model for an environment like `env`, restored where a checkpoint was read."""
    from baselines_acktr.session.loop import seed_global_generators

    spaces, env_id = (env.single_observation_space, env.single_action_space), env.spec.id if env.spec else None
    model = model_class(*spaces, settings.network, settings.config, settings.seed, env_id, comm)
    seed_global_generators(settings.seed, comm)
    if settings.saved:
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(model.close)
            model.restore(*settings.saved)
            on_failure.pop_all()
    return model


def train(
    model: Agent,
    env: SeededVectorEnv,
    settings: Settings,
    logger: Logger | None,
    keeper: CheckpointManager | None,
    callback: Callable[[Any], bool],
) -> None:
    """Trains the model for as long as the settings say."""
    from baselines_acktr.session.loop import Run, start

    options = settings.options
    start(
        model,
        env,
        Run(
            options.num_timesteps,
            logger,
            options.log_interval,
            options.save_path,
            keeper,
            callback,
            options.sync_check_interval,
            resumed=Path(settings.load_path) if options.resume else None,
        ),
    )


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
            print(f"run.py: a video of the training is missing: {error}", file=sys.stderr)
        return interruption.signal != 0

    return callback


def replay(model: Any, settings: Settings) -> None:
    """Plays the model in new environments, in a window where there is a display, or into the video."""
    from baselines_acktr.play import play
    from common.vec_env.rendering import has_display

    options = settings.options
    if not (options.video or has_display()):
        print("no display: scores only; --video=FILE.mp4 shows the games", file=sys.stderr)
    with environments.open_game(settings)() as env:
        play(model, env, settings.seed, options.play_episodes, options.greedy, options.video)


def open_logger(
    argv: Sequence[str], settings: Settings, comm: Communicator = ALONE
) -> contextlib.AbstractContextManager[Logger | None]:
    """Opens the log folder and writes its run.json; nothing where nothing is to be trained.

    Ranks above 0 have logs of their own if OPENAI_LOG_FORMAT_MPI names formats.
    """
    options = settings.options
    if options.num_timesteps == 0:
        return contextlib.nullcontext()
    from baselines_acktr.session import run_info
    from common.logger import Logger, default_formats

    if comm.rank:
        formats = default_formats(comm.rank)
        return Logger(settings.log_path, formats, comm.rank) if formats else contextlib.nullcontext()
    logger = Logger(settings.log_path, options.log_format or default_formats())
    info = run_info.collect(argv, settings.values(), settings.origins, settings.seed, comm.size)
    try:
        run_info.write(logger.folder, info)
    except OSError as error:
        logger.close()
        raise UserError(f"--log_path={settings.log_path}: run.json cannot be written: {error.strerror}") from error
    print(f"logging to {logger.folder}", flush=True)
    return logger


def open_keeper(settings: Settings, rank: int = 0) -> contextlib.AbstractContextManager[CheckpointManager | None]:
    """Opens the folder of the checkpoints, in the log folder; nothing where none are kept or nothing is trained.

    Rank 0 alone has it.
    """
    options = settings.options
    if options.num_timesteps == 0 or options.keep == 0 or rank:
        return contextlib.nullcontext()
    from baselines_acktr.session import checkpoints

    folder = Path(settings.log_path) / checkpoints.FOLDER
    start = int(Path(settings.load_path).stem) if options.resume else None
    return checkpoints.CheckpointManager(
        folder,
        keep=options.keep,
        every=options.keep_every,
        interval=options.save_interval,
        settings=settings.values(),
        start=start,
    )


def default_log_path() -> str:
    """Returns the log folder of OPENAI_LOGDIR, else a new temporary one."""
    from common.logger import default_folder

    return str(default_folder())


def _check_budget(settings: Settings, comm: Communicator) -> None:
    from baselines_acktr.session.loop import check_budget

    total, trained = settings.options.num_timesteps, settings.trained
    batch = settings.config.batch_size(settings.num_env * comm.size)
    if settings.options.resume and total < trained + batch:
        if comm.rank == 0:
            print(f"nothing is left to train: {trained} of {total} timesteps are done", file=sys.stderr)
    else:
        check_budget("--num_timesteps", total, trained, batch)


def _check_spaces(saved: SavedModel, env: gym.vector.VectorEnv) -> None:
    from baselines_acktr.agent import description

    observations, actions = env.single_observation_space, env.single_action_space
    description.check_compatible(saved.meta, saved.path, observation_space=observations, action_space=actions)


if __name__ == "__main__":
    sys.exit(main())
