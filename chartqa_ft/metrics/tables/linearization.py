"""How a table is written as one text: separators and escapes.

Every format but `csv` divides cells by `|`. They differ in how they divide rows.
"""

from __future__ import annotations

import re

ROW_SEPARATORS = {"lines": "\n", "unichart": "&", "&&&": "&&&", "<0x0A>": "<0x0A>", "markdown": "\n"}

FORMATS = (*ROW_SEPARATORS, "csv")
"""The names of the linearizations.

- `lines`: a row per line, as the metrics of DePlot read them;
- `unichart`: rows divided by ` & `, all on one line, as UniChart's training data have them;
- `&&&`: rows divided by ` &&& `, as `khhuang/chart-to-table` writes them;
- `<0x0A>`: rows divided by ` <0x0A> `, as the tokenizer of DePlot decodes line breaks;
- `markdown`: a pipe table as in GitHub Flavored Markdown, with a line of dashes below the header;
- `csv`: as Python's `csv` reads it, with commas, semicolons or tabs.
"""

DASHES = re.compile(r"\s*:?-+:?\s*")
"""A cell of the line below the header of a Markdown table."""

_ESCAPED = re.compile(r"\\([\\|&<:\-])")
_SPECIAL = re.compile(r"[\\|]|&|<(?=0x0A>)", re.IGNORECASE)


def format_name(name: str) -> str:
    """Check the name of a linearization.

    Raises:
        ValueError: There is no such format; the message lists them.
    """
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(map(repr, FORMATS))}, and is {name!r}")
    return name


def escape(cell: str) -> str:
    r"""Write a backslash before each character of a cell that could be taken for a separator.

    Example:
        >>> print(escape("Asia & Pacific | total"))
        Asia \& Pacific \| total
    """
    if DASHES.fullmatch(cell):
        return "\\" + cell
    return _SPECIAL.sub(lambda found: "\\" + found[0], cell)


def unescape(cell: str) -> str:
    r"""Remove the backslashes of `escape`. Others stay.

    Example:
        >>> print(unescape(r"Asia \& Pacific, \$"))
        Asia & Pacific, \$
    """
    return _ESCAPED.sub(r"\1", cell)
