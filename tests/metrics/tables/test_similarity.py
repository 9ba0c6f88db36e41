"""All pairs at once against one pair at a time."""

from __future__ import annotations

import random

import numpy as np
import pytest

from chartqa_ft.metrics.anls import edit_distance
from chartqa_ft.metrics.tables import similarity


@pytest.mark.parametrize("strict", [False, True])
def test_all_pairs_are_those_of_the_edit_distance(strict):
    rng = random.Random(5)
    sides = [
        ["".join(rng.choice("abß ") for _ in range(n)) for n in (0, 1, 2, 3, 8, 31, 40, 63, 64, 65, 90, 130, 130)]
        for _ in range(2)
    ]
    sides[1] += [text[1:] + "x" for text in sides[0]] + sides[0][:3]
    found = similarity.similarities(*sides, strict=strict)
    for i, a in enumerate(sides[0]):
        for j, b in enumerate(sides[1]):
            share = edit_distance(a, b) / max(len(a), len(b), 1)
            assert found[i, j] == (1 - share if share < 0.5 or (share == 0.5 and not strict) else 0.0), (a, b)


def test_nothing_and_blocks(monkeypatch):
    assert similarity.similarities([], ["a"]).shape == (0, 1)
    assert similarity.similarities([""], ["", "a"]).tolist() == [[1.0, 0.0]]
    texts = [f"label {i}" for i in range(40)]
    whole = similarity.similarities(texts, texts)
    monkeypatch.setattr(similarity, "_PAIRS_AT_ONCE", 7)
    assert np.array_equal(similarity.similarities(texts, texts), whole)


def test_too_many_long_texts_are_tested_for_equality_only():
    long = ["a" * 40_000, "a" * 39_999]
    assert similarity.similarities(long, [*long, "a"]).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert similarity.similarities(long, long[:1])[1, 0] == 0.0
    shorter = ["a" * 4_000, "a" * 3_999]
    assert similarity.similarities(shorter, shorter[:1])[1, 0] == 1 - 1 / 4_000
