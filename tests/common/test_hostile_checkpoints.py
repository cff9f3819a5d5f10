"""Claims about hostile checkpoints: each is refused in one line, in bounded memory and time, and executes nothing."""

from __future__ import annotations

import io
import os
import pickle
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile_files import small_model
from repository import ROOT

from common import array_file
from common.errors import UserError
from tests.common.test_array_file import Marker, forge, npy_header

MEMORY = 300 * 2**10  # KiB
ONE = {"a": {"shape": [1], "dtype": "<f8"}}


def numpy_pickle(folder: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Marker(folder / "executed")], dtype=object), allow_pickle=True)
    return stream.getvalue()


def write_hostile(folder: Path) -> dict[str, Path]:
    """Crafted files by name; where the format has a checksum, theirs is right."""
    paths = {}

    def add(name: str) -> Path:
        paths[name] = folder / name.replace(" ", "-")
        return paths[name]

    add("bare pickle").write_bytes(pickle.dumps(Marker(folder / "executed")))
    forge(add("pickle in an array"), {"a.npy": numpy_pickle(folder)}, ONE)
    forge(add("pickle beside the arrays"), {"a.pkl": pickle.dumps(Marker(folder / "executed"))}, {})
    data = npy_header("<f8", (1,)) + bytes(8)
    forge(add("path traversal"), {"../../executed.npy": data}, {"../../executed": ONE["a"]})
    forge(add("absolute path"), {"/tmp/executed.npy": data}, {"/tmp/executed": ONE["a"]})
    link = zipfile.ZipInfo("a.npy")
    link.external_attr = 0o120777 << 16
    forge(add("symbolic link"), {link: b"/etc/passwd"}, ONE)
    forge(add("10 GB shape"), {"a.npy": npy_header("<f8", (5 * 2**28,)) + bytes(8)}, ONE)
    huge = b"\0" * 2**28
    declared = {"a": {"shape": [2**28], "dtype": "|u1"}}
    forge(add("zip bomb"), {"a.npy": npy_header("|u1", (2**28,)) + huge}, declared, zipfile.ZIP_DEFLATED)
    forge(add("deep JSON"), {}, {}, content="[" * 10**6)
    forge(add("wide JSON"), {}, {}, content="[" + "[]," * 10**6 + "[]]")
    forge(add("many entries"), {f"{i}": b"" for i in range(200_000)}, {})
    forge(add("deep array header"), {"a.npy": npy_header("(" * 40 + "<f8" + ")" * 40, (1,))}, ONE)
    os.mkfifo(add("pipe"))
    add("link to a device").symlink_to("/dev/zero")
    add("link to a secret").symlink_to("/etc/passwd")
    return paths


LOADER = """
import resource, sys, time
from common import array_file
from common.errors import UserError

resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in sys.argv[1:]:
    start = time.process_time()
    for read in array_file.load, array_file.load_meta:
        try:
            read(path)
            line = "loaded"
        except UserError as error:
            line = str(error)
        print(read.__name__, f"{time.process_time() - start:.2f}", line, sep="\\t")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.reliability
def test_crafted_files_are_refused_in_one_line_below_300_mib(tmp_path):
    paths = write_hostile(tmp_path)
    argv = [sys.executable, "-c", LOADER, *map(str, paths.values())]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *lines, peak = done.stdout.splitlines()
    assert len(lines) == 2 * len(paths)
    for line, path in zip(lines[::2], paths.values(), strict=True):
        _, seconds, text = line.split("\t")
        assert f"checkpoint {path}: " in text
        assert float(seconds) < 10
    assert int(peak) < MEMORY
    assert not (tmp_path / "executed").exists()
    assert not Path("/tmp/executed.npy").exists()
    print(f"{len(paths)} files, at most {int(peak) / 1024:.0f} MiB")


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    start = time.monotonic()
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="is not a regular file"):
            array_file.load(path)
    assert time.monotonic() - start < 1


def test_a_directory_larger_than_any_of_ours_is_refused(tmp_path, monkeypatch):
    forge(tmp_path / "m", {f"{i}": b"" for i in range(100)}, {})
    monkeypatch.setattr(array_file, "_DIRECTORY_LIMIT", 1000)
    with pytest.raises(UserError, match="its directory is too large"):
        array_file.load(tmp_path / "m")


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.reliability)])
def test_random_bytes_are_refused(tmp_path, count):
    draw = random.Random(0)
    array_file.save(tmp_path / "good", {"a": np.ones(3)}, {})
    good = (tmp_path / "good").read_bytes()
    for i in range(count):
        noise = draw.randbytes(draw.randrange(2000))
        content = [noise, good[:39] + noise, noise + good[-100:], good[:50] + noise + good[-300:]][i % 4]
        (tmp_path / "m").write_bytes(content)
        for read in (array_file.load, array_file.load_meta):
            with pytest.raises(UserError) as caught:
                read(tmp_path / "m")
            assert "\n" not in str(caught.value)


def test_playing_opens_the_model_alone(tmp_path, monkeypatch):
    """What only resuming needs is not read by --load_path and --play."""
    from baselines_acktr.session.settling import settle

    opened = []
    original = array_file._open
    monkeypatch.setattr(array_file, "_open", lambda path: opened.append(str(path)) or original(path))
    array_file.save(tmp_path / "00000001.model", *small_model())
    (tmp_path / "00000001.run").write_bytes(pickle.dumps(Marker(tmp_path / "executed")))
    for path in (tmp_path / "00000001.model", tmp_path):
        settle({"load_path": str(path), "num_timesteps": 0, "play": True})
    assert set(opened) == {str(tmp_path / "00000001.model")}
    assert not (tmp_path / "executed").exists()
