"""Decimal commas: how they are read, how a data set's notation is found, and what is said when they are not read."""

from __future__ import annotations

import logging
import random

import pytest

from chartqa_ft.metrics import VARIANTS, compare_predictions
from chartqa_ft.metrics.accuracy import per_example_correctness, relaxed_accuracy
from chartqa_ft.metrics.correctness import pix2struct, relaxed_correctness
from chartqa_ft.metrics.notation import DETECTED, drop_thousands_commas, find_notation, to_point


def verdict(prediction: object, target: object, variant: str = "decimal_comma") -> float:
    return relaxed_correctness(prediction=prediction, target=target, variant=variant)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12,5", 12.5),
        ("1.204,50", 1204.5),
        ("1.204", 1204.0),
        ("1.204.500", 1204500.0),
        ("1 204,5", 1204.5),
        ("1\u00a0204,5", 1204.5),
        ("1\u202f204\u202f500", 1204500.0),
        ("-12,5", -12.5),
        ("\u221212,5", -12.5),
        ("+3", 3.0),
        (",5", 0.5),
        ("5,", 5.0),
        ("0,125", 0.125),
        ("1204,125", 1204.125),
        ("1,5e3", 1500.0),
        (" 7 ", 7.0),
        ("\u0663,\u0665", 3.5),  # Arabic digits
    ],
)
def test_numbers_with_a_decimal_comma(text: str, number: float) -> None:
    assert float(to_point(text)) == number


@pytest.mark.parametrize(
    "text",
    [
        "12.5",
        "1.2045",
        "0.125",
        "12,5,5",
        "1..204",
        "1.204 500",
        "1 2045",
        "1.20",
        "nan",
        "inf",
        "",
        ",",
        "-",
        "%",
        "e5",
        "12,5 kg",
        "$12,5",
        "1_000",
        "Peru",
        "[12,5]",
    ],
)
def test_other_texts_are_no_numbers_with_a_decimal_comma(text: str) -> None:
    assert to_point(text) is None


@pytest.mark.parametrize("text", ["1" + " " * 10**6 + "x", " " * 10**6, "1" * 10**6, "1.000" * 10**5, "," * 10**6])
def test_long_texts_take_no_time(text: str) -> None:
    to_point(text)
    drop_thousands_commas(text)
    assert find_notation([text]).n == 1


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ("12,5", "12,5", 1.0),
        ("13,1", "12,5", 1.0),
        ("13,2", "12,5", 0.0),
        ("126", "12,5", 0.0),
        ("125", "12,5", 0.0),
        ("12", "12,5", 1.0),
        ("1204,5", "1.204,50", 1.0),
        ("1.250", "1.204,50", 1.0),
        ("1,25", "1.204,50", 0.0),
        ("1,2", "1.204", 0.0),
        ("12.5", "12,5", 0.0),  # another notation is text
        ("12,5 %", "12,5%", 1.0),
        ("0,125", "12,5%", 1.0),
        ("12,5", "12,5%", 0.0),
        ("peru", "Peru", 1.0),
        ("0,0", "0", 0.0),  # as for pix2struct, a label of 0 is compared as text
        ("0", "0", 1.0),
    ],
)
def test_the_variant_has_the_five_percent_rule(prediction: str, target: str, expected: float) -> None:
    assert verdict(prediction, target) == expected


def test_the_variant_is_pix2struct_in_another_notation() -> None:
    rng = random.Random(5)

    def german(number: float) -> str:
        return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))

    seen = set()
    for _ in range(3000):
        target = rng.uniform(-5000, 5000)
        prediction = target * rng.uniform(0.9, 1.1)
        expected = pix2struct(f"{prediction:.2f}", f"{target:.2f}")
        assert verdict(german(prediction), german(target)) == expected
        seen.add(expected)
    assert seen == {0.0, 1.0}


@pytest.mark.parametrize(
    ("labels", "mark"),
    [
        (["12,5"], "comma"),
        (["1.204,50"], "comma"),
        (["1.204.500"], "comma"),
        (["0,125"], "comma"),
        (["1204,125"], "comma"),
        (["1 204,5"], "comma"),
        (["-3,5 %", "Peru", "7"], "comma"),
        (["€ 3,50"], "comma"),
        ([["x", "12,5"]], "comma"),
        (["12,5", "1.204"], "comma"),
        (["12.5", "1.204"], "point"),
        (["1,204.50"], "point"),
        (["1,204,500"], "point"),
        (["1,00,000"], "point"),
        (["0.125"], "point"),
        (["12.5", "1,204"], "point"),
        (["1.204"], None),
        (["1,204", "7", "Peru"], None),
        (["7", "2008"], None),
        ([], None),
        (["12,5"] * 9 + ["12.5"], "comma"),
        (["12,5"] * 8 + ["12.5"], None),
        (["12.5"] * 9 + ["12,5"], "point"),
        (["[1,2]", "1,2,3", "3. 5. 2020", "1.2.3", "v1,5"], None),
    ],
)
def test_the_notation_of_a_data_set(labels: list, mark: str | None) -> None:
    assert find_notation(labels).mark == mark
    assert find_notation(reversed(labels)).mark == mark


