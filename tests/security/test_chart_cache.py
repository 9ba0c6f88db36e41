"""A cache of charts in a folder that others can write to: what they put there is not believed, waited for or read."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import numpy as np
import pytest

from chartqa_ft.files import is_mine, open_regular, read_json, read_regular, write_whole
from chartqa_ft.images.cache import ChartCache, open_chart_cache
from chartqa_ft.reporting.pictures import draw_answers

from ..images.files import noise

SETTINGS, OTHER = "1" * 32, "2" * 32


def picture(value: int, height: int = 8, width: int = 16) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def entry_of(folder: Path) -> Path:
    (entry,) = (path for path in folder.rglob("*") if len(path.name) == 38)
    return entry


@pytest.fixture
def cached(tmp_path) -> tuple[ChartCache, Path]:
    """A cache with one chart of ours, whose pixels are 1, and the path of its entry."""
    cache = ChartCache(tmp_path / "charts", 10**6)
    cache.picture(SETTINGS, [b"chart"], lambda: picture(1))
    return cache, entry_of(tmp_path)


def found(cache: ChartCache, **settings) -> int:
    """What the cache returns: 1 for our entry, 2 where the chart was resized again."""
    result = cache.picture(SETTINGS, [b"chart"], lambda: picture(2), **settings)
    assert result.shape == (8, 16, 3)
    return int(result[0, 0, 0])


def planted(entry: Path, value: int, **size) -> None:
    """Another chart in the place of an entry, with a valid name and checksum."""
    entry.unlink()
    ChartCache(entry.parents[2], 10**6).picture(SETTINGS, [b"chart"], lambda: picture(value, **size))


def is_root() -> bool:
    return os.geteuid() == 0


def give_away(path: Path, monkeypatch) -> None:
    """Make a path another user's."""
    if is_root():
        os.chown(path, 54321, 54321)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)


def test_our_own_entry_is_used(cached):
    assert found(cached[0]) == 1


def test_an_entry_of_another_user_is_not_believed(cached, monkeypatch):
    cache, entry = cached
    planted(entry, 99)
    give_away(entry, monkeypatch)
    assert found(cache) == 2


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o620])
def test_an_entry_that_others_may_write_to_is_not_believed(cached, mode):
    cache, entry = cached
    planted(entry, 99)
    entry.chmod(mode)
    assert found(cache) == 2
    assert stat.S_IMODE(entry.stat().st_mode) & 0o022 == 0  # it was made again, and is ours alone
    assert found(cache) == 2


def test_entries_are_ours_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        cache = ChartCache(tmp_path / "charts", 10**6)
        cache.picture(SETTINGS, [b"chart"], lambda: picture(1))
    finally:
        os.umask(before)
    assert found(cache) == 1
    for path in (tmp_path / "charts").rglob("*"):
        assert not path.stat().st_mode & 0o022, path


@pytest.mark.parametrize("kind", ["pipe", "link to zeros", "link to a pipe", "link to an entry", "socket", "folder"])
def test_what_is_no_file_is_neither_waited_for_nor_read(cached, tmp_path, kind, monkeypatch):
    cache, entry = cached
    planted(entry, 99)
    kept = entry.rename(tmp_path / "kept")
    if kind == "pipe":
        os.mkfifo(entry)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        entry.symlink_to(tmp_path / "pipe")
    elif kind == "link to zeros":
        entry.symlink_to("/dev/zero")
    elif kind == "link to an entry":
        entry.symlink_to(kept)
    elif kind == "socket":
        monkeypatch.chdir(entry.parent)
        socket.socket(socket.AF_UNIX).bind(entry.name)
    else:
        entry.mkdir()
    assert found(cache) == 2


def test_an_entry_without_end_is_not_read(cached):
    cache, entry = cached
    with entry.open("ab") as file:
        file.truncate(2**40)
    assert found(cache) == 2


