"""Fonts for texts in any script."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from chartqa_ft.reporting import fonts as fonts_module
from chartqa_ft.reporting.fonts import Face, Fonts

from ..support.cjk import require_cjk_font

UMLAUTS = "Größe in € – “Änderung”"


@pytest.fixture
def ascii_font(tmp_path):
    """Pillow's built-in font as a file: a font that has ASCII and no umlauts."""
    path = tmp_path / "ascii.ttf"
    path.write_bytes(ImageFont.load_default(13).path.getvalue())
    return path


@pytest.fixture
def bare(monkeypatch):
    """A machine without fontconfig and matplotlib."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(fonts_module, "find_spec", lambda name: None)


def fake_fontconfig(folder: Path, answer: str) -> str:
    """Write an `fc-match` that notes its arguments and gives an answer."""
    command = folder / "fc-match"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(folder / 'asked')!r}, 'a').write(sys.argv[-1] + '\\n')\n"
        f"sys.stdout.write({answer!r})\n"
    )
    command.chmod(0o755)
    return str(folder)


def drawn(fonts, text, size=24):
    sheet = Image.new("RGB", (400, 60), "white")
    fonts.draw(ImageDraw.Draw(sheet), (5, 40), text, size, (0, 0, 0))
    return sheet.tobytes()


def test_a_font_knows_which_characters_it_has():
    face = Face()
    assert [face.has(char) for char in "aZ9$%äß€中"] == [True] * 5 + [False] * 4


def test_ascii_is_drawn_by_the_built_in_font_if_pictures_have_to_be_the_same(bare):
    fonts = Fonts(["How many bars?"], plain=True)
    assert [face.path for face in fonts.faces] == [None]
    assert fonts.width("How many?", 13) == ImageFont.load_default(13).getlength("How many?")


@pytest.mark.parametrize("text", [UMLAUTS, "中文", "\u0939", "\U0001f600"])
def test_one_line_names_what_cannot_be_drawn(bare, caplog, text):
    with caplog.at_level(logging.WARNING):
        fonts = Fonts(["Values", text])
    assert len(caplog.records) == 1
    lacking = [char for char in text if ord(char) > 127 and char not in "–“”"]
    assert set(lacking) <= set(fonts.missing)
    for char in lacking:
        assert f"(U+{ord(char):04X})" in caplog.text
    assert "font_path=" in caplog.text
    assert "\n" not in caplog.records[0].getMessage()
    drawn(fonts, text)  # boxes, and no error


def test_many_missing_characters_are_counted(bare, caplog):
    with caplog.at_level(logging.WARNING):
        Fonts(["".join(map(chr, range(0x4E00, 0x4E00 + 50)))])
    assert "and 30 more" in caplog.text


def test_matplotlibs_font_is_next(bare, monkeypatch, tmp_path, ascii_font):
    class Found:
        submodule_search_locations = (str(tmp_path / "matplotlib"),)

    monkeypatch.setattr(fonts_module, "find_spec", lambda name: Found)
    place = tmp_path / "matplotlib" / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    place.parent.mkdir(parents=True)
    ascii_font.rename(place)
    assert [face.path for face in Fonts(["bars"]).faces] == [place]
    place.write_bytes(b"no font")
    assert [face.path for face in Fonts(["bars"]).faces] == [None]


def test_fontconfig_is_asked_for_the_characters(bare, monkeypatch, tmp_path, ascii_font):
    monkeypatch.setenv("PATH", fake_fontconfig(tmp_path, f"{ascii_font}\n0"))
    fonts = Fonts(["b;a\na$"])
    assert [str(face.path) for face in fonts.faces] == [str(ascii_font)]
    assert (tmp_path / "asked").read_text() == "sans:scalable=true:charset=24 3b 61 62\n"
    assert fonts.missing == ""


@pytest.mark.parametrize("answer", ["", "nowhere.ttf\n0", "\n", "{folder}\n0", "{font}\nx", "{font}"])
def test_a_useless_answer_of_fontconfig_is_passed_over(bare, monkeypatch, tmp_path, ascii_font, answer):
    monkeypatch.setenv("PATH", fake_fontconfig(tmp_path, answer.format(folder=tmp_path, font=ascii_font)))
    assert [face.path for face in Fonts(["bars"]).faces] == [None]


def test_a_given_font_comes_first_and_others_fill_its_gaps(tmp_path, ascii_font):
    cjk = require_cjk_font()
    fonts = Fonts(["Größe 中"], font_path=ascii_font)
    assert fonts.faces[0].path == ascii_font
    assert [text for face, text in fonts.runs("Gr中 e") if face.path == ascii_font] == ["Gr", "e"]
    assert fonts.missing == ""
    assert Fonts(["中"], font_path=cjk).faces[0].path == cjk


@pytest.mark.parametrize(
    ("path", "error"), [(7, TypeError), ("nowhere.ttf", ValueError), (__file__, ValueError), (os.sep, ValueError)]
)
def test_what_is_no_font_is_refused(path, error):
    with pytest.raises(error, match="font_path"):
        Fonts(["a"], font_path=path)


@pytest.mark.parametrize("text", ["中国的国内生产总值", "東京都の人口", "서울의 인구", UMLAUTS])
def test_every_character_has_a_glyph_of_its_own(text):
    require_cjk_font()
    fonts = Fonts([text])
    assert fonts.missing == ""
    letters = dict.fromkeys(char for char in text if char != " ")
    pictures = {drawn(fonts, char) for char in letters}
    assert len(pictures) == len(letters)
    assert drawn(fonts, "\U0010ffff") not in pictures


PLAIN = Fonts(["abc"], plain=True)


def test_lines_break_at_spaces_and_long_words_anywhere():
    width = PLAIN.width("one two", 13)
    assert PLAIN.wrap("one two three", width, 13) == ["one two", "three"]
    assert PLAIN.wrap("  one   two ", width + 20, 13) == ["one   two"]
    word = "abcdefghijklmnopqrstuvwxyz"
    lines = PLAIN.wrap(f"a {word}", 60, 13)
    assert lines[0] == "a"
    assert "".join(lines[1:]) == word
    assert PLAIN.wrap("", 60, 13) == [""]


def test_chinese_breaks_between_characters_but_not_before_a_full_stop():
    width = PLAIN.width("中文字", 13) + 0.1
    assert PLAIN.wrap("中文字中文。字", width, 13) == ["中文字", "中文。", "字"]
    assert PLAIN.wrap("中文字。中", width, 13) == ["中文", "字。中"]


def test_a_mark_stays_with_its_letter():
    lines = PLAIN.wrap("e\u0301" * 5, PLAIN.width("ee", 13) + 1, 13)
    assert len(lines) > 1
    assert not any(line.startswith("\u0301") for line in lines)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(max_size=60), st.integers(1, 120))
def test_wrapping_loses_no_character(text, width):
    lines = PLAIN.wrap(text, width, 13)
    assert "".join("".join(lines).split()) == "".join(text.split())
