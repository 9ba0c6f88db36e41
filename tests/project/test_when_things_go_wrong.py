"""Each message that the page on troubles quotes is one of the package."""

from __future__ import annotations

import ast
import re

from ..support.common import ROOT

PAGE = (ROOT / "examples" / "when_things_go_wrong.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^> `(.+)`$", PAGE, flags=re.MULTILINE)


def texts(source: str) -> list[str]:
    """The texts of a module as a reader sees them, without docstrings; "..." stands for what is filled in."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.sub(r"%[ds.0-9f]+", "...", node.value))
        elif isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    return found


MESSAGES = [text for path in (ROOT / "chartqa_ft").rglob("*.py") for text in texts(path.read_text(encoding="utf-8"))]


def parts_of(quote: str) -> list[str]:
    """A message is put together of a common beginning and what was being done."""
    for start in ("out of memory while ",):
        if quote.startswith(start):
            return [start, quote.removeprefix(start)]
    return [quote]


def is_message(quote: str) -> bool:
    return all(any(part in text for text in MESSAGES) for part in parts_of(quote))


def test_every_quoted_message_is_in_the_package():
    assert len(QUOTED) > 20
    assert [quote for quote in QUOTED if not is_message(quote)] == []


def test_a_message_that_is_gone_would_be_found():
    assert not is_message("the disk is rather full")
    assert not is_message("out of memory while dreaming of sheep")


def test_docstrings_are_no_messages():
    found = texts('def f():\n    """the disk"""\n    raise ValueError(f"no {1} file")')
    assert "no ... file" in found
    assert "the disk" not in found


def test_the_page_is_short_and_linked():
    assert len(PAGE.splitlines()) <= 150
    assert "(examples/when_things_go_wrong.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
