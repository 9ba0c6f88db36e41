"""Types of questions and answers, and kinds of mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chartqa_ft.metrics.mistakes import (
    ANSWER_RULES,
    MISTAKE_RULES,
    QUESTION_RULES,
    answer_type,
    explain,
    question_type,
    read_number,
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is the red bar above 5?", "yes/no"),
        ("Does Peru export more than Chile?", "yes/no"),
        ("How many bars are there?", "count"),
        ("What is the number of colors used?", "count"),
        ("How many percent chose Peru?", "lookup"),
        ("What is the color of the longest bar?", "color"),
        ("What is the difference between 2010 and 2011?", "arithmetic"),
        ("What's the ratio of the two largest?", "arithmetic"),
        ("Which country has the highest share?", "extreme"),
        ("Which party got more than 40 %?", "comparison"),
        ("What was the GDP of Peru in 2010?", "lookup"),
        ("", "lookup"),
        ("Wie viele Balken?", "lookup"),
    ],
)
def test_a_question_has_the_type_of_the_first_rule_that_fits(question, expected):
    assert question_type(question) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("2011", "year"),
        ("1799", "number"),
        ("2101", "number"),
        ("12.5", "number"),
        ("$1,200", "number"),
        ("50 %", "number"),
        ("\u22127", "number"),
        ("Yes", "yes/no"),
        ("no.", "yes/no"),
        *((word, "yes/no") for word in ("Ja", "Oui", "Sì", "Sí", "sim", "Nein", "nee.", "Non", "Não", "Na\u0303o")),
        ("Norway", "text"),
        ("[2003, 2004]", "list"),
        ("[Peru, Chile]", "list"),
        ("Peru", "text"),
        ("3 bars", "text"),
        (["7", "seven"], "number"),
        (None, "none"),
        (" ", "none"),
        (float("nan"), "none"),
    ],
)
def test_an_answer_has_the_type_of_the_first_rule_that_fits(answer, expected):
    assert answer_type(answer) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,204.50", 1204.5),
        ("US$ 3", 3.0),
        ("12 €", 12.0),
        ("12%", 12.0),
        ("1 204", 1204.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("12,5", None),
        ("-", None),
        ("", None),
        ("$", None),
        ("e3", None),
        ("9" * 1000, None),
    ],
)
def test_numbers_are_read_with_what_people_write_around_them(text, expected):
    assert read_number(text) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "kind", "why"),
    [
        ("", "12", "empty", "no answer"),
        (None, "Peru", "empty", "no answer"),
        ("$100", "100", "format", "written otherwise"),
        ("100 bars", "100", "format", "written otherwise"),
        ("U.S.A.", "USA", "format", "written otherwise"),
        ("-12", "12", "sign", "off by -200 %, the other sign"),
        ("0.5", "50%", "percent or fraction", "off by -99 %"),
        ("50", "0.5", "percent or fraction", "off by +9,900 %, percent against fraction"),
        ("12000", "12", "scale", "off by +99,900 %, 10^3 times the answer"),
        ("1.2", "12", "scale", "off by -90 %, 10^-1 times the answer"),
        ("2012", "2014", "year off by a few", "off by -0.0993 %"),
        ("20", "12", "number", "off by +66.7 %"),
        ("3", "0", "number", "another number"),
        ("No", "Yes", "yes for no", "yes instead of no"),
        ("Nein", "Ja", "yes for no", "yes instead of no"),
        ("Na\u0303o", "Sim", "yes for no", "yes instead of no"),
        ("false", "no", "format", "written otherwise"),
        ("many", "12", "kind of answer", "a text instead of a number"),
        ("12", "Peru", "kind of answer", "a number instead of a text"),
        ("[Peru]", "[Peru, Chile]", "part of a list", "0 % of the score"),
        ("Chile", "Peru", "text", "another text"),
    ],
)
def test_a_mistake_has_the_kind_of_the_first_rule_that_fits(prediction, answer, kind, why):
    found = explain(prediction, answer, 0.0)
    assert found.kind == kind
    assert why in found.why


@pytest.mark.parametrize(
    ("prediction", "answer", "why"),
    [
        ("Peru", "peru", "text equal"),
        ("104", "100", "within 5 %: off by +4 %"),
        ("0.5", "50%", "accepted by the metric"),
        ("2012", "2014", "within 5 %, but off by -2 years"),
        ("2014.0", "2014", "within 5 %: off by +0 %"),
    ],
)
def test_a_right_answer_says_what_makes_it_right(prediction, answer, why):
    found = explain(prediction, answer, 1.0)
    assert (found.kind, found.why) == ("right", why)


@pytest.mark.parametrize(
    ("prediction", "answer"), [("17", "12"), ("Chile", "Peru"), ("1,700.0", "12"), ("chile.", "Peru")]
)
def test_another_value_of_the_chart_is_found_in_its_table(prediction, answer):
    table = [["country", "value"], ["Peru", 12], ["Chile", 17], {"country": "Cuba", "value": "1700"}]
    assert explain(prediction, answer, 0.0, table=table).kind == "another value of the chart"
    assert explain(prediction, answer, 0.0).kind in ("number", "text")


def test_the_closest_of_several_answers_explains_a_mistake():
    assert explain("-7", ["Peru", "7"], 0.0).kind == "sign"


def test_without_an_answer_nothing_is_right_or_wrong():
    assert explain("7", None, None).kind == "unknown"
    assert explain("7", None, None).error is None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(max_size=40), st.one_of(st.text(max_size=40), st.lists(st.text(max_size=9), max_size=3), st.none()))
def test_no_text_breaks_the_rules(prediction, answer):
    assert question_type(prediction) in QUESTION_RULES
    assert answer_type(answer) in ANSWER_RULES
    for correct in (0.0, 0.5, 1.0):
        assert explain(prediction, answer, correct).kind in {"right", "unknown", *MISTAKE_RULES}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12,5", 12.5),
        ("1.204,50 €", 1204.5),
        ("1.204", 1204.0),
        ("12.5", 12.5),
        ("\u221212,5 %", -12.5),
        ("Peru", None),
    ],
)
def test_numbers_with_a_decimal_comma_are_read_where_it_is_known(text, expected):
    assert read_number(text, decimal_comma=True) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "kind"),
    [
        ("12,5 €", "12,5", "format"),
        ("-12,5", "12,5", "sign"),
        ("1250", "12,5", "scale"),
        ("0,5", "50 %", "percent or fraction"),
        ("17,5", "12,5", "another value of the chart"),
        ("etwa 12,5 Euro", "12,5", "format"),
        ("13,9", "12,5", "number"),
    ],
)
def test_mistakes_with_a_decimal_comma(prediction, answer, kind):
    assert explain(prediction, answer, 0.0, table=[["Peru", "17,5"]], decimal_comma=True).kind == kind
    assert answer_type(answer, decimal_comma=True) == "number"
