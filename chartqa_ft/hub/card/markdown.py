"""Foreign text in a Markdown page: it is shown as it is, breaks out of nothing, and holds no token."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

# Signs that Markdown reads as markup anywhere in a line. Entities where a backslash is not enough: of a table's
# pipe inside other markup, and of dollar and backslash, which pages with formulas look for before Markdown.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", "`": "&#96;", "$": "&#36;", "|": "&#124;"}
_MARKUP = re.compile(r"[&<>\\`$|]|[*\[\]#~!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# They reorder or hide what stands beside them.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def escaped(value: Any, *, longest: int = 600) -> Markup:
    """Any value as one line of Markdown that shows its text; `Markup` passes as it is.

    It must not stand at the beginning of a line, where `-`, `1.` or `=` would count too.
    """
    if isinstance(value, Markup):
        return value
    text = " ".join(_INVISIBLE.sub("", str(value)).split())
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return Markup(_MARKUP.sub(lambda found: _ENTITIES.get(found[0], "\\" + found[0]), text))


def fenced(value: Any, language: str = "") -> Markup:
    """A block of code that shows `value` line by line: its fence is longer than any in the text."""
    text = str(value).replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    text = "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text}\n{fence}")


def literal(value: Any) -> Markup:
    """A value as Python writes it, on one line, for a snippet inside a block of code."""
    return Markup(ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value))
