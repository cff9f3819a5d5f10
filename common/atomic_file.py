"""Files that are replaced whole: a reader finds the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

StrPath = str | os.PathLike[str]
_PREFIX_BYTES = 100  # of the file's own name


@contextlib.contextmanager
def replacing(path: StrPath, suffix: str = "") -> Iterator[BinaryIO]:
    """Gives an empty file, open for reading and writing, that takes the place of `path` at the end of the block.

    The new file lies beside the old one under a random name and is on the disk before it takes its place. When the
    block raises, the new file is removed and the old one stays as it was. A process that is killed leaves its new file
    behind; the next one that writes to the same path removes it.

    Args:
      path: any file name; where it is a link, the file that it leads to is replaced.
      suffix: what the random name ends in, for writers that look at it.

    Raises:
      OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    _remove_leftovers(target)
    aside = target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}.tmp{suffix}")

    with contextlib.ExitStack() as on_failure:
        with _create(aside) as file:
            on_failure.callback(aside.unlink, missing_ok=True)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
        on_failure.pop_all()
    _sync_folder(target.parent)


def write_text(path: StrPath, text: str) -> None:
    """Replaces the content of a file, in UTF-8; raises OSError, and then leaves it as it was."""
    with replacing(path) as file:
        file.write(text.encode())


def _create(path: Path) -> BinaryIO:
    """Opens a file that nobody has made before, and locks it while it is open."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = open(path, "wb+", opener=lambda name, _: os.open(name, flags, 0o666))  # noqa: SIM115 (closed by the caller)
    _try_lock(file)
    return file


def _prefix(target: Path) -> str:
    """Returns what the random name begins with: a part of a long name, as file systems limit them."""
    return f".{os.fsdecode(os.fsencode(target.name)[:_PREFIX_BYTES])}."


def _remove_leftovers(target: Path) -> None:
    """Removes files that killed processes have left: those beside `target` that nobody holds a lock on."""
    for name in glob.glob(f"{glob.escape(_prefix(target))}*.tmp*", root_dir=target.parent, include_hidden=True):
        path = target.with_name(name)
        with contextlib.suppress(OSError), os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "rb+") as file:
            if _try_lock(file):
                path.unlink()


def _try_lock(file: BinaryIO) -> bool:
    """Locks a file for as long as it is open; returns whether this could be done."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or the file system knows no locks
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
