"""run.json: what is needed to repeat a run (command, settings and their origins, seed, versions, source).

When a new run starts in a log folder that is in use already, the logs of the earlier run are renamed first.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from baselines_acktr.agent.description import version_of
from common.appended_file import require_regular
from common.atomic_file import write_text
from common.errors import UserError

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "gymnasium", "ale-py", "mujoco", "mpi4py", "openmpi")
_LOG_NAMES = (("log", ".txt"), ("progress", ".csv"), ("progress", ".json"), ("tb", ""), ("wandb", ""))
LOGS: tuple[str, ...] = ("run.json", "*.monitor.csv", "evaluations.npz", "best.model")
LOGS += tuple(f"{name}{rank}{suffix}" for name, suffix in _LOG_NAMES for rank in ("", "-rank*"))
_SOURCE = Path(__file__).resolve().parents[2]


def collect(
    argv: Sequence[str], settings: Mapping[str, Any], origins: Mapping[str, str], seed: int, ranks: int = 1
) -> dict[str, Any]:
    """Returns the description of a run that starts now.

    Args:
      argv: the command line after the program's name.
      settings: {name: value} of every flag and hyperparameter as used.
      origins: {name: where its value came from}, such as "default" or "command line".
      seed: of the run, also when it was drawn.
      ranks: how many MPI ranks train together.
    """
    return {
        "command": ["run.py", *argv],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seed": seed,
        "ranks": ranks,
        "settings": {name: {"value": settings[name], "from": origins[name]} for name in sorted(settings)},
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git": git_state(_SOURCE),
    }


def versions() -> str:
    """Returns the versions of this program, of Python and of the packages that matter to a run, in a line each."""
    state = git_state(_SOURCE)
    commit = f" (commit {state['commit'][:12]}{', changed' if state['changed'] else ''})" if state else ""
    lines = [f"baselines_acktr {version_of('baselines_acktr') or 'not installed'}{commit}"]
    lines.append(f"Python {platform.python_version()}")
    return "\n".join(lines + [f"{name} {version_of(name)}" for name in PACKAGES])


def write(folder: Path, info: Mapping[str, Any]) -> Path:
    """Writes `info` to run.json in `folder` at once or not at all; an earlier run.json there is kept under its time."""
    path = folder / "run.json"
    if path.exists():
        os.replace(path, _free_name(folder, int(path.stat().st_mtime), ".json"))
    write_text(path, json.dumps(info, indent=2, default=str) + "\n")
    return path


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a log folder, which it creates; ends with the process, whatever becomes of it.

    Raises:
      UserError: another run is in it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            require_regular(folder / ".run.lock")
            file = stack.enter_context((folder / ".run.lock").open("a"))  # NFS locks no folder, and no file to be read
        except OSError as error:
            raise UserError(f"--log_path={folder}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"--log_path={folder}: another run is going on there; choose another folder") from error
        except OSError:
            pass  # a file system without locks: nobody is kept out
        yield


def set_aside(folder: Path) -> None:
    """Moves the logs of an earlier run in `folder`, where there are some, to a folder run-<time of their last change>.

    Raises:
      UserError: they cannot be moved.
    """
    found = sorted({path for pattern in LOGS for path in folder.glob(pattern)})
    if not found:
        return
    try:
        target = _free_name(folder, max(int(path.stat().st_mtime) for path in found), "")
        target.mkdir()
        for path in found:
            path.rename(target / path.name)
        print(f"an earlier run's logs are now in {target}", file=sys.stderr, flush=True)
    except OSError as error:
        raise UserError(f"--log_path={folder}: an earlier run's logs cannot be moved: {error.strerror}") from error


def git_state(folder: Path) -> dict[str, Any] | None:
    """Returns the commit of the source tree at `folder` and whether files differ from it; None where it is no clone."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def _free_name(folder: Path, seconds: int, ending: str) -> Path:
    stamp = datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d-%H-%M-%S")
    names = (folder / f"run-{stamp}{suffix}{ending}" for suffix in ("", *(f"-{k}" for k in range(1, 1000))))
    return next(name for name in names if not name.exists())
