"""Scores of tables by hand: the traps of published scripts, and a default without them."""

from __future__ import annotations

import pytest

from chartqa_ft.metrics import TABLE_VARIANTS, Table, parse_table, per_example_table_scores, table_scores, write_table

TARGET = "Year | EU | US\n2019 | 5 | 6\n2020 | 7 | 8"


def scores(prediction, target, variant="default"):
    (found,) = per_example_table_scores(predictions=[prediction], references=[target], variant=variant)
    return found


def rms(prediction, target, variant="default"):
    found = scores(prediction, target, variant)
    return tuple(found[f"rms_{name}"] for name in ("precision", "recall", "f1"))


@pytest.mark.parametrize(
    ("target", "prediction", "expected", "rnss"),
    [
        ("Year | EU\n2019 | 80", "Year | EU\n2019 | 75", (0.9375, 0.9375, 0.9375), 1 - 0.0625 / 2),
        ("TITLE | a\nk | v\nx | 5", "TITLE | a\nk | v\nx | 9", (0.5, 0.5, 0.5), 0.2),  # a free point for the title
        ("a, b", "c, d", (1, 1, 1), 1),  # no separator
        ("k | v\nx | 1", "", (1, 0, 0), 0),
        ("k | v\nx | 1\ny | 2", "k | v\nx | 1", (1, 0.5, 2 / 3), 1),  # a missing number costs nothing
        ("k | v\nx | nan", "k | v\nx | nan", (0, 0, 0), 0),
        ("k | v\nx | 0", "k | v\nx | 0", (1, 1, 1), 0),
        ("k | v\nx | 1,234", "k | v\nx | 1,235", (0.8, 0.8, 0.8), 1),  # texts
        ("k | v\nx | 50%", "k | v\nx | 50", (0, 0, 0), 0),
        ("k | v\nab | 5", "k | v\ncd | 5", (0.5, 0.5, 0.5), 1),  # half of the letters
        ("k | v\nx | 1", "k | x\nv | 1", (1, 1, 1), 1),  # transposed
    ],
)
def test_the_script_by_hand(target, prediction, expected, rnss):
    assert rms(prediction, target, "deplot") == pytest.approx(expected)
    assert scores(prediction, target, "deplot")["rnss"] == pytest.approx(rnss)


def test_how_the_copies_differ():
    half = {"prediction": "k | v\ncd | 5", "target": "k | v\nab | 5"}
    assert [rms(**half, variant=name)[2] for name in TABLE_VARIANTS] == [0.5, 0.5, 0.5, 0.0]
    short = {"prediction": "k | v\nx | 1", "target": "k | v\nx | 1\ny | 2"}
    assert [rms(**short, variant=name)[2] for name in TABLE_VARIANTS] == pytest.approx([2 / 3, 2 / 3, 0.5, 2 / 3])


