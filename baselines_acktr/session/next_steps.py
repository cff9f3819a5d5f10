"""What a finished run tells its user: where the model is, and the commands to go on with."""

from __future__ import annotations

import shlex
from pathlib import Path

from baselines_acktr.session.settings import Settings
from baselines_acktr.session.usage import program


def next_steps(settings: Settings) -> list[str]:
    """Returns lines that say where the model is, and how to watch it, to go on training it and to plot its scores."""
    options = settings.options
    logs = settings.log_path
    model = options.save_path or (str(Path(logs, "checkpoints")) if options.keep else None)
    if model is None:
        lines = ["the model was not kept; --save_path=FILE keeps it"]
    else:
        watch = _command(program(), f"--load_path={options.save_path or logs}", *_named(settings), "--play")
        lines = [f"the model is in {model}", f"watch it:     {watch}"]
    if options.keep:
        longer = f"--num_timesteps={2 * options.num_timesteps}"
        lines.append(
            f"train longer: {_command(program(), f'--log_path={logs}', *_named(settings), '--resume', longer)}"
        )
    plot = _command("python -m common.plots", logs, f"--out={Path(logs, 'scores.png')}")
    return [*lines, f"plot scores:  {plot}"]


def _named(settings: Settings) -> list[str]:
    """Returns the flags whose modules a checkpoint alone does not import."""
    names = {"env": settings.env, "network": settings.network}
    modules = [f"--{flag}={name}" for flag, name in names.items() if ":" in name]
    kwargs = settings.options.env_kwargs
    return [*modules, f"--env_kwargs={kwargs}"] if kwargs else modules


def _command(program: str, *words: str) -> str:
    return f"{program} {shlex.join(words)}"
