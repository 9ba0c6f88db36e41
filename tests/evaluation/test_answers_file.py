"""The file that an interrupted evaluation goes on from."""

from __future__ import annotations

import json
import os

import pytest

from chartqa_ft.evaluation import answers_file
from chartqa_ft.evaluation.answers_file import AnswersFile

SETTINGS = {"model": "m", "prompt": "{question}", "extra": {"a": [1]}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "answers.jsonl"


def written(path, *answers, settings=SETTINGS):
    with AnswersFile(path, settings, 9) as file:
        for row, text in answers:
            file.add(row, text=text, cut=False)
    return path


def texts(path, settings=SETTINGS, n=9):
    with AnswersFile(path, settings, n) as file:
        return {row: answer["text"] for row, answer in file.answers.items()}


def test_answers_come_back(path):
    written(path, (2, "a\nb"), (0, "\ud800"))
    written(path, (1, ""))
    assert texts(path) == {2: "a\nb", 0: "\ud800", 1: ""}


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_a_line_that_a_kill_cut_off_is_dropped(path, lost):
    written(path, (2, "Peru" * 10), (0, "Chile" * 10))
    content = path.read_bytes()
    path.write_bytes(content[:-lost])
    assert texts(path) == {2: "Peru" * 10}
    written(path, (0, "Chile" * 10))
    assert path.read_bytes() == content


def test_a_kill_in_the_first_line_starts_anew(path):
    written(path)
    whole = path.read_bytes()
    for size in (0, 1, 10, 40, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert texts(path) == {}
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**SETTINGS, "model": "n"}, "model was 'm' and is now 'n'"),
        ({**SETTINGS, "extra": {"a": [2]}}, r"extra was \{'a': \[1\]\} and is now \{'a': \[2\]\}"),
        ({"model": "m", "prompt": "{question}"}, r"extra was .* and is now None"),
        ({**SETTINGS, "seed": 1}, "seed was None and is now 1"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_lost(path, settings, message):
    before = written(path, (1, "a")).read_bytes()
    with pytest.raises(ValueError, match=message):
        AnswersFile(path, settings, 9)
    assert path.read_bytes() == before
    assert texts(path) == {1: "a"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 3 is damaged"),
        (b'{"row": 9, "text": "a", "cut": false}', "no answer to one of the questions"),
        (b'{"row": true, "text": "a", "cut": false}', "no answer to one of the questions"),
        (b'{"row": 2, "text": 3, "cut": false}', "no answer to one of the questions"),
        (b'{"row": 2, "text": "a"}', "no answer to one of the questions"),
        (b"[]", "no answer to one of the questions"),
        (b'{"row": 1, "text": "a", "cut": false}', "its row repeats"),
        (b"\xff", "line 3 is damaged"),
    ],
)
def test_a_damaged_file_is_refused_by_line(path, line, message):
    written(path, (1, "a"))
    path.write_bytes(path.read_bytes() + line + b"\n")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        AnswersFile(path, SETTINGS, 9)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"notes", b"notes\nmore", b'{"index": 0}\n{"ind', b"{}\n", b"[]\n"])
def test_a_file_of_somebody_else_is_left_as_it_is(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"does not hold the answers of an interrupted run|line 1 is damaged"):
        AnswersFile(path, SETTINGS, 9)
    assert path.read_bytes() == content


def test_two_runs_at_once_are_refused(path):
    with AnswersFile(path, SETTINGS, 9) as file:
        file.add(0, text="a", cut=False)
        with pytest.raises(OSError, match="is in use by another run"):
            AnswersFile(path, SETTINGS, 9)
    assert texts(path) == {0: "a"}


def test_links_and_pipes_are_refused(path, tmp_path):
    path.parent.mkdir()
    other = tmp_path / "other"
    other.write_text("x")
    path.symlink_to(other)
    with pytest.raises(OSError, match=r"."):
        AnswersFile(path, SETTINGS, 9)
    assert other.read_text() == "x"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        AnswersFile(path, SETTINGS, 9)


def test_a_line_that_is_too_long_is_refused(path, monkeypatch):
    written(path, (1, "a" * 500))
    monkeypatch.setattr(answers_file, "LONGEST_LINE", 400)
    with pytest.raises(ValueError, match=r"line 2 is damaged \(it is too long"):
        AnswersFile(path, SETTINGS, 9)


def test_a_full_disk_keeps_the_earlier_answers(path):
    class Full:
        def write(self, content):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    with AnswersFile(path, SETTINGS, 9) as file:
        file.add(0, text="a", cut=False)
        real, file._file = file._file, Full()
        with pytest.raises(OSError, match=r"the disk is full.*keeps the earlier ones"):
            file.add(1, text="b", cut=False)
        real.close()
    assert texts(path) == {0: "a"}


def test_the_first_line_holds_the_settings(path):
    written(path)
    assert json.loads(path.read_text()) == {"format": "chartqa_ft answers", "settings": SETTINGS}
