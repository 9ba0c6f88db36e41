"""The table of family x test in `examples/own_family.md`, made from a test run.

python -m pytest tests/families --junitxml=results.xml
python -m tests.support.family_table results.xml examples/own_family.md [torchvision | oldest | newest]

With "torchvision" it is the table of the families whose processors need it, which `make families-torchvision` runs.
With "oldest" or "newest" it is the column of the first table for the packages at that limit of setup.cfg.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from tests.support.family_cases import KINDS, MORE
from tests.support.refused_families import REFUSED

MARKERS = {
    "": ("<!-- family table -->", "<!-- end of family table -->"),
    "torchvision": ("<!-- torchvision table -->", "<!-- end of torchvision table -->"),
}
BEGIN, END = MARKERS[""]
LIMITS = ("oldest", "newest")
"""Columns of the first table that runs on other packages fill: all tests of a family passed there."""
COLUMNS = {
    "1 batch": ["test_batch_reads_back"],
    "2 overfits": ["test_overfits_four_charts"],
    "3 generation": [
        "test_training_logits_equal_generation_logits",
        "test_batched_answers_equal_single_ones",
        "test_beam_scores_are_those_of_the_forward_pass",
    ],
    "4 updates": ["test_update_equality"],
    "5 LoRA": ["test_lora_trains_saves_and_loads", "test_lora_gradient_checkpointing_gives_equal_gradients"],
    "6 fresh process": ["test_saved_model_answers_the_same_in_a_fresh_process"],
}
"""Heading -> the parametrized tests of which all must pass for a family."""
PASSED, FAILED, NOT_RUN = "✓", "✗", "–"


def outcomes(results: str) -> dict[tuple[str, str], bool]:
    """(test, family) -> whether all its cases passed, from the text of a junit XML file; a skipped case did not."""
    found: dict[tuple[str, str], bool] = {}
    for case in ElementTree.fromstring(results).iter("testcase"):
        match = re.fullmatch(r"(test_\w+)\[(.+)\]", case.get("name", ""))
        if match is None:
            continue
        # The other parameters of a case stand before or behind the family's name.
        families = [family for family in (*KINDS, *REFUSED) if re.search(rf"(^|-){family}($|-)", match[2])]
        passed = all(case.find(tag) is None for tag in ("failure", "error", "skipped"))
        for family in families:
            found[match[1], family] = found.get((match[1], family), True) and passed
    return found


def members(which: str = "") -> list[str]:
    """The families of a table: those whose processors need torchvision, or the others."""
    return [family for family in KINDS if (family in MORE and MORE[family].torchvision) == (which == "torchvision")]


def marks(found: Mapping[tuple[str, str], bool], family: str) -> dict[str, str]:
    """Column -> mark of a family: passed if all tests of the column did."""
    results = {column: [found.get((test, family)) for test in tests] for column, tests in COLUMNS.items()}
    return {
        column: FAILED if False in passed else NOT_RUN if None in passed else PASSED
        for column, passed in results.items()
    }


def limit_mark(found: Mapping[tuple[str, str], bool], family: str) -> str:
    """The mark of a family in a column of `LIMITS`."""
    each = set(marks(found, family).values())
    return next(mark for mark in (FAILED, NOT_RUN, PASSED) if mark in each)


def table(
    found: Mapping[tuple[str, str], bool], which: str = "", limits: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """The table as Markdown, one row per family of `members(which)`.

    Args:
        found: outcomes of the tests.
        which: which table.
        limits: family -> column of `LIMITS` -> mark, for the first table.
    """
    return _written(
        {family: {**marks(found, family), **(limits or {}).get(family, {})} for family in members(which)}, which
    )


def _written(cells: Mapping[str, Mapping[str, str]], which: str) -> str:
    columns = [*COLUMNS, *(() if which else LIMITS)]
    rows = [[f"`{f}`", KINDS[f], *(cells[f].get(column, NOT_RUN) for column in columns)] for f in cells]
    lines = [["family", "kind", *columns], ["---", "---", *([":-:"] * len(columns))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _read(text: str) -> dict[str, dict[str, str]]:
    """Family -> column -> mark of a table as Markdown."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    return {line[0].strip("`"): dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


def write_table(results: Path, document: Path, which: str = "") -> None:
    """Put the table of a junit XML file between its two markers in `document`, or one column of `LIMITS` into it.

    Raises:
        ValueError: the document lacks a marker.
    """
    part = "" if which in LIMITS else which
    text, (begin, end) = document.read_text(encoding="utf-8"), MARKERS[part]
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{document} needs the lines {begin} and {end}, each once: the table goes between them")
    before, _, rest = text.partition(begin)
    old, _, after = rest.partition(end)
    found, known = outcomes(results.read_text(encoding="utf-8")), _read(old)
    cells = {family: dict(known.get(family, {})) for family in members(part)}
    for family, own in cells.items():
        own.update({which: limit_mark(found, family)} if which in LIMITS else marks(found, family))
    document.write_text(f"{before}{begin}\n{_written(cells, part)}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
