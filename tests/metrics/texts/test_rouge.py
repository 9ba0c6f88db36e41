"""The words of ROUGE in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer

from chartqa_ft.metrics.texts.rouge import UnicodeTokenizer, share_of_foreign_letters

from ...security.fuzzing import fuzz

words = UnicodeTokenizer().tokenize


@fuzz(100)
@given(st.text(st.characters(max_codepoint=127)))
def test_of_ascii_the_tokens_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == DefaultTokenizer().tokenize(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Die Größe der Märkte", ["die", "grösse", "der", "märkte"]),
        ("Ма\u0301рт: 2,5 %", ["ма\u0301рт", "2", "5"]),
        ("बिक्री बढ़ी", ["बिक्री", "बढ\u093cी"]),
        ("المبيعات ٢٠١٩", ["المبيعات", "٢٠١٩"]),
        ("2019年の売上高はABC社", ["2019", "年", "の", "売", "上", "高", "は", "abc", "社"]),
        ("ยอดขาย", ["ย", "อ", "ด", "ข", "า", "ย"]),
        ("น้ำ", ["น\u0e49\u0e4d", "า"]),
        ("매출이 늘었다", ["매출이", "늘었다"]),
        ("ＧＤＰ　５％", ["gdp", "5"]),
        ("\u0301 a", ["a"]),
        ("_- \n", []),
    ],
)
def test_words_of_other_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@fuzz(30)
@given(st.text(max_size=30))
def test_no_text_fails(text: str) -> None:
    assert "".join(words(text)) == "".join("".join(words(text)).split())
    assert 0.0 <= share_of_foreign_letters(text) <= 1.0
