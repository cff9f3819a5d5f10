"""Text files that grow by whole entries: the logs of a run, which a full disk or a resumed run may cut back."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def require_regular(path: Path) -> None:
    """Raises OSError for a folder, pipe or device in the place of a file; opening a pipe would wait for ever."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a regular file", str(path))


class AppendedFile:
    """A file that is continued, never overwritten; it has what `rich` needs of a stream.

    Each entry is on its way to the disk when `write` returns. One that cannot be written whole is not written at all.
    """

    def __init__(self, path: Path) -> None:
        """Opens or creates the file; raises OSError, also for what is no regular file."""
        require_regular(path)
        self._file = path.open("ab", buffering=0)

    @property
    def size(self) -> int:
        """Bytes written so far, by this and earlier runs."""
        return os.fstat(self._file.fileno()).st_size

    def write(self, text: str) -> int:
        """Adds an entry; raises OSError where there is no room for it, and leaves the file as it was."""
        before, data = self.size, text.encode()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            self.cut(before)
            raise
        return len(text)

    def cut(self, size: int) -> None:
        """Drops what lies beyond `size` bytes."""
        os.ftruncate(self._file.fileno(), min(size, self.size))

    def flush(self) -> None:
        """Nothing: there is no buffer."""

    def isatty(self) -> bool:
        """A file is no terminal."""
        return False

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._file.close()
