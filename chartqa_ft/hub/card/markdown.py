"""Show arbitrary text in a Markdown page literally, so that it cannot act as markup."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

# Characters that Markdown reads as markup anywhere in a line. A backslash is not enough for a pipe inside other markup
# in a table, nor for dollar and backslash, which pages with formulas process before Markdown: they become entities.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", "`": "&#96;", "$": "&#36;", "|": "&#124;"}
# What is markup at the beginning of a line alone: lists, lines and underlines of headings.
_AT_START = re.compile(r"\A(\d{0,9})([-+=.)])(?=[\s=-]|\Z)")
_MARKUP = re.compile(r"[&<>\\`$|]|[*\[\]#~!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# Characters that reorder or hide their neighbors.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def escaped(value: Any, *, longest: int = 600) -> Markup:
    """Return a value as one line of Markdown that shows its text literally; `Markup` is returned unchanged.

    Args:
        value: anything; `str(value)` is shown.
        longest: characters after which the text is cut off.

    Example:
        >>> print(escaped("a|b *c*"))
        a&#124;b \\*c\\*
    """
    if isinstance(value, Markup):
        return value
    text = " ".join(_INVISIBLE.sub("", str(value)).split())
    text = "".join(char if char.isprintable() else "\ufffd" for char in text)
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    text = _MARKUP.sub(lambda found: _ENTITIES.get(found[0], "\\" + found[0]), text)
    return Markup(_AT_START.sub(r"\1\\\2", text))


def fenced(value: Any, language: str = "") -> Markup:
    """Return a code block that shows `value` line by line. Its fence is longer than any in the text.

    Example:
        >>> print(fenced("make test", "bash"))
        ```bash
        make test
        ```
    """
    text = str(value).replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    text = "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text}\n{fence}")


def literal(value: Any) -> Markup:
    """Return a value as a Python literal on one line, for a snippet inside a code block.

    Example:
        >>> print(literal("line\\nbreak"), literal(4))
        'line\\nbreak' 4
    """
    return Markup(ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value))
