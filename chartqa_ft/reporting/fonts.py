"""Fonts for texts in any script: each character is drawn with the first font that has it.

Pillow's built-in font has ASCII and little else: no umlauts, no euro sign. No font comes with this package, so others
are looked for on the machine.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageDraw, ImageFont

from ..printable import printable

logger = logging.getLogger(__name__)

__all__ = ["Fonts"]

_NO_CHARACTER = "\U0010ffff"
"""No font has it: its glyph is the box that a font shows for what it lacks."""
_MOST_FONTS = 6
"""Fonts of fontconfig that are tried: a picture has seldom more than two scripts."""
_MOST_CHARACTERS = 2000
_NAMED = 20


class Face:
    """A font file, or Pillow's built-in font.

    Args:
        path: the file; `None` for the built-in font.
        index: the number of the font in a collection (`.ttc`).

    Raises:
        OSError: the file cannot be read, or is no font that can be scaled.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, index: int = 0) -> None:
        self.path, self.index = path, index
        self._sizes: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}
        self._known: dict[str, bool] = {}
        self._missing = self._glyph(_NO_CHARACTER)

    def at(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """Return the font in a size in pixels."""
        if size not in self._sizes:
            self._sizes[size] = (
                ImageFont.load_default(size)
                if self.path is None
                else ImageFont.FreeTypeFont(os.fspath(self.path), size, index=self.index)  # looks nowhere else
            )
        return self._sizes[size]

    def has(self, char: str) -> bool:
        """Return whether the font has a glyph for a character: another one than for what it lacks."""
        if char not in self._known:
            self._known[char] = self._glyph(char) != self._missing
        return self._known[char]

    def _glyph(self, char: str) -> tuple[tuple[int, int], bytes]:
        mask = self.at(24).getmask(char, mode="L")
        return mask.size, bytes(mask)


class Fonts:
    """Fonts that can draw given texts, as far as this machine has them.

    The order is: `font_path`; the fonts that fontconfig names for the characters of the texts; DejaVu Sans of
    matplotlib, if that is installed; Pillow's built-in font. A warning names the characters that none of them has.

    Args:
        texts: all texts that will be drawn.
        font_path: a font file (`.ttf`, `.otf`, `.ttc`) to draw with, for all characters that it has.
        plain: draw with Pillow's built-in font what it has, so that pictures of ASCII texts are the same on every
            machine.

    Raises:
        ValueError: `font_path` is no font file.

    Example:
        >>> fonts = Fonts(["How many bars?"], plain=True)
        >>> fonts.missing, [text for _, text in fonts.runs("How many?")]
        ('', ['How many?'])
    """

    def __init__(
        self, texts: Iterable[str], *, font_path: str | os.PathLike[str] | None = None, plain: bool = False
    ) -> None:
        wanted = dict.fromkeys(char for text in texts for char in text if _is_drawn(char))
        self.faces: list[Face] = []
        built_in = Face()
        if font_path is not None:
            self._add(_given_face(font_path), wanted, always=True)
        if plain:
            self._add(built_in, wanted)
        while wanted and len(self.faces) < _MOST_FONTS and self._add(_face_of_fontconfig(wanted), wanted):
            pass
        if wanted:
            self._add(_face_of_matplotlib(), wanted)
        if wanted or not self.faces:
            self._add(built_in, wanted, always=True)
        self.missing = "".join(wanted)
        """The characters that no font has; they are drawn as boxes."""
        if wanted:
            names = ", ".join(f"{printable(char)} (U+{ord(char):04X})" for char in self.missing[:_NAMED])
            more = f" and {len(wanted) - _NAMED} more" if len(wanted) > _NAMED else ""
            logger.warning(
                "no font on this machine has %s%s: pass font_path= with a font that does, or install one, such as "
                "Debian's fonts-wqy-microhei for Chinese, Japanese and Korean",
                names,
                more,
            )

    def _add(self, face: Face | None, wanted: dict[str, None], *, always: bool = False) -> bool:
        """Add a font if it has a wanted character; take out what it has."""
        if face is None:
            return False
        found = [char for char in wanted if face.has(char)]
        if found or always:
            self.faces.append(face)
        for char in found:
            del wanted[char]
        return bool(found)

    def runs(self, text: str) -> list[tuple[Face, str]]:
        """Return a text in parts that are drawn with one font each."""
        found: list[tuple[Face, str]] = []
        for char in text:
            if found and not _is_drawn(char):  # spaces, and marks on the letter before
                face = found[-1][0]
            else:
                face = next((face for face in self.faces if face.has(char)), self.faces[0])
            if found and found[-1][0] is face:
                found[-1] = (face, found[-1][1] + char)
            else:
                found.append((face, char))
        return found

    def width(self, text: str, size: int) -> float:
        """Return the width of a line in pixels."""
        return sum(face.at(size).getlength(part) for face, part in self.runs(text))

    def draw(
        self, pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill: tuple[int, int, int]
    ) -> None:
        """Draw a line of text on its baseline.

        Args:
            pen: where to draw.
            place: the left end of the baseline, in pixels.
            text: the line.
            size: the size in pixels.
            fill: the color.
        """
        x, y = place
        for face, part in self.runs(text):
            font = face.at(size)
            pen.text((x, y), part, fill=fill, font=font, anchor="ls")
            x += font.getlength(part)

    def wrap(self, text: str, width: float, size: int) -> list[str]:
        """Return a text in lines that are not wider than `width` pixels, except for single characters that are.

        Lines break at spaces, and between the characters of scripts that are written without spaces. What is longer
        than a line is broken anywhere, but marks stay with their letter.

        Example:
            >>> Fonts(["one two"], plain=True).wrap("one two", 1, 12)[:3]
            ['o', 'n', 'e']
        """
        lines: list[str] = []
        line, used, breakable = "", 0.0, 0
        for cluster in _clusters(text):
            if line and _may_break(line[-1], cluster[0]):
                breakable = len(line)
            advance = self._advance(cluster, size)
            if line and used + advance > width and cluster != " ":
                cut = breakable or len(line)
                lines.append(line[:cut].rstrip())
                line = line[cut:].lstrip() if breakable else ""
                used, breakable = self.width(line, size) if line else 0.0, 0
            if line or cluster != " ":
                line, used = line + cluster, used + advance
        return [*lines, line.rstrip()] if line.strip() or not lines else lines

    def _advance(self, cluster: str, size: int) -> float:
        return sum(_length(face, part, size) for face, part in self.runs(cluster))


@lru_cache(maxsize=1 << 14)
def _length(face: Face, text: str, size: int) -> float:
    return face.at(size).getlength(text)


def _is_drawn(char: str) -> bool:
    """Return whether a character has a shape of its own: neither a space nor a mark on another one."""
    return unicodedata.category(char)[0] not in "ZCM"


def _clusters(text: str) -> list[str]:
    """Return letters with their marks."""
    found: list[str] = []
    for char in text:
        if found and unicodedata.category(char) in ("Mn", "Mc", "Me", "Cf"):
            found[-1] += char
        else:
            found.append(char)
    return found


def _may_break(before: str, after: str) -> bool:
    if before in " -/":
        return after != " "
    wide = any(unicodedata.east_asian_width(char) in "WF" for char in (before, after))
    closing = unicodedata.category(after) in ("Pe", "Pf", "Po") or after in "ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ"
    return wide and not closing and unicodedata.category(before) not in ("Ps", "Pi")


def _given_face(path: str | os.PathLike[str]) -> Face:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"font_path must be the path of a font file, and is {path!r:.60}")
    try:
        return Face(Path(path))
    except OSError as error:
        raise ValueError(f"font_path={os.fspath(path)!r} is no font that can be read: {error}") from error


def _face_of_fontconfig(wanted: Iterable[str]) -> Face | None:
    """Return the font that fontconfig names for these characters, or None."""
    command = shutil.which("fc-match")
    if command is None:
        return None
    charset = " ".join(f"{ord(char):x}" for char in sorted(wanted)[:_MOST_CHARACTERS])
    try:
        answer = subprocess.run(
            [command, "--format", "%{file}\n%{index}", f"sans:scalable=true:charset={charset}"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.splitlines()
        # The upper half of the index is the named instance of a variable font.
        return Face(answer[0], int(answer[1]) & 0xFFFF)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None  # no configuration, or a font that Pillow cannot scale


def _face_of_matplotlib() -> Face | None:
    """Return DejaVu Sans out of matplotlib, without importing that; None if it is not installed."""
    found = find_spec("matplotlib")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            try:
                return Face(path)
            except OSError:
                return None
    return None
