"""Links between the pages of the repository lead somewhere: files are there, and headings too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..support.pages import ROOT, without_blocks

PAGES = [
    path
    for pattern in ("*.md", "examples/**/*.md", "chartqa_ft/*.md", ".github/*.md", "tests/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings as GitHub makes them: lower case, no punctuation, dashes for spaces."""
    found: dict[str, int] = {}
    for title in re.findall(r"^#+ (.+)$", without_blocks(text), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
        if found[anchor]:
            found[f"{anchor}-{found[anchor]}"] = 0
    return set(found)


def broken(page: Path) -> list[str]:
    """The links of a page, relative to it, that lead nowhere. Links to other sites are not followed."""
    lost = []
    for link in LINK.findall(without_blocks(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(ROOT)
        if not there or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            lost.append(link)
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    assert broken(page) == []


@pytest.mark.parametrize("index", ["README.md", "examples/README.md"])
def test_the_index_has_every_page(index: str):
    page = ROOT / index
    linked = {(page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8"))}
    pages = {path for path in (ROOT / "examples").iterdir() if path.suffix in (".md", ".ipynb")}
    assert pages - {ROOT / "examples" / "README.md"} <= linked
    if index == "examples/README.md":
        assert {path for path in (ROOT / "examples").iterdir() if path.suffix == ".py"} <= linked


def test_headings_become_anchors():
    text = "# A `b`: c, d!\n\n## Same\n\n```\n# no heading\n```\n\n## Same\n\n## [Link](x.md) on\n"
    assert anchors(text) == {"a-b-c-d", "same", "same-1", "link-on"}


def test_a_broken_link_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# One two\n")
    links = ["there.md", "there.md#one-two", "there.md#three", "gone.md", "../outside.md", "https://example.org/x"]
    page = tmp_path / "page.md"
    page.write_text("# Here\n[h](#here) [n](#nowhere) " + " ".join(f"[x]({link})" for link in links) + "\n")
    assert broken(page) == ["#nowhere", "there.md#three", "gone.md", "../outside.md"]