def test_ambiguous_labels_follow_the_others() -> None:
    """One answer is read in one way or the other, by what the labels of other questions say."""
    asked = {"predictions": ["1204", "x"], "variant": DETECTED}
    assert per_example_correctness(references=["1.204", "12,5"], **asked) == [1.0, 0.0]
    assert per_example_correctness(references=["1.204", "12.5"], **asked) == [0.0, 0.0]
    german = relaxed_accuracy(references=["1.204", "12,5"], **asked)
    assert (german["relaxed_accuracy"], german["read_decimal_comma"]) == (0.5, 1.0)
    english = relaxed_accuracy(references=["1.204", "12.5"], **asked)
    assert (english["relaxed_accuracy"], english["read_decimal_comma"]) == (0.0, 0.0)


def test_answers_never_decide() -> None:
    metrics = relaxed_accuracy(predictions=["12,5"] * 50, references=["12.5"] * 50, variant=DETECTED)
    assert (metrics["relaxed_accuracy"], metrics["read_decimal_comma"]) == (0.0, 0.0)


@pytest.mark.parametrize("labels", [["1.204", "7"], ["12,5", "12.5"]])
def test_an_undecided_notation_is_said(labels: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        metrics = relaxed_accuracy(predictions=labels, references=labels, variant=DETECTED)
    assert metrics["read_decimal_comma"] == 0.0
    (record,) = caplog.records
    assert "do not decide" in record.getMessage()
    assert "'decimal_comma' or 'pix2struct'" in record.getMessage()


def test_one_answer_has_no_notation() -> None:
    with pytest.raises(ValueError, match=r"needs the labels of a whole data set.*decimal_comma"):
        verdict("12,5", "12,5", DETECTED)
    assert DETECTED not in VARIANTS


def test_decimal_commas_that_are_not_read_are_said_once_a_call(caplog: pytest.LogCaptureFixture) -> None:
    asked = {"predictions": ["13", "1.204", "a", "7"], "references": ["12,5", "1.204,50", "A", "7"]}
    with caplog.at_level(logging.WARNING):
        metrics = relaxed_accuracy(**asked)
    (record,) = caplog.records
    assert record.getMessage() == (
        "2 of 4 labels look like numbers with a decimal comma, such as '12,5'. The variant 'pix2struct' reads them as "
        "text, so that no tolerance applies to them: use the variant 'decimal_comma' or 'detect_decimal_comma'"
    )
    assert (metrics["relaxed_accuracy"], metrics["share_decimal_comma"]) == (0.5, 0.5)
    assert metrics["accuracy_lenient"] == 0.5
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for variant in ("decimal_comma", DETECTED):
            metrics = relaxed_accuracy(**asked, variant=variant)
            assert (metrics["relaxed_accuracy"], metrics["share_decimal_comma"]) == (1.0, 0.5)
            assert (metrics["accuracy_lenient"], metrics["share_unparsable_number"]) == (1.0, 0.0)
        relaxed_accuracy(**asked, variant="exact_match")  # has no numbers
    assert caplog.records == []


def test_labels_without_decimal_commas_give_the_same_numbers_as_before(caplog: pytest.LogCaptureFixture) -> None:
    labels = ["12.5", "1,204", "1204", "Peru, Chile", "[1, 2]", "0", "2008"]
    with caplog.at_level(logging.WARNING):
        metrics = relaxed_accuracy(predictions=labels, references=labels)
        detected = relaxed_accuracy(predictions=labels, references=labels, variant=DETECTED)
    assert caplog.records == []
    assert not {"share_decimal_comma", "read_decimal_comma", "n_charts", "share_extracted"} & set(metrics)
    assert {key: value for key, value in detected.items() if key != "read_decimal_comma"} == metrics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,204", "1204"),
        ("1,204,500.25", "1204500.25"),
        ("1,00,000", "100000"),
        ("$1,204", "$1204"),
        ("12,5", "12,5"),
        ("0,125", "0,125"),
        (",5", ",5"),
        ("-,5", "-,5"),
        ("1204,500", "1204,500"),
        ("1.204,50", "1.204,50"),
        ("1.204,500", "1.204,500"),
        ("1,2,3", "1,2,3"),
        ("2008, 2009", "2008 2009"),
        ("Peru,7", "Peru7"),
        ("7,", "7"),
    ],
)
def test_only_thousands_separators_are_dropped(text: str, expected: str) -> None:
    assert drop_thousands_commas(text) == expected


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ("126", "12,5", 0.0),
        ("125", "12,5", 0.0),
        ("12,5", "125", 0.0),
        ("12,5", "12,5", 1.0),
        ("5", ",5", 0.0),
        ("125", "0,125", 0.0),
        ("1.2", "1.204,50", 0.0),
        ("1.2", "1.204,500", 0.0),
        ("1,204", "1204", 1.0),
        ("$1,204,500.", "1204500", 1.0),
        ("1,00,000", "100000", 1.0),
        ("12,5%", "125", 0.0),
    ],
)
def test_lenient_keeps_decimal_commas(prediction: str, target: str, expected: float) -> None:
    assert verdict(prediction, target, "lenient") == expected


def test_comparisons_find_the_notation_and_say_what_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    references = ["12,5", "1.204", "7"]
    with caplog.at_level(logging.WARNING):
        result = compare_predictions(["13", "1204", "7"], ["126", "1,2", "7"], references=references, variant=DETECTED)
    assert (result["accuracy_a"], result["accuracy_b"]) == (1.0, 1 / 3)
    assert caplog.records == []
    with caplog.at_level(logging.WARNING):
        compare_predictions(["13", "1204", "7"], ["126", "1,2", "7"], references=references)
    assert len(caplog.records) == 1