def test_an_entry_that_is_larger_than_the_canvas_is_made_again(cached):
    cache, entry = cached
    assert found(cache, canvas=(8, 16)) == 1
    planted(entry, 99, height=16, width=8)
    assert found(cache, canvas=(8, 16)) == 2


@pytest.mark.parametrize("depth", [1, 0])
def test_no_chart_is_written_or_deleted_behind_a_link(cached, tmp_path, depth, caplog):
    cache, entry = cached
    theirs = tmp_path / "repository"
    folder = entry.parents[depth]
    shutil.rmtree(folder)
    inside = theirs / "objects" / "ab"
    inside.mkdir(parents=True)
    objects = [inside / ("c" * 38), inside / f"{'c' * 38}.0123abcd.part"]
    for path in objects:
        path.write_bytes(bytes(10**5))
        os.utime(path, (1, 1))
    folder.symlink_to(theirs / "objects" if depth else inside)
    assert found(cache) == 2
    assert [path for path in theirs.rglob("*") if path.is_file()] == objects
    assert "are no longer cached in" in caplog.text
    full = ChartCache(cache.folder, 10**4)  # too small for what lies behind the link, which it may not clear
    full.picture(OTHER, [b"other"], lambda: picture(3))
    assert [path for path in theirs.rglob("*") if path.is_file()] == objects


def test_a_folder_of_another_user_is_not_used_and_named_once(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "shared"
    folder.mkdir()
    give_away(folder, monkeypatch)
    cache = open_chart_cache(str(folder), 1.0, 10**6)
    for _ in range(2):
        assert found(cache) == 2
    assert not list(folder.iterdir())
    (record,) = caplog.records
    assert "another user owns the folder, or everybody may write to it" in record.message
    assert str(folder) in record.message


def test_a_folder_that_everybody_may_write_to_is_not_used(tmp_path, caplog):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    assert found(open_chart_cache(str(folder), 1.0, 10**6)) == 2
    assert not list(folder.iterdir())
    assert len(caplog.records) == 1


def test_the_folder_that_the_user_names_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "charts").symlink_to(tmp_path / "disk")
    cache = open_chart_cache(str(tmp_path / "charts"), 1.0, 10**6)
    cache.picture(SETTINGS, [b"chart"], lambda: picture(1))
    assert found(cache) == 1
    assert entry_of(tmp_path / "disk").is_file()


# ------------------------------------------------------------------------------------------------ files of all kinds


def test_pipes_and_devices_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zeros.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "zeros.json"):
        for read in (open_regular, read_json, lambda path: read_regular(path, 100)):
            with pytest.raises((OSError, ValueError), match="not a regular file"):
                read(tmp_path / name)
    (tmp_path / "a.txt").write_text("ours")
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert read_regular(tmp_path / "link.txt", 4) == b"ours"
    with pytest.raises(OSError, match="4 bytes are more than the limit of 3"):
        read_regular(tmp_path / "link.txt", 3)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "link.txt", follow=False)
    assert read_regular("/proc/self/stat", 10**5).startswith(b"%d " % os.getpid())
    with pytest.raises(OSError, match="more than the limit of 5"):
        read_regular("/proc/self/stat", 5)


def test_whose_a_file_is(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a.txt", "ours", permissions=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_regular(path, mine=True) as file:
        assert file.read() == b"ours"
    give_away(path, monkeypatch)
    assert not is_mine(path.stat())
    with pytest.raises(PermissionError, match="another user owns the file"):
        open_regular(path, mine=True)


def test_a_picture_replaces_a_link_and_does_not_follow_it(tmp_path):
    (tmp_path / "key").write_text("secret")
    (tmp_path / "answers.png").symlink_to("key")
    row = {"image": noise(), "question": "?", "answer": "1", "prediction": "1", "correct": 1.0}
    draw_answers([row], tmp_path / "answers.png", chart_size=20)
    assert (tmp_path / "key").read_text() == "secret"
    assert not (tmp_path / "answers.png").is_symlink()
