"""The table of family x test in `examples/own_family.md`, made from a test run.

python -m pytest tests/families --junitxml=results.xml
python -m tests.support.family_table results.xml examples/own_family.md [torchvision]

With "torchvision" it is the table of the families whose processors need it, which `make families-torchvision` runs.
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


def table(found: Mapping[tuple[str, str], bool], which: str = "") -> str:
    """The table as Markdown, one row per family of `members(which)`."""

    def mark(tests: list[str], family: str) -> str:
        results = [found.get((test, family)) for test in tests]
        return FAILED if False in results else NOT_RUN if None in results else PASSED

    head = ["family", "kind", *COLUMNS]
    rows = [[f"`{f}`", KINDS[f], *(mark(tests, f) for tests in COLUMNS.values())] for f in members(which)]
    lines = [head, ["---", "---", *([":-:"] * len(COLUMNS))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_table(results: Path, document: Path, which: str = "") -> None:
    """Put the table of a junit XML file between its two markers in `document`.

    Raises:
        ValueError: the document lacks a marker.
    """
    text, (begin, end) = document.read_text(encoding="utf-8"), MARKERS[which]
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{document} needs the lines {begin} and {end}, each once: the table goes between them")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    made = table(outcomes(results.read_text(encoding="utf-8")), which)
    document.write_text(f"{before}{begin}\n{made}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