@pytest.mark.parametrize(
    ("target", "prediction", "expected"),
    [
        ("", "", 1.0),
        ("TITLE | a", "TITLE | a", 1.0),
        ("TITLE | a", "TITLE | b", 0.0),
        (" | a\nx | 1", " | a\nx | 1", 1.0),
        ("k | a\n | 1", "k | a\n | 1", 1.0),
        ("k | a | b\nx | 1 | 2\ny | 3 | 4", "k | b | a\nx | 2 | 1\ny | 4 | 9", 0.5),
        ("k | a\nx | 5", "k | a | b\nx | 5 | 6\ny | 7 | 8", 0.0),  # another number of columns
        ("k | a\nx | 80", "k | a\nx | 75", 0.9375),
        ("k | a\nx | 5", "k | a\nx | five", 0.0),
        ("k | a\nx | likely", "k | a\nx | unlikely", 0.75),
    ],
)
def test_rows_of_the_script_by_hand(target, prediction, expected):
    found = scores(prediction, target, "deplot")
    assert [found[f"row_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx([expected] * 3)


@pytest.mark.parametrize(
    "table",
    [
        "k | v\nx | nan\ny | 0",
        "k | v\nx | nan",
        "k | v\nx | a\nx | b\nx | 3",  # a label that occurs three times
        "k | v | v\nx | 1 | 2",
        "TITLE | only",
        "one cell",
        "k | a | b",
        "Region | Sales & Asia & Pacific | 5 & Europe | 7",
        " | a | b\nx | 1 | 2",
        "",
    ],
)
def test_equal_tables_score_one(table):
    assert set(scores(table, table).values()) == {1.0}


@pytest.mark.parametrize("variant", ["lines", "unichart", "&&&", "<0x0A>", "markdown", "csv"])
def test_a_separator_earns_and_costs_nothing(variant):
    right = write_table(parse_table(TARGET), variant)
    wrong = write_table(Table(("Month", "Rice"), [("May", 900), ("June", 700)]), variant)
    assert set(scores(right, TARGET).values()) == {1.0}
    assert rms(wrong, TARGET) == rms(wrong, write_table(parse_table(TARGET), variant)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("text", ["I cannot read it.", "Year ; EU", "a / b / c", "", "   ", "TITLE | Sales", "5"])
def test_texts_that_are_no_table_of_the_chart_score_nothing(text):
    assert set(scores(text, TARGET).values()) == {0.0}
    assert rms(text, "another text") == (0.0, 0.0, 0.0)


def test_a_title_is_not_free():
    target, wrong = f"TITLE | Sales\n{TARGET}", "TITLE | Sales\nk | v\nx | 99"
    assert rms(wrong, target) == (0.0, 0.0, 0.0)
    assert rms(TARGET, target) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("target", "prediction", "expected"),
    [
        ("1,234", "1234", 1.0),
        ("1234", "1 234", 1.0),
        ("1,250", "1,200", 0.96),
        ("1,250", "1.25", 0.0),
        ("50%", "48 %", 0.96),
        ("50%", "50", 1.0),
        ("50%", "0.5", 1.0),
        ("0.57$", "$0.57", 1.0),
        ("\u22123", "-3", 1.0),
        ("3", "-3", 0.0),
        ("0", "0.0", 1.0),
        ("0", "1", 0.0),
        ("100", "110", 0.0),  # a tenth is too much
        ("Likely", "unlikely", 0.75),
    ],
)
def test_values_of_the_default(target, prediction, expected):
    found = scores(Table(("k", "v"), [("x", prediction)]), Table(("k", "v"), [("x", target)]))
    assert found["rms_f1"] == pytest.approx(expected)


def test_missing_values_are_no_data_points():
    target = Table(("k", "a", "b"), [("x", 1, "nan"), ("y", "-", 4)])
    assert rms(Table(("k", "a", "b"), [("x", 1, ""), ("y", None, 4)]), target) == (1.0, 1.0, 1.0)
    assert rms(Table(("k", "a", "b"), [("x", 1, 3), ("y", "n/a", 4)]), target) == pytest.approx((2 / 3, 1, 0.8))
    assert rms(Table(("k", "a", "b"), [("x", 1, "nan"), ("y", "nan", "nan")]), target) == pytest.approx(
        (1, 0.5, 2 / 3)
    )


def test_rnss_counts_percentages_but_no_labels():
    assert scores("Year | EU\n2019 | 80%", "Year | EU\n2019 | 40%")["rnss"] == 0.0
    assert scores("Year | EU\n2019 | 60%", "Year | EU\n2019 | 40%")["rnss"] == pytest.approx(0.5)
    assert scores("Year | EU\n2019 | 0", "Year | EU\n2019 | 0")["rnss"] == 1.0
    assert scores("Year | EU\n2019 | 4\n2020 | 6", "Year | EU\n2019 | 4")["rnss"] == 0.5


def test_the_order_of_rows_and_columns_does_not_matter():
    other = "Year | US | EU\n2020 | 8 | 7\n2019 | 6 | 5"
    turned = "Year | 2019 | 2020\nUS | 6 | 8\nEU | 5 | 7"
    assert set(scores(other, TARGET).values()) == set(scores(turned, TARGET).values()) == {1.0}
    # Exchanged values are wrong: labels decide what is compared.
    assert rms("Year | EU | US\n2019 | 6 | 5\n2020 | 8 | 7", TARGET) == (0.0, 0.0, 0.0)


def test_means_and_accepted_tables():
    found = table_scores(predictions=[TARGET, ""], references=[["k | v\nx | 1", TARGET], TARGET])
    assert found == {"rms_precision": 0.5, "rms_recall": 0.5, "rms_f1": 0.5, "rnss": 0.5, "n": 2}
    accepted = ["k | v\nx | 1\ny | 2", "k | v\nx | 1\ny | 2\nz | 3"]
    assert rms("k | v\nx | 1", accepted, "deplot_2023") == (1.0, 0.5, 0.5)


@pytest.mark.parametrize("variant", TABLE_VARIANTS)
@pytest.mark.parametrize(
    "prediction",
    [
        "\n".join(" | ".join("1" for _ in range(100)) for _ in range(1000)),
        " | ".join("1" for _ in range(16_000)) + "\n1" * 16_000,  # 16,000 x 16,001 cells once short rows are filled
        "k | v\nx | " + "y" * 2_000_000,
        "a;b\n" * 100_000,
    ],
    ids=["many cells", "filled", "long", "lines"],
)
def test_what_is_too_large_scores_nothing_as_prediction_and_is_refused_as_reference(prediction, variant):
    assert set(scores(prediction, TARGET, variant).values()) == {0.0}
    with pytest.raises(ValueError, match=r"references\[0\].*(cells|characters)"):
        scores(TARGET, prediction, variant)


@pytest.mark.parametrize("variant", ["default", "deplot"])
def test_a_table_of_the_largest_size_is_scored(variant):
    table = Table(("k", "v"), [(f"label {i}", i + 1) for i in range(511)])
    assert scores(table, table, variant)["rms_f1"] == 1.0
    with pytest.raises(ValueError, match="1,026 cells"):
        scores(table, Table(table.header, [*table.rows, ("one", "more")]), variant)


def test_errors_name_the_entry():
    with pytest.raises(ValueError, match=r"'deplot'.*and is 'rms'"):
        table_scores(predictions=[], references=[], variant="rms")
    with pytest.raises(ValueError, match="no tables"):
        table_scores(predictions=[], references=[])
    with pytest.raises(ValueError, match="1 predictions and 2 references"):
        table_scores(predictions=["a"], references=["a", "b"])
    with pytest.raises(TypeError, match=r"predictions\[1\] is None"):
        table_scores(predictions=["a", None], references=["a", "b"])
    with pytest.raises(TypeError, match=r"references\[0\]"):
        table_scores(predictions=["a"], references=[b"a"])
    with pytest.raises(ValueError, match=r"references\[0\] is an empty list"):
        table_scores(predictions=["a"], references=[[]])
    with pytest.raises(TypeError, match="single string"):
        table_scores(predictions="a", references=["a"])
