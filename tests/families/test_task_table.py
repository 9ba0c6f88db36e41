"""The table of tasks on their page is made from runs, and lists every family as passed."""

from __future__ import annotations

from ..support.common import ROOT
from ..support.families import FAMILIES
from ..support.family_table import FAILED, PASSED
from ..support.task_table import BEGIN, END, TASKS, table


def test_a_family_that_did_not_run_has_not_passed():
    lines = table({("llava", "table"): True, ("llava", "summary"): False}).splitlines()
    (line,) = [line for line in lines if line.startswith("| `llava` |")]
    assert line == f"| `llava` | {FAILED} | {PASSED} | {FAILED} |"
    assert len(lines) == len(FAMILIES) + 2


def test_the_page_lists_every_family_as_passed():
    text = (ROOT / "examples" / "tasks.md").read_text(encoding="utf-8")
    made = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert made == table({(family, task): True for family in FAMILIES for task in TASKS})
