"""Tests of the file of a checkpoint."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repository import ROOT

from common import array_file
from common.errors import UserError


def arrays() -> dict[str, np.ndarray]:
    return {
        "policy/conv1/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "transposed": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "flags": np.array([True, False]),
        "counter": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.uint8),
        "not_finite": np.array([np.nan, np.inf]),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    array_file.save(tmp_path / "model", arrays(), {"note": "ä", "n": 1})
    return tmp_path / "model"


def test_what_is_saved_is_loaded_bit_for_bit(path):
    loaded, meta = array_file.load(path)
    assert meta == {"note": "ä", "n": 1} == array_file.load_meta(path)
    assert loaded.keys() == arrays().keys()
    for name, array in arrays().items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].flags.writeable
        np.testing.assert_array_equal(loaded[name], array)


def test_numpy_alone_opens_a_checkpoint(path):
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["policy/conv1/kernel"], arrays()["policy/conv1/kernel"])


def test_exactly_the_given_path_is_written_and_folders_are_made(tmp_path):
    array_file.save(tmp_path / "a" / "b" / "model.v1", {}, {})
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["model.v1"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    array_file.save(tmp_path / "link", {"a": np.ones(1)}, {})
    assert (tmp_path / "link").is_symlink()
    assert array_file.load(tmp_path / "target")[0]["a"] == 1


def test_every_flipped_byte_is_noticed(path, tmp_path):
    content = path.read_bytes()
    damaged = tmp_path / "damaged"
    for offset in {*range(0, len(content), 37), len(content) - 1}:
        damaged.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        with pytest.raises(UserError, match="damaged"):
            array_file.load(damaged)


def test_every_truncation_is_noticed(path, tmp_path):
    content = path.read_bytes()
    damaged = tmp_path / "damaged"
    for length in range(0, len(content), 101):
        damaged.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"damaged|not a checkpoint"):
            array_file.load(damaged)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "not a checkpoint"), (b"hello", "not a checkpoint"), (b"PK\x03\x04", "not a check")],
)
def test_other_files_are_refused_in_one_line_with_their_name(tmp_path, content, message):
    path = tmp_path / "model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        array_file.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="directory"):
        array_file.load(tmp_path)


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(array_file, "FORMAT_VERSION", 2)
    array_file.save(tmp_path / "model", {}, {})
    monkeypatch.undo()
    with pytest.raises(UserError, match="format 2 is unknown; this program reads 1"):
        array_file.load(tmp_path / "model")


def forge(
    path: Path,
    entries: dict[str, bytes],
    declared: dict,
    compress: int = zipfile.ZIP_STORED,
    content: str | None = None,
) -> None:
    """Writes an archive with a correct checksum from arbitrary entries and, if given, an arbitrary description."""
    content = content or json.dumps({"format_version": array_file.FORMAT_VERSION, "arrays": declared, "meta": {}})
    with path.open("wb+") as file:
        with zipfile.ZipFile(file, "w", compress) as archive:
            archive.writestr(zipfile.ZipInfo("meta.json"), content)
            for name, data in entries.items():
                archive.writestr(name, data, compress_type=compress)
            archive.comment = b"0" * 64
        array_file._append_digest(file)


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


class Marker:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(tmp_path):
    payload = pickle.dumps(Marker(tmp_path / "executed"))
    for descr, shape in (("|O", (1,)), ("<f8", (1,))):
        forge(tmp_path / "m", {"a.npy": npy_header(descr, shape) + payload}, {"a": {"shape": [1], "dtype": descr}})
        with pytest.raises(UserError, match="damaged"):
            array_file.load(tmp_path / "m")
    (tmp_path / "m").write_bytes(payload)
    with pytest.raises(UserError, match="not a checkpoint"):
        array_file.load(tmp_path / "m")
    assert not (tmp_path / "executed").exists()


def test_a_huge_declared_shape_takes_no_memory(tmp_path):
    data = npy_header("<f8", (2**40,)) + b"\0" * 8
    forge(tmp_path / "m", {"a.npy": data}, {"a": {"shape": [2**40], "dtype": "<f8"}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="size"):
        array_file.load(tmp_path / "m")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_compressed_entries_are_refused(tmp_path):
    data = npy_header("|u1", (2**20,)) + b"\0" * 2**20
    forge(tmp_path / "m", {"a.npy": data}, {"a": {"shape": [2**20], "dtype": "|u1"}}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"compressed|more than the file"):
        array_file.load(tmp_path / "m")


def test_a_forged_file_without_faults_is_loaded(tmp_path):
    data = npy_header("|u1", (2,)) + b"\1\2"
    forge(tmp_path / "m", {"a.npy": data}, {"a": {"shape": [2], "dtype": "|u1"}})
    np.testing.assert_array_equal(array_file.load(tmp_path / "m")[0]["a"], [1, 2])


def test_entries_that_are_not_declared_are_refused(tmp_path):
    data = npy_header("|u1", (1,)) + b"\0"
    forge(tmp_path / "m", {"a.npy": data, "../evil.npy": data}, {"a": {"shape": [1], "dtype": "|u1"}})
    with pytest.raises(UserError, match="not the declared ones"):
        array_file.load(tmp_path / "m")
    forge(tmp_path / "m", {"../evil.npy": data}, {"../evil": {"shape": [1], "dtype": "|u1"}})
    with pytest.raises(UserError, match="array name"):
        array_file.load(tmp_path / "m")


def test_a_deeply_nested_description_is_refused(tmp_path):
    forge(tmp_path / "m", {}, {}, content="[" * 100_000)
    with pytest.raises(UserError, match="damaged"):
        array_file.load(tmp_path / "m")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), start=st.booleans())
def test_arbitrary_bytes_are_refused(tmp_path, data, start):
    prefix = b"PK\x03\x04" + b"\0" * 26 + b"meta.json" if start else b""
    (tmp_path / "m").write_bytes(prefix + data)
    for read in (array_file.load, array_file.load_meta):
        with pytest.raises(UserError):
            read(tmp_path / "m")


@pytest.mark.parametrize("name", ["", "/a", "a/", "../a", "a/../b", "a\\b", "a b", "a\n"])
def test_names_that_are_no_plain_paths_cannot_be_saved(tmp_path, name):
    with pytest.raises(ValueError, match="array name"):
        array_file.save(tmp_path / "m", {name: np.ones(1)}, {})


def test_objects_cannot_be_saved_and_the_old_file_stays(path):
    with pytest.raises(ValueError, match="not a number"):
        array_file.save(path, {"a": np.array([object()])}, {})
    assert array_file.load(path)[1]["n"] == 1


KILLED_WRITER = """
import os, signal, sys
import numpy as np
from common import array_file

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

