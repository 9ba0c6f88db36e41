"""What tests of cards let a client process do: run the code of a card."""

from __future__ import annotations

import contextlib
import io
import re


def snippets(card: str) -> list[str]:
    """What the blocks of Python in a card print, each run alone as pasted."""
    printed = []
    for block in re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(block, {})
        printed.append(said.getvalue().strip())
    return printed
