"""What kind of question, answer and mistake a scored row is: simple rules on texts, for people who look at mistakes.

The rules describe rows and never change a score. `QUESTION_RULES` and `MISTAKE_RULES` say in words what they do, so
that a report can print them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .answers import as_targets, to_list, to_number
from .correctness import FIRST_YEAR, LAST_YEAR
from .notation import drop_thousands_commas, to_point
from .predictions import is_blank
from .tolerance import TOLERANCE, within_tolerance

__all__ = [
    "ANSWER_RULES",
    "MISTAKE_RULES",
    "QUESTION_RULES",
    "Explanation",
    "answer_type",
    "explain",
    "question_type",
    "read_number",
]

_WORDS: dict[str, str] = {
    "yes/no": r"^\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should)\b",
    "count": r"\bhow many\b(?!\s+(?:percent|%))|\bcount of\b|\bnumber of (?:bars|colou?rs|lines|groups|years|items)\b",
    "color": r"\bcolou?rs?\b",
    "arithmetic": r"\b(?:sum|total|add(?:ed|ing)?|differ(?:ence|s?)|subtract\w*|minus|plus|ratio|divided?|average|"
    r"mean|median|product|multipl\w+|times|percentage change|how much (?:more|less|higher|lower|larger|smaller))\b",
    "extreme": r"\b(?:highest|largest|biggest|greatest|longest|maximum|most|top|peak|lowest|smallest|shortest|minimum|"
    r"least|fewest|bottom)\b",
    "comparison": r"\b(?:more|less|fewer|greater|higher|lower|larger|smaller|above|below|over|under|exceeds?)\b",
}
_QUESTION_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _WORDS.items()}

QUESTION_RULES: dict[str, str] = {
    "yes/no": "begins with a verb: is, are, was, does, did, has, can, ...",
    "count": "asks how many, or for the number of bars, colors, lines, ...",
    "color": "names a color",
    "arithmetic": "asks for a sum, total, difference, ratio, average, median, ...",
    "extreme": "asks for the highest, largest, most, lowest, smallest, least, ...",
    "comparison": "compares: more, less, greater, above, below, ...",
    "lookup": "everything else",
}
"""Types of questions and the rule of each, in words. The first rule that fits decides. The rules read English."""

ANSWER_RULES: dict[str, str] = {
    "list": "a list in brackets, or more than one item to name",
    "yes/no": "yes or no (in English, German, Dutch, French, Italian, Portuguese or Spanish), true or false",
    "year": f"a whole number from {FIRST_YEAR} to {LAST_YEAR}",
    "number": "any other number, with or without a currency, a percent sign or separators",
    "text": "everything else",
    "none": "there is no answer",
}
"""Types of answers and the rule of each, in words. The first rule that fits decides."""

MISTAKE_RULES: dict[str, str] = {
    "empty": "the prediction is empty",
    "format": "the same number or text, written otherwise (currency, separators, units, punctuation, language)",
    "sign": "the same number with the other sign",
    "percent or fraction": "a hundredfold or a hundredth, as 0.5 for 50 %",
    "scale": "the same number times a power of ten",
    "year off by a few": "a year, at most 5 years away",
    "another value of the chart": "another value of the chart's table (where the table is known)",
    "yes for no": "yes instead of no, or no instead of yes",
    "part of a list": "some of the items are right",
    "number": "another number",
    "kind of answer": "a text instead of a number, or a number instead of a text",
    "text": "another text",
}
"""Kinds of mistakes and the rule of each, in words. The first rule that fits decides."""

_YES = frozenset({"yes", "true", "ja", "oui", "s\u00ec", "s\u00ed", "sim"})
_NO = frozenset({"no", "false", "nein", "nee", "non", "n\u00e3o"})
_NUMBER = re.compile(r"[+\-\u2212]?(?:\d[\d,\u00a0\u2009\u202f ]*\d|\d)?(?:\.\d+)?(?:[eE][+-]?\d+)?")
_AROUND = re.compile(r"^(?:[$€£¥~≈]|US\$|USD|EUR)?\s*|\s*(?:[$€£¥%.]|USD|EUR)?$")
_FEW_YEARS = 5
_IN_WORDS = {
    "sign": "the other sign",
    "percent or fraction": "percent against fraction",
    "another value of the chart": "another value of the chart",
}
_LONGEST = 200
"""Characters of a text that the rules read. What is longer is no number, and no name of a bar."""


@dataclass(frozen=True)
class Explanation:
    """Why an answer is right or wrong.

    Example:
        >>> explain("96", "100", 1.0)
        Explanation(kind='right', why='within 5 %: off by -4 %', error=-0.04)
    """

    kind: str
    """`"right"`, `"unknown"` for a question without an answer, or a key of `MISTAKE_RULES`."""
    why: str
    """A few words for people."""
    error: float | None
    """`(prediction - answer) / abs(answer)` if both are numbers and the answer is not 0."""


def question_type(question: object) -> str:
    """Return the type of a question, a key of `QUESTION_RULES`.

    Example:
        >>> question_type("How many bars are red?"), question_type("Which country has the highest share?")
        ('count', 'extreme')
    """
    text = str(question)[: 10 * _LONGEST]
    return next((name for name, pattern in _QUESTION_PATTERNS.items() if pattern.search(text)), "lookup")


def answer_type(answer: Any, *, decimal_comma: bool = False) -> str:
    """Return the type of an answer, a key of `ANSWER_RULES`. Of several accepted answers the first one decides.

    Args:
        answer: the label, or a list of accepted answers.
        decimal_comma: numbers have a decimal comma, as in `read_number`.

    Example:
        >>> [answer_type(answer) for answer in ("2011", "$1,200", "Yes", "[Peru, Chile]", "Peru")]
        ['year', 'number', 'yes/no', 'list', 'text']
    """
    if is_blank(answer):
        return "none"
    text = next(iter(as_targets(answer)), "").strip()
    if (text.startswith("[") and text.endswith("]")) or to_list(text) is not None:
        return "list"
    if _bare_word(text) in _YES | _NO:
        return "yes/no"
    if re.fullmatch(r"\d{4}", text) and FIRST_YEAR <= int(text) <= LAST_YEAR:
        return "year"
    return "text" if read_number(text, decimal_comma=decimal_comma) is None else "number"


def _bare_word(text: str) -> str:
    """Return a short text in lower case, with composed accents and without a final point."""
    return unicodedata.normalize("NFC", text[:_LONGEST].strip().lower().rstrip("."))


def read_number(text: str, *, decimal_comma: bool = False) -> float | None:
    """Return the number in a text with a currency, percent sign, separators of thousands or a final point.

    Unlike `to_number`, a percent sign does not divide by 100.

    Args:
        text: the text.
        decimal_comma: a comma is the decimal mark, and points or spaces separate thousands. A text that is no number
            in this notation is read as if it had a decimal point.

    Example:
        >>> read_number("$1,204.50"), read_number("50 %"), read_number("1 bar")
        (1204.5, 50.0, None)
        >>> read_number("1.204,5 €", decimal_comma=True)
        1204.5
    """
    if len(text) > _LONGEST:
        return None
    bare = _AROUND.sub("", text.strip())
    if decimal_comma:
        bare = to_point(bare) or bare
    if not _NUMBER.fullmatch(bare) or not any(char.isdigit() for char in bare):
        return None
    return to_number(drop_thousands_commas(re.sub(r"[\u00a0\u2009\u202f ]", "", bare).replace("\u2212", "-")))


def explain(
    prediction: Any,
    answer: Any,
    correct: float | None,
    *,
    table: Iterable[Sequence[Any] | Mapping[str, Any]] = (),
    decimal_comma: bool = False,
) -> Explanation:
    """Say why a prediction is right or wrong, without deciding whether it is.

    Args:
        prediction: the predicted text.
        answer: the label, or a list of accepted answers, of which the closest one is compared.
        correct: the metric's verdict between 0 and 1; `None` if there is no answer.
        table: the rows of the chart's table, if it is known, each a sequence or dict of cells.
        decimal_comma: numbers have a decimal comma, as in `read_number`.

    Example:
        >>> explain("12", "-12", 0.0).kind, explain("0.5", "50%", 0.0).kind, explain("2012", "2014", 0.0).kind
        ('sign', 'percent or fraction', 'year off by a few')
        >>> explain("Chile", "Peru", 0.0, table=[["Peru", 3], ["Chile", 4]]).kind
        'another value of the chart'
    """
    text = "" if prediction is None else str(prediction)
    if correct is None or is_blank(answer):
        return Explanation("unknown", "no answer to compare", None)
    rules = _Rules(list(_cells(table)), decimal_comma)
    found = [rules.compare(text, target, correct) for target in as_targets(answer)] or [
        Explanation("text", "other text", None)
    ]
    order = ("right", *MISTAKE_RULES)
    return min(found, key=lambda one: (order.index(one.kind), abs(one.error) if one.error is not None else 0.0))


@dataclass(frozen=True)
class _Rules:
    """The rules of `explain` for a chart."""

    cells: list[Any]
    """All cells of the chart's table; none if the table is not known."""
    decimal_comma: bool

    def number(self, text: str) -> float | None:
        return read_number(text, decimal_comma=self.decimal_comma)

    def bare(self, text: str) -> str:
        """Return the letters and digits of a text in lower case, and of a number its value."""
        number = self.number(text)
        return "".join(char for char in text.casefold() if char.isalnum()) if number is None else repr(number)

    def compare(self, text: str, target: str, correct: float) -> Explanation:
        p, t = self.number(text), self.number(target)
        error = (p - t) / abs(t) if p is not None and t else None
        if correct == 1.0:
            if text.strip().lower() == target.strip().lower():
                return Explanation("right", "text equal", error)
            if error is not None and p is not None and t and within_tolerance(p, t):
                if answer_type(target) == "year" and p != t:
                    return Explanation("right", f"within {100 * TOLERANCE:g} %, but off by {p - t:+g} years", error)
                return Explanation("right", f"within {100 * TOLERANCE:g} %: off by {_percent(error)}", error)
            return Explanation("right", "accepted by the metric", error)
        if not text.strip():
            return Explanation("empty", "no answer", None)
        kind = self.kind(text, target, p, t)
        if kind == "part of a list" or 0 < correct < 1:
            return Explanation(kind, f"{100 * correct:.0f} % of the score", error)
        if kind == "kind of answer":
            return Explanation(
                kind, f"a {'text' if p is None else 'number'} instead of a {'text' if t is None else 'number'}", error
            )
        if error is None or kind == "format":
            return Explanation(kind, MISTAKE_RULES[kind], error)
        more = _IN_WORDS.get(kind, "")
        if kind == "scale" and p is not None and t:
            more = f"10^{round(math.log10(abs(p / t)))} times the answer"
        return Explanation(kind, f"off by {_percent(error)}" + (more and f", {more}"), error)

    def kind(self, text: str, target: str, p: float | None, t: float | None) -> str:
        if self.bare(text) == self.bare(target):
            return "format"
        if answer_type(target) == "list":
            items = [self.bare(str(item)) for item in to_list(target) or target.strip("[] ").split(",")]
            given = [self.bare(str(item)) for item in to_list(text) or text.strip("[] ").split(",")]
            return "part of a list" if set(items) & set(given) else "text"
        if p is not None and t is not None:
            return self.kind_of_numbers(text, target, p, t)
        sides = _bare_word(text), _bare_word(target)
        if all(side in _YES | _NO for side in sides):
            return "yes for no" if (sides[0] in _YES) != (sides[1] in _YES) else "format"
        if (p is None) != (t is None):
            inside = re.findall(r"[+\-\u2212]?\d[\d,]*(?:\.\d+)?", text[:_LONGEST]) if p is None else []
            if self.decimal_comma and p is None:
                inside = re.findall(r"[+\-\u2212]?\d[\d.]*(?:,\d+)?", text[:_LONGEST])
            numbers = [self.number(number) for number in inside]
            if t is not None and len(numbers) == 1 and numbers[0] is not None and _close(numbers[0], t):
                return "format"
            return "kind of answer"
        return "another value of the chart" if self.bare(text) in set(map(self.bare, map(str, self.cells))) else "text"

    def kind_of_numbers(self, text: str, target: str, p: float, t: float) -> str:
        percent = "%" in text or "%" in target
        if answer_type(target) == "year" and p.is_integer() and 0 < abs(p - t) <= _FEW_YEARS:
            return "year off by a few"
        if _close(p, t):
            return "format"
        if p and t and _close(-p, t):
            return "sign"
        if any(t and _close(p, t * factor) for factor in (100.0, 0.01)) and (percent or min(abs(p), abs(t)) <= 1):
            return "percent or fraction"
        if any(t and _close(p, t * 10.0**power) for power in range(-12, 13) if power):
            return "scale"
        numbers = [self.number(str(cell)) for cell in self.cells]
        return "another value of the chart" if any(number == p for number in numbers) else "number"


def _cells(table: Iterable[Any]) -> Iterable[Any]:
    for row in table:
        yield from row.values() if isinstance(row, Mapping) else row


def _close(p: float, t: float) -> bool:
    """Return whether two numbers are equal up to rounding to three digits."""
    return abs(p - t) <= 5e-3 * abs(t)


def _percent(error: float) -> str:
    percent = 100 * error
    return f"{percent:+,.0f} %" if 1000 <= abs(percent) < 1e9 else f"{percent:+.3g} %"
