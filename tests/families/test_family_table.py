"""The table of families on their page is made from a test run, and lists every family and every test."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import transformers

from ..support import model_table
from ..support.common import ROOT
from ..support.family_cases import ALL, KINDS, chosen
from ..support.family_table import (
    BEGIN,
    COLUMNS,
    END,
    FAILED,
    MARKERS,
    NOT_RUN,
    PASSED,
    members,
    outcomes,
    table,
    write_table,
)
from ..support.more_families import MORE

CASE = '<testcase classname="tests.families.test_families" name="{}">{}</testcase>'


def xml(*cases: tuple[str, str]) -> str:
    return f"<testsuites><testsuite>{''.join(CASE.format(*case) for case in cases)}</testsuite></testsuites>"


def marks(text: str, family: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{family}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


def test_a_mark_needs_all_cases_of_all_tests():
    beams = "test_batched_answers_equal_single_ones"
    good = xml(
        ("test_batch_reads_back[llava]", ""),
        ("test_batch_reads_back[llava_next]", "<failure/>"),
        ("test_training_logits_equal_generation_logits[llava]", ""),
        (f"{beams}[llava-1]", ""),
        (f"{beams}[llava-3]", ""),
        ("test_beam_scores_are_those_of_the_forward_pass[llava]", ""),
        ("test_training_logits_equal_generation_logits[gemma3]", ""),
        (f"{beams}[gemma3-1]", ""),
        (f"{beams}[3-gemma3]", "<error/>"),
        ("test_update_equality[kosmos2]", "<skipped/>"),
        ("test_of_something_else", ""),
    )
    found = outcomes(good)
    assert found["test_batch_reads_back", "llava"] is True
    made = table(found)
    assert marks(made, "llava") == [PASSED, NOT_RUN, PASSED, *[NOT_RUN] * 5]
    assert marks(made, "llava_next") == [FAILED, *[NOT_RUN] * 7]
    assert marks(made, "gemma3") == [NOT_RUN, NOT_RUN, FAILED, *[NOT_RUN] * 5]
    assert marks(made, "kosmos2") == [NOT_RUN] * 3 + [FAILED] + [NOT_RUN] * 4
    assert marks(made, "unichart") == [NOT_RUN] * 8


def test_the_table_goes_between_its_markers(tmp_path: Path):
    results, document = tmp_path / "results.xml", tmp_path / "page.md"
    results.write_text(xml(("test_batch_reads_back[llava]", "")), encoding="utf-8")
    former = "| family | kind | 1 batch |\n| --- | --- | :-: |\n| `former` | causal | ✓ |"
    document.write_text(f"before\n{BEGIN}\n{former}\n{END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        write_table(results, document)
        text = document.read_text(encoding="utf-8")
        assert text.startswith(f"before\n{BEGIN}\n| family | kind |")
        assert text.endswith(f"|\n{END}\nafter\n")
        assert "former" not in text
    document.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="needs the lines <!-- family table -->"):
        write_table(results, document)


def test_runs_on_other_packages_fill_a_column_and_leave_the_others(tmp_path: Path):
    results, document = tmp_path / "results.xml", tmp_path / "page.md"
    document.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    tests = list(itertools.chain(*COLUMNS.values()))
    everything = [(f"{test}[{family}]", "") for test in tests for family in ("llava", "gemma3", "kosmos2")]
    for which, cases in (
        ("", everything),
        ("oldest", [case for case in everything if "gemma3" not in case[0]]),
        ("newest", [(name, "<failure/>" if name == f"{tests[0]}[kosmos2]" else "") for name, _ in everything]),
        ("", everything[:-3]),
    ):
        results.write_text(xml(*cases), encoding="utf-8")
        write_table(results, document, which)
    made = document.read_text(encoding="utf-8")
    assert marks(made, "llava") == [*[PASSED] * 5, NOT_RUN, PASSED, PASSED]
    assert marks(made, "gemma3") == [*[PASSED] * 5, NOT_RUN, NOT_RUN, PASSED]
    assert marks(made, "kosmos2") == [*[PASSED] * 5, NOT_RUN, PASSED, FAILED]
    assert marks(made, "unichart") == [NOT_RUN] * 8


def test_every_column_stands_for_tests_of_all_families():
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "families").glob("test_families*.py")
    )
    for name in itertools.chain(*COLUMNS.values()):
        assert re.search(rf'@pytest\.mark\.parametrize\("name", ALL\)\ndef {name}\(', code), name


@pytest.mark.parametrize("which", MARKERS)
def test_the_page_lists_every_family_as_passed(which):
    text = (ROOT / "examples" / "own_family.md").read_text(encoding="utf-8")
    begin, end = MARKERS[which]
    made = text.partition(begin)[2].partition(end)[0].strip()
    everything = {(test, family): True for test in itertools.chain(*COLUMNS.values()) for family in KINDS}
    missing = {family for family, more in MORE.items() if more.needs or more.since}
    limits = {f: {"oldest": NOT_RUN if f in missing else PASSED, "newest": PASSED} for f in members()}
    assert made == table(everything, which, None if which else limits)


def test_make_test_has_the_first_families_and_a_few_more_and_make_families_has_all():
    quick, everything = chosen("quick"), chosen("all")
    assert len(quick) < len(everything)
    assert [name for name in everything if name in quick] == quick
    assert set(everything) <= set(KINDS)
    assert chosen("llava,gemma3") == ["llava", "gemma3"]
    assert not set(chosen("torchvision")) & set(everything)
    assert set(ALL) <= set(KINDS)


def test_the_page_of_models_says_of_each_whether_it_was_tried():
    tests = list(itertools.chain(*COLUMNS.values()))
    good = [(f"{test}[llava]", "") for test in tests] + [(f"{test}[blip2-3]", "") for test in tests]
    good.append((f"{model_table.REFUSAL}[git]", ""))
    bad = [("test_update_equality[gemma3]", "<failure/>"), (f"{model_table.REFUSAL}[blip]", "<failure/>")]
    text = model_table.page(
        xml(*good, *bad), ["blip", "blip-2", "gemma3", "gemma3n", "git", "llama4", "llava", "mistral3", "unheard-of"]
    )
    assert text.split("| --- | --- |\n")[1].splitlines() == [
        "| `blip` | not tried |",
        "| `blip-2` | works |",
        "| `gemma3` | fails: test_update_equality |",
        f"| `gemma3n` | {model_table.SEE_TORCHVISION} |",
        "| `git` | refused: its logits hold the positions of the chart before those of the tokens |",
        "| `llama4` | fails: the forward pass of transformers 5.24 raises AttributeError (image_outputs) |",
        "| `llava` | works |",
        f"| `mistral3` | {model_table.SEE_TORCHVISION} |",
        "| `unheard-of` | not tried |",
    ]


def test_the_page_of_models_names_every_model_of_transformers():
    text = (ROOT / "chartqa_ft" / "adapters" / "FAMILIES.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", text, re.MULTILINE))
    del named["config.model_type"]  # the heading
    if f"transformers {transformers.__version__};" in text:
        assert set(named) == set(model_table.MODELS)
    tried = {model_table.OTHER_TYPES.get(family, family) for family in members()}
    assert {name for name, state in named.items() if state == model_table.WORKS} == tried
    assert set(model_table.REASONS) <= set(named) - tried
