"""The README and the pages in `examples/`: their texts, commands and blocks of code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES: dict[str, Path] = {
    str(path.relative_to(ROOT)): path for path in [ROOT / "README.md", *sorted((ROOT / "examples").glob("*.md"))]
}
"""Name relative to the repository -> file."""
TEXTS: dict[str, str] = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}


def blocks(text: str, language: str = "") -> list[str]:
    """The fenced blocks of a page in one language: "" for commands, "text" for what is not to be typed."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands(text: str) -> list[str]:
    """The command lines of a page, continued lines joined and comments left out."""
    lines = [line for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.partition("  #")[0].split()) for line in lines if line]


def spans(text: str) -> list[str]:
    """What stands between single backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", without_blocks(text))


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def every(of: list[list[str]]) -> list[str]:
    """Each entry of several pages once, in order."""
    return list(dict.fromkeys(entry for entries in of for entry in entries))
