"""No input of the corpus goes silently wrong or ends in an unclear error, except those in `known_wrong.txt`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from . import corpus
from .case import HANDLED, REFUSED, SILENT, UNCLEAR, judge
from .ratchet import KNOWN_WRONG, known_wrong, summary, write_known_wrong

CASES = corpus()
KNOWN = known_wrong()
COUNTS: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def _printed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print the summary of this process past pytest's capture."""
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    if COUNTS and capture is not None:
        with capture.global_and_fixture_disabled():
            print(f"\nbad inputs: {summary(COUNTS)}")


@pytest.mark.parametrize(("group", "name"), CASES, ids=[f"{group}-{name}" for group, name in CASES])
def test_every_bad_input_is_handled_or_refused_clearly(group: str, name: str) -> None:
    outcome = judge(CASES[group, name])
    COUNTS[outcome.kind] += 1
    if (group, name) in KNOWN:
        assert outcome.is_wrong, f"this case is right now: take it out of {KNOWN_WRONG.name}"
    else:
        assert not outcome.is_wrong, f"{outcome.kind}: {outcome.note}"


def test_every_known_case_exists() -> None:
    assert sorted(KNOWN - set(CASES)) == []


def test_the_corpus_is_large_and_covers_every_group() -> None:
    groups = [group for group, _ in CASES]
    assert len(groups) >= 600
    assert set(groups) == {"images", "records", "tables", "folders", "configurations"}
    assert min(groups.count(group) for group in set(groups)) >= 40


def test_the_list_comes_back_as_it_was_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tests.bad_inputs.ratchet.KNOWN_WRONG", tmp_path / "known.txt")
    assert known_wrong() == set()
    keys = {("images", "a\nb"), ("records", "\ud800\t'\\x'"), ("tables", "1.204,50 \u20ac")}
    write_known_wrong(keys)
    assert known_wrong() == keys


def test_the_summary_counts_each_outcome() -> None:
    counts = {HANDLED: 3, REFUSED: 4, SILENT: 2, UNCLEAR: 1}
    assert summary(counts) == "7 of 10 handled or clear, 2 silently wrong, 1 unclear"