where, path = sys.argv[1:]
new = {"a": np.ones(1000), "b": np.ones(1000)}
if where == "second array":
    original = np.lib.format.write_array
    def write(file, array, **options):
        original(file, array, **options) if not write.calls else die()
        write.calls += 1
    write.calls = 0
    np.lib.format.write_array = write
else:
    setattr(os, where, die)
array_file.save(path, new, {"n": 2})
"""


@pytest.mark.parametrize("where", ["second array", "fsync", "replace"])
def test_the_old_file_is_intact_after_a_kill_during_a_save(path, where):
    result = subprocess.run([sys.executable, "-c", KILLED_WRITER, where, str(path)], cwd=ROOT, check=False)
    assert result.returncode == -signal.SIGKILL
    assert array_file.load(path)[1]["n"] == 1
    array_file.save(path, {"a": np.zeros(1)}, {"n": 3})
    assert array_file.load(path)[1]["n"] == 3
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_behind(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            array_file.save(path, {"a": np.ones(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert array_file.load(path)[1]["n"] == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made_is_named(path):
    with pytest.raises(UserError, match=r"model/below: cannot be written"):
        array_file.save(path / "below", {}, {})


@pytest.mark.parametrize("place", ["/dev/null", "."])
def test_what_is_no_file_is_not_replaced(place):
    with pytest.raises(UserError, match="not a regular file"):
        array_file.save(place, {}, {})
