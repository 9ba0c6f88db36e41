"""No input of the corpus goes silently wrong, and none ends in an unclear error."""

from __future__ import annotations

import pytest

from . import corpus
from .case import judge

CASES = corpus()


@pytest.mark.parametrize(("group", "name"), CASES, ids=[f"{group}-{name}" for group, name in CASES])
def test_every_bad_input_is_handled_or_refused_clearly(group: str, name: str):
    outcome = judge(CASES[group, name])
    assert not outcome.is_wrong, f"{outcome.kind}: {outcome.note}"


def test_the_corpus_is_large_and_covers_every_group():
    groups = [group for group, _ in CASES]
    assert len(groups) >= 250
    assert set(groups) == {"images", "records", "tables", "folders", "configurations"}
    assert min(groups.count(group) for group in set(groups)) >= 40
