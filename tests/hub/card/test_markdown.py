"""Arbitrary text in Markdown is shown literally."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from chartqa_ft.hub.card.markdown import escaped, fenced

from .examples import NASTY


@pytest.mark.parametrize("text", [text for text in NASTY if "\x00" not in text])
def test_code_blocks_hold_text_as_it_is(text):
    html = MarkdownIt("commonmark").parse(f"before\n\n{fenced(text, 'bash')}\n\nafter\n")
    fences = [token for token in html if token.type == "fence"]
    assert [token.content.strip("\n") for token in fences] == [
        text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    ]
    assert [token.content for token in html if token.type == "inline"] == ["before", "after"]


def test_readable_text_stays_readable():
    assert escaped("What is 5 % of max_new_tokens (in 2015)?") == "What is 5 % of max_new_tokens (in 2015)?"
    assert escaped("a" * 700) == "a" * 597 + "..."
