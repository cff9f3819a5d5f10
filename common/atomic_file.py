"""Files that are replaced as a whole: a reader sees either the old content or the new one, never a part of it."""

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
_PREFIX_BYTES = 100  # how much of the file's own name the random name repeats


@contextlib.contextmanager
def replacing(path: StrPath, suffix: str = "") -> Iterator[BinaryIO]:
    """A context manager that yields an empty file, which replaces `path` at the end of the block.

    The new file lies in the same folder under a random name, and it is safely on disk before it is renamed to `path`.
    If the block raises, the new file is removed and the old one stays unchanged. A killed process leaves its new file
    behind; the next process that writes to the same path removes it.

    Args:
      path: any file name. If it is a symbolic link, the file that it points to is replaced.
      suffix: ending of the random name, for libraries that derive the format from it.

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
    """Replaces the content of a file with `text` in UTF-8.

    Raises:
      OSError: the file cannot be written. Its old content is then unchanged.
    """
    with replacing(path) as file:
        file.write(text.encode())


def _create(path: Path) -> BinaryIO:
    """Creates a new file and locks it for as long as it is open."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = open(path, "wb+", opener=lambda name, _: os.open(name, flags, 0o666))  # noqa: SIM115 (closed by the caller)
    _try_lock(file)
    return file


def _prefix(target: Path) -> str:
    """Returns the beginning of the random name. A long file name is shortened, as file systems limit its length."""
    return f".{os.fsdecode(os.fsencode(target.name)[:_PREFIX_BYTES])}."


def _remove_leftovers(target: Path) -> None:
    """Removes the unfinished files of killed processes: those next to `target` that no process holds a lock on."""
    pattern = f"{glob.escape(_prefix(target))}*.tmp*"
    for name in glob.glob(pattern, root_dir=target.parent, include_hidden=True):
        path = target.with_name(name)
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb+") as file:
                if _try_lock(file):
                    path.unlink()


def _try_lock(file: BinaryIO) -> bool:
    """Locks a file for as long as it is open, and returns whether that succeeded."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds the lock, or the file system has no locks
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
