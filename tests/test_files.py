"""Files appear whole or not at all, and damaged JSON is named."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chartqa_ft.files import as_json, read_json, write_json, write_whole, written_whole

from .support.common import ROOT, environment


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_as_given(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    assert write_whole(path, "é\r\n\n") == path
    assert path.read_bytes() == b"\xc3\xa9\r\n\n"
    assert write_whole(str(path), b"\xff\x00") == path
    assert path.read_bytes() == b"\xff\x00"
    assert names(path.parent) == ["a.txt"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = write_whole(tmp_path / "a.txt", "old")
    with written_whole(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_error_in_the_block_leaves_the_old_file_alone(tmp_path, error):
    path = write_whole(tmp_path / "a.txt", "old")

    def write() -> None:
        with written_whole(path) as file:
            file.write("new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_text_that_utf8_cannot_hold_leaves_the_old_file_alone(tmp_path):
    path = write_whole(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.txt"])


def test_a_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a.txt", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError,
        match=r"the disk is full: .*a\.txt could not be written, and what was there before is unchanged.*No space",
    ):
        write_whole(path, "new")
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.txt"])


KILLED = """
import os, signal, sys
from chartqa_ft.files import written_whole

with written_whole(sys.argv[1]) as file:
    file.write("new")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path):
    path = write_whole(tmp_path / "a.txt", "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment(), cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    (left,) = set(names(tmp_path)) - {"a.txt"}
    assert left.startswith("a.txt.")
    assert left.endswith(".part")
    write_whole(path, "newer")  # what is left behind is in nobody's way
    assert path.read_text() == "newer"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("another's")
    link = tmp_path / "a.txt"
    link.symlink_to(other)
    write_whole(link, "ours")
    assert (other.read_text(), link.read_text(), link.is_symlink()) == ("another's", "ours", False)


def test_a_link_at_the_temporary_name_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "other.txt"
    other.write_text("another's")
    monkeypatch.setattr("chartqa_ft.files.secrets.token_hex", lambda _: "0" * 8)
    (tmp_path / "a.txt.00000000.part").symlink_to(other)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a.txt", "ours")
    assert other.read_text() == "another's"
    assert not (tmp_path / "a.txt").exists()


def test_two_writers_do_not_mix(tmp_path):
    path = tmp_path / "a.txt"
    with written_whole(path) as first:
        first.write("first " * 3)
        with written_whole(path) as second:
            second.write("second")
        assert path.read_text() == "second"
    assert (path.read_text(), names(tmp_path)) == ("first first first ", ["a.txt"])


def test_files_get_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_whole(tmp_path / "whole", "")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_comes_back(tmp_path):
    value = {"n": 3, "text": "é\ud800", "list": [None, True, 0.1]}
    path = write_json(tmp_path / "a.json", value)
    assert read_json(path) == value
    assert path.read_text().startswith('{\n  "n": 3,')
    assert write_json(path, [1, 2], indent=None).read_text() == "[1, 2]\n"
    assert read_json(path, kind=list) == [1, 2]
    assert read_json(path, kind=object) == [1, 2]


def test_a_value_without_a_json_form_leaves_the_old_file_alone(tmp_path):
    path = write_json(tmp_path / "a.json", {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert (read_json(path), names(tmp_path)) == ({}, ["a.json"])


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b"", dict, "Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": ', dict, "Expecting value: line 1 column 7 (char 6)"),
        (b'{"a": "\xff"}', dict, "'utf-8' codec can't decode byte 0xff in position 7: invalid start byte"),
        (b"[" * 100_000, list, "its brackets are nested more than 100 deep"),
        (b"[1]", dict, "it does not hold a JSON object"),
        (b"{}", list, "it does not hold a JSON array"),
        (b"{}", str, "it does not hold str"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, kind, said):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_json(path, kind=kind, advice="save it again")
    assert str(caught.value).startswith(f"{path} is damaged ({said}")
    assert str(caught.value).endswith("): save it again")


def test_json_with_a_byte_order_mark_and_missing_json(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_values_of_any_library_become_plain():
    value = {"nan": math.nan, "inf": [-math.inf], "array": np.arange(3), "float": np.float32(0.5), "set": {2, 1}}
    assert as_json(value) == {"nan": None, "inf": [None], "array": [0, 1, 2], "float": 0.5, "set": ["1", "2"]}
    assert as_json((signal.SIGINT, Path("a"))) == [2, "a"]
