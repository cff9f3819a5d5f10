"""Claims about files that are replaced whole."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from common.atomic_file import replacing, replacing_folder, write_text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file.txt").write_text("old")
    return tmp_path / "file.txt"


def names(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def test_the_old_content_is_there_until_the_block_ends(path):
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(path) == ["file.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_alone(path, error):
    with pytest.raises(error), replacing(path) as file:
        file.write(b"new")
        raise error
    assert (path.read_text(), names(path)) == ("old", ["file.txt"])


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_file_alone(path, step, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert (path.read_text(), names(path)) == ("old", ["file.txt"])


def test_two_writers_at_once_do_not_touch_each_others_files(path):
    with replacing(path) as first, replacing(path) as second:
        first.write(b"first")
        second.write(b"second")
        assert len(names(path)) == 3
    assert (path.read_text(), names(path)) == ("first", ["file.txt"])


def test_a_link_that_lies_in_wait_is_not_followed(path, monkeypatch):
    victim = path.with_name("victim")
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda size: "known")
    path.with_name(".file.txt.known.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(path, "new")
    assert (victim.read_text(), path.read_text()) == ("precious", "old")


def test_what_a_killed_process_left_is_removed_by_the_next(path):
    path.with_name(".file.txt.0123456789abcdef.tmp").write_text("half")
    path.with_name(".other.txt.0123456789abcdef.tmp").write_text("half")
    write_text(path, "new")
    assert names(path) == [".other.txt.0123456789abcdef.tmp", "file.txt"]


def test_a_link_is_kept_and_what_it_leads_to_replaced(path):
    link = path.with_name("link")
    link.symlink_to(path)
    write_text(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"


def test_the_file_can_be_read_by_whom_the_umask_lets(path):
    before = os.umask(0o027)
    try:
        write_text(path, "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    return tmp_path / "model"


def test_a_folder_is_replaced_at_the_end_of_the_block_with_all_that_is_in_it(folder):
    with replacing_folder(folder) as new:
        (new / "variables").mkdir()
        (new / "variables" / "data").write_text("new")
        assert os.listdir(folder) == ["old"]
    assert os.listdir(folder) == ["variables"]
    assert (folder / "variables" / "data").read_text() == "new"
    assert names(folder) == ["model"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_folder_alone(folder, error):
    with pytest.raises(error), replacing_folder(folder) as new:
        (new / "data").write_text("new")
        raise error
    assert (os.listdir(folder), names(folder)) == (["old"], ["model"])


def test_a_folder_that_cannot_be_put_in_its_place_leaves_the_old_one_there(folder):
    with pytest.raises(OSError), replacing_folder(folder) as new:
        shutil.rmtree(new)
    assert (os.listdir(folder), names(folder)) == (["old"], ["model"])


def test_a_link_to_a_folder_stays_a_link(folder):
    link = folder.with_name("newest")
    link.symlink_to("model")
    with replacing_folder(link) as new:
        (new / "data").write_text("new")
    assert link.is_symlink()
    assert os.listdir(folder) == ["data"]


def test_folders_of_killed_processes_are_removed_and_those_of_living_ones_stay(folder):
    killed = folder.with_name(".model.0123456789abcdef.tmp")
    killed.mkdir()
    (killed / "data").write_text("half")
    with replacing_folder(folder) as other:
        with replacing_folder(folder) as new:
            (new / "first").write_text("")
        assert other.is_dir() and not killed.exists()
        (other / "second").write_text("")
    assert (os.listdir(folder), names(folder)) == (["second"], ["model"])


@pytest.mark.parametrize("where", ["", ".", "..", "below/.."])
def test_the_folder_that_a_process_works_in_is_not_replaced(tmp_path, monkeypatch, where):
    (tmp_path / "work" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(OSError, match="busy"), replacing_folder(where):
        raise AssertionError
    assert os.listdir() == ["below"]
