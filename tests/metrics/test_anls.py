"""The edit distance against the textbook table, and ANLS by hand."""

from __future__ import annotations

import random

import pytest

from chartqa_ft.metrics.anls import anls, edit_distance


def table_distance(a: str, b: str) -> int:
    """The textbook table, cell by cell."""
    rows = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, x in enumerate(a, start=1):
        for j, y in enumerate(b, start=1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (x != y))
    return rows[-1][-1]


def test_edit_distance_against_the_textbook_table() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("", "") == 0
    rng = random.Random(7)
    for _ in range(1500):
        a, b = ("".join(rng.choice("abß\U0001f4ca ") for _ in range(rng.randint(0, 24))) for _ in range(2))
        assert edit_distance(a, b) == table_distance(a, b), (a, b)
    long = "ab" * 10_000
    assert edit_distance(long, long[1:] + "c") == 2


def test_anls_by_hand() -> None:
    assert anls("Likely", "likely") == 1.0
    assert anls("Unlikely", "Likely") == 0.75
    assert anls("ab", "xb") == 0.0  # half of the letters wrong is already nothing
    assert anls("a b", " a \t b\n") == 1.0
    assert anls("", "") == 1.0
    assert anls("", "a") == 0.0
    assert anls("gros", "groß") == pytest.approx(1 - 1 / 5)  # GROSS has five letters
    assert anls("abcd", "abxy", threshold=0.6) == 0.5


def test_a_limit_gives_the_distance_or_one_more() -> None:
    random.seed(1)
    for _ in range(300):
        alphabet = random.choice(["ab", "abcde", "aé売🙂"])
        a = "".join(random.choices(alphabet, k=random.choice([3, 20, 150])))
        b = "".join(char for char in a if random.random() > 0.3) + random.choice(["", "x" * 40])
        distance = table_distance(a, b)
        for limit in (0, 1, distance - 1, distance, distance + 1, len(a)):
            if limit >= 0:
                assert edit_distance(a, b, limit=limit) == min(distance, limit + 1), (a, b, limit)


def test_long_texts() -> None:
    """Their time grows with the length and not with its square; see `anls` for what that costs."""
    a = "abcdefghij" * 30_000
    assert anls(a, a[:-1] + "x") == 1 - 1 / 300_000
    assert anls(a, "b" + a) == 1 - 1 / 300_001
    assert anls(a, "x".join(a[i : i + 1000] for i in range(0, len(a), 1000))) == 1 - 299 / 300_299
    assert anls(a, a[::-1]) == 0.0
    assert anls("a" * 300_000, "b" * 300_000) == 0.0
    assert anls("ab" * 5000, "ba" * 5000) == 1 - 2 / 10_000
    assert anls("ab" * 5000, "ac" * 4000 + "ab" * 1000) == 1 - 4000 / 10_000
    assert anls("ab" * 5000, "ac" * 5000) == 0.0
