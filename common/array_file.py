"""The file format of checkpoints: named arrays and a JSON description.

A file is written atomically and loaded without unpickling. It is a zip archive that holds `meta.json` and then
uncompressed `.npy` entries, so `numpy.load(path)` opens it as well. The comment of the archive is the SHA-256 of all
bytes before it, so that a truncated file or a single changed byte is detected.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.atomic_file import StrPath, replacing
from common.errors import UserError, brief

FORMAT_VERSION = 1
_META = "meta.json"
_META_LIMIT = 4 * 2**20  # bytes; parsed into Python objects they can take twenty times as much memory
_DIRECTORY_LIMIT = 4 * 2**20  # bytes, for the same reason
_END = struct.Struct("<4s4H2LH")  # the end record of an archive; its sixth field is the length of the directory
_ZIP64_LOCATOR = 20  # bytes that precede the end record in archives above 4 GiB
_START = b"PK\x03\x04"
_DIGEST_LENGTH = hashlib.sha256().digest_size * 2
_NAME = re.compile(r"[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*")
_NAME_LIMIT = 1000  # characters
_DAMAGE: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, SyntaxError)
_DAMAGE += (MemoryError, zipfile.BadZipFile, NotImplementedError, struct.error, OverflowError)


def save(path: StrPath, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes `arrays` and `meta` to `path`. An existing file is replaced only when the new one is safely on disk.

    Args:
      path: any file name; missing folders are created.
      arrays: {name: array of numbers or booleans}. A name consists of words of letters, digits and `_.+-`, which are
        joined by `/`.
      meta: anything that JSON can represent.

    Raises:
      UserError: the file cannot be written. An existing file is then unchanged.
      ValueError: the name or the type of an array cannot be stored.
    """
    arrays = {name: np.asanyarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        _check_storable(name, array.dtype)

    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not os.path.isfile(target):
        raise UserError(f"checkpoint {path}: cannot be written: is not a regular file")

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            _write_archive(file, arrays, meta)
            _append_digest(file)
    except OSError as error:
        raise UserError(f"checkpoint {path}: cannot be written: {error.strerror}") from error


def load(path: StrPath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arrays and the meta of the checkpoint at `path`.

    It is safe to load files from strangers: nothing in the file is executed, and memory is bounded by the size of the
    file, whatever the file claims to hold.

    Raises:
      UserError: the file is missing, damaged, not a checkpoint, or of an unknown version.
    """
    with _open(path) as file, _read_errors(path):
        if not _digest_matches(file):
            raise UserError(f"checkpoint {path}: damaged or incomplete (its checksum does not match)")
        content = _read_meta(path, file)
        arrays = _read_arrays(file, content["arrays"])

    return arrays, content["meta"]


def load_meta(path: StrPath) -> dict[str, Any]:
    """Returns the meta of the checkpoint at `path` without reading its arrays.

    Raises:
      UserError: as for `load`.
    """
    with _open(path) as file, _read_errors(path):
        return _read_meta(path, file)["meta"]


@contextlib.contextmanager
def _read_errors(path: StrPath) -> Iterator[None]:
    """Turns errors of a damaged file or an unreadable disk into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"checkpoint {path}: cannot be read: {_reason(error)}") from error
    except _DAMAGE as error:
        raise UserError(f"checkpoint {path}: damaged: {_reason(error)}") from error


def _check_storable(name: str, dtype: np.dtype[Any]) -> None:
    if len(name) > _NAME_LIMIT or not _NAME.fullmatch(name) or ".." in name or name == _META:
        allowed = f"words of letters, digits and _.+- joined by /, at most {_NAME_LIMIT} characters together"
        raise ValueError(f"array name {brief(repr(name))}: must be {allowed}")
    if dtype.kind not in "biufc":
        raise ValueError(f"array {name}: dtype {dtype} is not a number or a boolean")


def _write_archive(file: BinaryIO, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    declared = {name: _declaration(array) for name, array in arrays.items()}
    content = {"format_version": FORMAT_VERSION, "arrays": declared, "meta": dict(meta)}

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_META, json.dumps(content, indent=1))
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
        archive.comment = b"0" * _DIGEST_LENGTH


def _declaration(array: np.ndarray) -> dict[str, Any]:
    """Returns what `meta.json` says of an array."""
    return {"shape": list(array.shape), "dtype": array.dtype.str}


def _append_digest(file: BinaryIO) -> None:
    digest = _digest(file)
    file.seek(-_DIGEST_LENGTH, os.SEEK_END)
    file.write(digest)


def _digest(file: BinaryIO) -> bytes:
    """Returns the SHA-256, in hexadecimal, of everything before the comment of the archive."""
    left = file.seek(0, os.SEEK_END) - _DIGEST_LENGTH
    file.seek(0)
    digest = hashlib.sha256()

    while left > 0:
        block = file.read(min(left, 2**20))
        if not block:
            break
        digest.update(block)
        left -= len(block)

    return digest.hexdigest().encode()


def _digest_matches(file: BinaryIO) -> bool:
    digest = _digest(file)
    return file.read(_DIGEST_LENGTH) == digest


def _open(path: StrPath) -> BinaryIO:
    try:
        if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for a writer
            raise OSError(0, "is a directory" if Path(path).is_dir() else "is not a regular file")
        file = Path(path).open("rb")  # noqa: SIM115 (closed by the caller)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint {path}: cannot be read: {_reason(error)}") from error

    with contextlib.ExitStack() as stack:
        stack.callback(file.close)
        with _read_errors(path):
            start = file.read(30 + len(_META))
        stack.pop_all()

    if not (start.startswith(_START) and start.endswith(_META.encode())):
        file.close()
        raise UserError(f"checkpoint {path}: not a checkpoint of this program")

    return file


def _read_meta(path: StrPath, file: BinaryIO) -> dict[str, Any]:
    try:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            content = json.loads(_entry(archive, archive.getinfo(_META), _META_LIMIT))
        version = content["format_version"]
        complete = isinstance(content["arrays"], dict) and isinstance(content["meta"], dict)
    except _DAMAGE as error:
        raise UserError(f"checkpoint {path}: damaged or incomplete: {_reason(error)}") from error

    if version != FORMAT_VERSION:
        raise UserError(
            f"checkpoint {path}: its format {brief(version)} is unknown; this program reads {FORMAT_VERSION}"
        )

    if not complete:
        raise UserError(f"checkpoint {path}: damaged: its description is not whole")

    return content


def _check_directory(file: BinaryIO) -> None:
    """Raises ValueError if the directory of the archive is larger than any that `save` writes.

    `zipfile` reads the directory as a whole, so its size has to be checked first.
    """
    size = file.seek(0, os.SEEK_END)
    start = size - _DIGEST_LENGTH - _END.size
    file.seek(max(start - _ZIP64_LOCATOR, 0))
    locator = file.read(min(start, _ZIP64_LOCATOR))
    end = file.read(_END.size)

    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise ValueError("it does not end as it should")

    is_zip64 = locator.startswith(b"PK\x06\x07")  # such an archive gives the length of its directory elsewhere
    if _END.unpack(end)[5] > _DIRECTORY_LIMIT or (is_zip64 and size < 2**32):
        raise ValueError("its directory is too large")


def _read_arrays(file: BinaryIO, declared: Mapping[str, Any]) -> dict[str, np.ndarray]:
    size = file.seek(0, os.SEEK_END)
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        if sum(info.file_size for info in entries.values()) > size:
            raise ValueError("its entries claim more than the file holds")
        if set(entries) != {_META, *(f"{name}.npy" for name in declared)}:
            raise ValueError("its entries are not the declared ones")

        for name, promise in declared.items():
            array = _read_array(_entry(archive, entries[f"{name}.npy"], size))
            _check_storable(name, array.dtype)
            if _declaration(array) != promise:
                raise ValueError(f"array {name} is not of its declared shape and type")
            arrays[name] = array

    return arrays


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Returns the bytes of an uncompressed entry of at most `limit` bytes. `zipfile` checks its CRC."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
        raise ValueError(f"entry {ascii(info.filename)[:60]} is compressed or too large")
    return archive.read(info)


def _read_array(data: bytes) -> np.ndarray:
    """Returns the array of a `.npy` file. Its header must announce exactly the bytes that follow."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an entry is not a version 1.0 .npy file")

    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    start = stream.tell()

    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biufc" or min(shape, default=0) < 0 or size != len(data) - start:
        raise ValueError("an array's size is not that of its data")

    flat = np.frombuffer(data, dtype, offset=start).copy()
    return flat.reshape(shape, order="F" if fortran else "C")


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return brief(" ".join(text.split()), 120)
