"""Files and folders that are replaced as a whole: a reader sees the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import shutil
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

    _sync(target.parent)


@contextlib.contextmanager
def replacing_folder(path: StrPath) -> Iterator[Path]:
    """A context manager that yields an empty folder, which replaces the folder `path` at the end of the block.

    It is as `replacing`, but for one difference: a folder cannot be renamed to one that has files. The old one is
    renamed out of the way first, so that for an instant there is none, and removed afterwards.

    Args:
      path: any name. If it is a symbolic link, the folder that it points to is replaced.

    Raises:
      OSError: the folder cannot be written, or this process works in it.
    """
    target = Path(os.path.realpath(path))
    if _works_in(target):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
    _remove_leftovers(target)
    aside = target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}.tmp")
    old = aside.with_suffix(".old.tmp")

    with contextlib.ExitStack() as on_failure:
        aside.mkdir()
        on_failure.callback(shutil.rmtree, aside, ignore_errors=True)
        with _locked_folder(aside):
            yield aside
            for place in aside.rglob("*"):
                _sync(place)
            _sync(aside)
            if target.exists():
                target.rename(old)
                on_failure.callback(old.rename, target)
            aside.rename(target)
            on_failure.pop_all()

    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _works_in(folder: Path) -> bool:
    """Whether a folder is this process's own, or above it."""
    try:
        return Path.cwd().is_relative_to(folder)
    except FileNotFoundError:  # its own was deleted
        return False


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
    _try_lock(file.fileno())
    return file


def _prefix(target: Path) -> str:
    """Returns the beginning of the random name. A long file name is shortened, as file systems limit its length."""
    return f".{os.fsdecode(os.fsencode(target.name)[:_PREFIX_BYTES])}."


def _remove_leftovers(target: Path) -> None:
    """Removes what killed processes left unfinished: what lies next to `target` and no process holds a lock on."""
    pattern = f"{glob.escape(_prefix(target))}*.tmp*"
    for name in glob.glob(pattern, root_dir=target.parent, include_hidden=True):
        path = target.with_name(name)
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                with _locked_folder(path) as free:
                    if free:
                        shutil.rmtree(path)
                continue
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb+") as file:
                if _try_lock(file.fileno()):
                    path.unlink()


@contextlib.contextmanager
def _locked_folder(path: Path) -> Iterator[bool]:
    """Locks a folder in a block, and yields whether that succeeded."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Locks a file or folder for as long as it is open, and returns whether that succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds the lock, or the file system has no locks
        return False
    return True


def _sync(path: Path) -> None:
    """Returns once a file or folder is safely on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
