"""The log folder of a run: who may write to it, its logs and its checkpoints."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from baselines_acktr.session.settings import Settings
from common.errors import UserError
from common.mpi import ALONE, Communicator

if TYPE_CHECKING:  # NumPy and rich are imported late: --help is instant
    from baselines_acktr.session.checkpoints import CheckpointManager
    from common.logger import Logger


def take(settings: Settings, stack: contextlib.ExitStack, locked: bool) -> None:
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
    elif not (options.play or options.save_path or options.export):
        print("nothing to do: --num_timesteps=0 without --play, --save_path or --export", file=sys.stderr)


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
    told = sys.stdout.isatty() and sys.stderr.isatty()  # a terminal has heard of the folder first (session/setup.py)
    folder = "" if told else f"logging to {logger.folder}; "
    print(f"{folder}the first update compiles, which may take a minute ...", flush=True)
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
        best=None if options.eval_interval else Path(settings.log_path) / checkpoints.BEST,
        start=start,
    )
