"""Whether the files of a run can be written, checked before anything is built."""

from __future__ import annotations

import contextlib
import os
import tempfile

from baselines_acktr.agent.export_formats import check_export, find_format
from baselines_acktr.session.options import RunOptions
from baselines_acktr.session.settings import Settings
from common.errors import UserError, brief

_LONGEST_LOG = f"checkpoints/{'0' * 50}"  # file in a log folder


def check_files(settings: Settings) -> None:
    """Raises `UserError` if a file or folder of the run cannot be written; creates nothing."""
    options = settings.options
    if options.video is not None and not options.play:
        raise UserError(f"--video={options.video}: shows the replay, so it needs --play")
    if options.video is not None:
        from baselines_acktr.play import check_video_name  # late: Gymnasium

        check_video_name(options.video)
    for name in ("save_path", "video"):
        path = getattr(options, name)
        if path is not None:
            check_file(f"--{name}", path)
    _check_export(options)
    if options.log_path is not None:
        typed = settings.origins["log_path"] != "environment preset"
        argument = "--log_path" if typed else "OPENAI_LOGDIR"
        check_folder(argument, options.log_path, options.log_path, longest=_LONGEST_LOG)
    from common.logger import check_formats, default_formats, whole_formats  # late: rich and tqdm

    if options.log_format:
        check_formats(whole_formats(options.log_format, ()), "--log_format")
    else:
        check_formats(default_formats(), "OPENAI_LOG_FORMAT")
    for name, needs in (("play_episodes", "--play"), ("greedy", "--play or --save_video_interval")):
        if getattr(options, name) and not (options.play or (name == "greedy" and options.save_video_interval)):
            raise UserError(f"--{name}: has no effect without {needs}")
    for name in ("eval_episodes", "eval_sampled"):
        if settings.origins[name] == "command line" and not options.eval_interval:
            raise UserError(f"--{name}: has no effect without --eval_interval")
    if settings.origins["eval_interval"] == "command line" and options.num_timesteps == 0:
        raise UserError("--eval_interval: has no effect without training (--num_timesteps=0)")


def _check_export(options: RunOptions) -> None:
    """Raises `UserError` if the model cannot be exported as the options say."""
    if options.export is None:
        for name in ("export_format", "export_sample"):
            if getattr(options, name):
                raise UserError(f"--{name}: has no effect without --export")
        return
    format = find_format(options.export, options.export_format or None, "--export")
    check_export(options.export, format, "--export")
    check_folder("--export", options.export, os.path.dirname(options.export.rstrip(os.sep)))


def check_file(argument: str, path: str) -> None:
    """Raises unless a file can be written at `path`; `argument` is what it was given by, for the message."""
    if os.path.isdir(path) or path.endswith(os.sep):
        raise UserError(f"{argument}={path}: is a folder; must be a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{argument}={path}: is not a regular file")
    check_folder(argument, path, os.path.dirname(path))


def check_folder(argument: str, path: str, folder: str, longest: str = "") -> None:
    """Raises unless files can be made in `folder`, or in the nearest folder above it that exists.

    Args:
      argument: what `path` was given by, for the message.
      path: as given.
      folder: the one that files shall be in.
      longest: name, below `path`, that is as long as any of theirs.
    """
    folder = os.path.abspath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(os.path.join(path, longest) if longest else path)  # raises where a name is too long
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{argument}={brief(path, 300)}: cannot be written: {error.strerror}") from error
