"""Relaxed correctness against recorded verdicts of the original scorers, its aggregation against numbers by hand."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from chartqa_ft.metrics.accuracy import per_example_correctness, relaxed_accuracy
from chartqa_ft.metrics.correctness import (
    ALIASES,
    VARIANTS,
    anls,
    as_text,
    edit_distance,
    relaxed_correctness,
    to_number,
)
from chartqa_ft.metrics.table import format_table

VECTORS = Path(__file__).parent / "metric_vectors.jsonl"
# variant -> where a row of the recorded verdicts keeps what the original said
RECORDED = {
    "pix2struct": lambda row: row["pix2struct"],
    "lmms_eval": lambda row: row["lmms_eval"],
    "relaxed": lambda row: row["pix2struct"],
    "unichart": lambda row: row["unichart"],
    "vlmevalkit": lambda row: row["vlmevalkit"],
    "swapped": lambda row: row["extra"]["qwen_vl"],
    "internvl": lambda row: row["extra"]["qwen_vl"],
    "vlmevalkit_legacy": lambda row: row["extra"]["vlmevalkit_before_20250901"],
    "lenient": lambda row: row["extra"]["lm_eval"],
    "chartqapro": lambda row: row["chartqapro"],
}


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def verdict(prediction: object, target: object, variant: str = "pix2struct", **options: object) -> float:
    return relaxed_correctness(prediction=prediction, target=target, variant=variant, **options)


# --- parity with the originals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", RECORDED)
def test_agrees_with_every_recorded_verdict(shared: Path, variant: str) -> None:
    rows = read_jsonl(shared / "metrics" / "reference_vectors.jsonl")
    assert len(rows) == 658
    wrong, unjudged = [], 0
    for row in rows:
        got, recorded = verdict(row["prediction"], row["target"], variant), RECORDED[variant](row)
        if recorded is None:  # the original crashed on this row: ours must only not raise
            unjudged += 1
        elif abs(got - recorded) > 1e-9:
            wrong.append((row["prediction"], row["target"], got, recorded))
    assert wrong == []
    assert unjudged == (2 if variant.startswith("vlmevalkit") else 0)


def test_chartqapro_agrees_with_recorded_verdicts_for_years_and_through_its_pipeline(shared: Path) -> None:
    for row in read_jsonl(shared / "metrics" / "reference_vectors.jsonl"):
        p, t = row["prediction"], row["target"]
        assert verdict(p, t, "chartqapro", year_flags=["YES"]) == pytest.approx(
            row["extra"]["chartqapro_year"], abs=1e-9
        )
        p, t = (text.strip(".").strip("\n") for text in (p, t))
        assert verdict(p, t, "chartqapro") == pytest.approx(row["extra"]["chartqapro_pipeline"], abs=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_agrees_with_own_vectors(variant: str) -> None:
    rows = read_jsonl(VECTORS)
    wrong = [
        (row["prediction"], row["target"], got, row[variant])
        for row in rows
        if abs((got := verdict(row["prediction"], row["target"], variant)) - row[variant]) > 1e-9
    ]
    assert wrong == []
    # A column of one value could be met by a constant.
    assert {row[variant] for row in rows} >= {0, 1}


def test_chartqapro_agrees_with_own_vectors_for_years() -> None:
    for row in read_jsonl(VECTORS):
        got = verdict(row["prediction"], row["target"], "chartqapro", year_flags="YES")
        assert got == pytest.approx(row["chartqapro_year"], abs=1e-9), row


def test_own_vectors_cover_every_row_of_the_semantics() -> None:
    assert set(Counter(row["row"] for row in read_jsonl(VECTORS))) == {
        "tolerance denominator",
        "percent predicted, plain label",
        "plain or percent against a percent label",
        "thousands comma",
        "dollar and units",
        "trailing dot",
        "case",
        "white space",
        "zero",
        "empty",
        "nan and infinity",
        "unicode minus",
        "Python's float syntax",
        "years",
        "list, identical",
        "list, one element",
        "list, reordered",
        "list, another form",
        "substring",
        "edit distance",
        "single letter",
        "quotes",
        "label with code",
    }


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ("105", "100", 1.0),
        ("1.05", "1", 0.0),
        ("2.1", "2", 0.0),
        ("4.2", "4", 0.0),
        ("95", "100", 1.0),
        ("9.5", "10", 1.0),
        ("0.95", "1", 0.0),
        ("105%", "100%", 0.0),
        ("10.5", "10", 1.0),
        ("100", "95", 0.0),
        ("100", "105", 1.0),
        ("105.1", "100", 0.0),
        ("94.9", "100", 0.0),
    ],
)
def test_the_five_percent_boundary_is_the_float_quotient(prediction: str, target: str, expected: float) -> None:
    p, t = to_number(prediction), to_number(target)
    assert expected == float(abs(p - t) / abs(t) <= 0.05)
    assert verdict(prediction, target) == expected


def test_other_ways_to_write_the_tolerance_would_change_verdicts() -> None:
    labels = [i / 10 for i in range(1, 2000)]
    for factor in (1.05, 0.95):
        pairs = [(float(f"{label * factor:.10g}"), label) for label in labels]
        ours = [verdict(repr(p), repr(t)) for p, t in pairs]
        assert 0.2 < sum(ours) / len(ours) < 0.8  # an accident of rounding, not a rule
        assert ours != [float(math.isclose(p, t, rel_tol=0.05)) for p, t in pairs]
        assert ours != [float(0.95 * t <= p <= 1.05 * t) for p, t in pairs]


# --- robustness --------------------------------------------------------------------------------------------------

SCRAPS = (
    *"0125.%$,-+ '\"[](){}eExaZİßé²½٣７\n\t\x00\u200b\ufeff\ud800\\:;_",
    *(
        "nan",
        "inf",
        "1e400",
        "2010",
        "Yes",
        "None",
        "[1, 2]",
        "['a', 'b']",
        "[[",
        "0x",
        "1_0",
        "\U0001f4ca",
        "[" * 300,
    ),
)
ODD_VALUES = (
    *(None, True, False, 0, -0.0, 5, 2.5, 10**5000, -(10**5000), math.nan, math.inf, -math.inf, 1e308, 5e-324, 1j),
    *(np.float64(0.5), np.int64(7), np.str_("Yes"), b"Yes", "", [], ["a"], [None, 3], ("x", 2.0), [[1, 2]], {"k": 1}),
    *([10**5000], np.array(["Yes", "No"]), np.array(3)),
)


@pytest.mark.parametrize("variant", [*VARIANTS, *ALIASES])
def test_no_pair_raises_and_every_verdict_is_a_fraction(variant: str) -> None:
    rng = random.Random(20260214)

    def any_value() -> object:
        kind = rng.random()
        if kind < 0.2:
            return rng.choice(ODD_VALUES)
        if kind < 0.3:
            return rng.choice([rng.randint(-3000, 3000), rng.uniform(-1e6, 1e6)])
        if kind < 0.4:
            return "[" + ", ".join(rng.choice(SCRAPS) for _ in range(rng.randint(0, 4))) + "]"
        return "".join(rng.choice(SCRAPS) for _ in range(rng.randint(0, 8)))

    for _ in range(4000):
        prediction, target = any_value(), any_value()
        for pair in ((prediction, target), (target, target)):
            got = verdict(*pair, variant)
            assert type(got) is float, pair
            assert 0.0 <= got <= 1.0, pair


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "label",
    [
        "[" * 19_000,
        "[" + "-" * 19_000 + "1]",
        "[" + "(" * 19_000,
        "[" + "1+" * 9_000 + "1]",
        "[" + "lambda:" * 2_000 + "1]",
        "[{[]: 1}]",
        "[1\x00]",
        "['\\d']",
        "[" + "9" * 6_000 + "]",
        "[0x" + "f" * 6_000 + "]",
        "[" * 10**6,
    ],
    ids=lambda label: f"{label[:8]!r}..{len(label)}",
)
def test_hostile_labels_are_only_text(variant: str, label: str) -> None:
    assert 0.0 <= verdict(label, label, variant) <= 1.0
    assert verdict("3", label, variant) == 0.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_labels_are_never_run(variant: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for label in (f"[open({str(trace)!r}, 'w')]", f"__import__('pathlib').Path({str(trace)!r}).touch()", "[exit()]"):
        assert verdict("x", label, variant) == 0.0
    assert not trace.exists()


def test_a_label_too_long_for_a_list_of_answers_is_text() -> None:
    def label(items: int) -> str:
        return "[" + "1, " * items + "7]"

    assert verdict("7", label(6_000), "vlmevalkit") == 1.0
    assert verdict("7", label(7_000), "vlmevalkit") == 0.0
    assert verdict(label(7_000), label(7_000), "vlmevalkit") == 1.0


def test_years_in_percent_are_no_years() -> None:
    assert verdict("2010", "2000", "strict_year") == 0.0
    assert verdict("2010", "200000%", "strict_year") == 1.0


def test_numbers_and_none_are_scored_as_their_text() -> None:
    assert verdict(12, "12.5") == 1.0
    assert verdict("12", 12.5) == 1.0
    assert verdict(None, "12") == 0.0
    assert verdict(None, "Norway") == 0.0
    assert verdict(np.float64(3.0), "3") == 1.0
    assert verdict(np.array("3"), np.array("3")) == 1.0
    assert as_text(10**5000) == "1" + "0" * 5000
    assert verdict(10**5000, 10**5000) == 0.0  # infinite as a float, and infinities are never right
    assert verdict(10**5000, 10**5000, "exact_match") == 1.0
    assert verdict(10**5000 + 1, 10**5000, "exact_match") == 0.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_nan_and_infinity_are_never_within_tolerance(variant: str) -> None:
    for prediction in ("nan", "inf", "-inf", "1e400", math.nan, math.inf):
        assert verdict(prediction, "41", variant) == 0.0
        assert verdict("41", prediction, variant) == 0.0


def test_the_best_of_several_targets_counts() -> None:
    assert verdict("Norway", ["Peru", "Norway"]) == 1.0
    assert verdict("Norway", ("Peru", "Chile")) == 0.0
    assert verdict("10.2", [None, 10]) == 1.0
    assert verdict("Norway", np.array(["Peru", "norway"])) == 1.0
    assert verdict("Norway", []) == 0.0
    assert verdict("2006", ["[1998, 2006]"], "vlmevalkit") == 1.0
    assert verdict("Chil", ["Chile", "Chill"], "chartqapro") == pytest.approx(0.8)


# --- the interface -----------------------------------------------------------------------------------------------


def test_arguments_cannot_be_swapped_by_position() -> None:
    with pytest.raises(TypeError):
        relaxed_correctness("105.2", "100")  # type: ignore[misc]
    assert verdict("105.2", "100") == 0.0
    assert verdict("105.2", "100", "swapped") == 1.0


@pytest.mark.parametrize("variant", ["relaxd", "", None, 3, ["pix2struct"]])
def test_an_unknown_variant_names_the_known_ones(variant: object) -> None:
    for call in (
        lambda: relaxed_correctness(prediction="1", target="1", variant=variant),
        lambda: relaxed_accuracy(predictions=["1"], references=["1"], variant=variant),
        lambda: relaxed_accuracy(predictions=[], references=[], variant=variant),
    ):
        with pytest.raises(ValueError, match="unknown variant") as error:
            call()
        for name in (*VARIANTS, *ALIASES):
            assert name in str(error.value)


def test_year_flags_and_exact_match_of_chartqapro() -> None:
    assert verdict("2008", "2007", "chartqapro") == 1.0
    for flags in ("YES", "yes", True, ["YES"], [True], np.bool_(True)):
        assert verdict("2008", "2007", "chartqapro", year_flags=flags) == 0.0
    for flags in ("NO", False, ["NO"], [], None, np.bool_(False)):
        assert verdict("2008", "2007", "chartqapro", year_flags=flags) == 1.0
    # one flag per item; a single flag holds for every item
    assert verdict("[2008, 51]", "[2007, 50]", "chartqapro", year_flags=["YES", "NO"]) == 0.5
    assert verdict("[2008, 51]", "[2007, 50]", "chartqapro", year_flags=["NO"]) == 1.0
    assert verdict("2.05", "2", "chartqapro") == 1.0
    assert verdict("2.05", "2", "chartqapro", exact=True) == 0.0
    assert verdict("not enough info", "Not enough information", "chartqapro") == pytest.approx(1 - 7 / 22)
    assert verdict("not enough info", "Not enough information", "chartqapro", exact=True) == 0.0
    assert verdict(" TRUE ", "true", "chartqapro", exact=True) == 1.0


def test_per_example_correctness_per_question_options() -> None:
    questions = {
        "predictions": ["2008", "2008", "2.04", "2.04"],
        "references": ["2007", "2007", "2", "2"],
        "variant": "chartqapro",
        "year_flags": ["NO", ["YES"], None, None],
        "question_types": ["Factoid", "Factoid", "Multi Choice", "Hypothetical"],
    }
    assert per_example_correctness(**questions) == [1.0, 0.0, 1.0, 1.0]
    assert per_example_correctness(**questions, exact_choice=True) == [1.0, 0.0, 0.0, 1.0]
    # the other variants take the same call and have no such rules
    assert per_example_correctness(**{**questions, "variant": "pix2struct"}) == [1.0, 1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="exact_choice=True needs question_types"):
        per_example_correctness(predictions=["1"], references=["1"], variant="chartqapro", exact_choice=True)
    with pytest.raises(ValueError, match="4 predictions and 1 year_flags"):
        per_example_correctness(**{**questions, "year_flags": ["YES"]})


def test_importing_the_metric_imports_nothing_heavy() -> None:
    code = (
        "import sys, chartqa_ft.metrics as m; "
        "m.relaxed_accuracy(predictions=['1'], references=['1']); "
        "print([x for x in ('torch', 'transformers', 'datasets', 'evaluate', 'scipy', 'numpy') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import chartqa_ft.metrics

    with pytest.raises(AttributeError, match="nonsense"):
        chartqa_ft.metrics.accuracy.nonsense  # noqa: B018


# --- ANLS --------------------------------------------------------------------------------------------------------


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


# --- aggregation -------------------------------------------------------------------------------------------------

TEN = {
    "predictions": ["Yes", "no", "104", "12%", "Peru.", "", "2011", "$5", "1,000", "7"],
    "references": ["Yes", "No", "100", "12", "Peru", "41", "2010", "5", "1000", "seven"],
    "sources": ["human"] * 4 + ["augmented"] * 4 + ["unknown", None],
}
TEN_VERDICTS = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


def test_aggregation_by_hand() -> None:
    assert per_example_correctness(predictions=TEN["predictions"], references=TEN["references"]) == TEN_VERDICTS
    metrics = relaxed_accuracy(**TEN)
    limits = {key: value for key, value in metrics.items() if key.endswith(("_ci_low", "_ci_high"))}
    assert {key: value for key, value in metrics.items() if key not in limits} == {
        "relaxed_accuracy": 0.4,
        "n": 10,
        "relaxed_accuracy_human": 0.75,
        "n_human": 4,
        "relaxed_accuracy_augmented": 0.25,
        "n_augmented": 4,
        "relaxed_accuracy_mean_of_splits": 0.5,
        "relaxed_accuracy_confidence": 0.95,
        "share_trailing_dot": 0.1,
        "share_percent": 0.1,
        "share_comma": 0.1,
        "share_dollar": 0.1,
        "share_empty": 0.1,
        "share_unparsable_number": 0.3,
        "accuracy_lenient": 0.8,
        "accuracy_strict_year": 0.3,
    }
    assert sorted(limits) == sorted(
        f"relaxed_accuracy{name}_ci_{end}"
        for name in ("", "_human", "_augmented", "_mean_of_splits")
        for end in ("low", "high")
    )
    for key in ("relaxed_accuracy", "relaxed_accuracy_human", "relaxed_accuracy_mean_of_splits"):
        assert 0.0 <= limits[f"{key}_ci_low"] < metrics[key] < limits[f"{key}_ci_high"] <= 1.0
    json.dumps(metrics, allow_nan=False)


def test_pooled_is_not_the_mean_of_unequal_splits() -> None:
    metrics = relaxed_accuracy(
        predictions=["1"] * 5, references=["1", "2", "2", "2", "1"], sources=["human"] * 4 + ["augmented"]
    )
    assert metrics["relaxed_accuracy"] == 0.4
    assert metrics["relaxed_accuracy_mean_of_splits"] == (0.25 + 1.0) / 2


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (None, {"n": 2}),
        (["human", "human"], {"n": 2, "n_human": 2}),
        (["augmented", "unknown"], {"n": 2, "n_augmented": 1}),
        (["unknown", None], {"n": 2}),
        (["My Set!", "human"], {"n": 2, "n_human": 1, "n_source_my_set": 1}),
    ],
)
def test_an_absent_source_has_no_key(sources: list | None, expected: dict[str, int]) -> None:
    metrics = relaxed_accuracy(predictions=["1", "2"], references=["1", "1"], sources=sources)
    assert {key: value for key, value in metrics.items() if key == "n" or key.startswith("n_")} == expected
    assert "relaxed_accuracy_mean_of_splits" not in metrics
    assert not any(isinstance(value, float) and math.isnan(value) for value in metrics.values())
    for key in expected:
        assert "relaxed_accuracy" + key[1:] in metrics


@pytest.mark.parametrize("interval", ["wilson", "bootstrap"])
@pytest.mark.parametrize("variant", ["pix2struct", "chartqapro"])
def test_the_order_of_questions_does_not_matter(interval: str, variant: str) -> None:
    rng = random.Random(3)
    rows = [
        (rng.choice(["Peru", "Pery", "5", "5.2", "Chile", ""]), rng.choice(["Peru", "5", "Chile"]), source)
        for source in ["human"] * 40 + ["augmented"] * 70 + ["unknown"] * 9
    ]

    def scored(rows: list[tuple]) -> dict:
        predictions, references, sources = map(list, zip(*rows, strict=True))
        return relaxed_accuracy(
            predictions=predictions, references=references, sources=sources, variant=variant, interval=interval
        )

    first = scored(rows)
    for _ in range(3):
        rng.shuffle(rows)
        assert scored(rows) == first


def test_inputs_may_be_any_iterable_and_stay_as_they_are() -> None:
    predictions, references = ["Yes", 5, None], [["No", "yes"], "5.1", "x"]
    expected = relaxed_accuracy(predictions=predictions, references=references)
    assert expected["relaxed_accuracy"] == pytest.approx(2 / 3)
    assert predictions == ["Yes", 5, None]
    assert relaxed_accuracy(predictions=iter(predictions), references=(r for r in references)) == expected
    assert relaxed_accuracy(predictions=np.array(["Yes", "No"]), references=np.array(["Yes", "x"]))["n"] == 2


def test_white_space_is_an_empty_answer_and_hides_no_dot() -> None:
    metrics = relaxed_accuracy(predictions=["", " \n", "5. \n", "x"], references=["5", ["a", "5"], "5", "nan"])
    assert metrics["share_empty"] == 0.5
    assert metrics["share_trailing_dot"] == 0.25
    assert metrics["share_unparsable_number"] == 0.5  # "nan" is no number that an answer could miss


def test_accuracy_by_question_type() -> None:
    metrics = relaxed_accuracy(
        predictions=["1", "1", "a"],
        references=["1", "2", "A"],
        variant="chartqapro",
        question_types=["Fact Checking", "Fact Checking", "Factoid"],
        diagnostics=False,
    )
    assert metrics["relaxed_accuracy_type_fact_checking"] == 0.5
    assert metrics["n_type_fact_checking"] == 2
    assert metrics["relaxed_accuracy_type_factoid"] == 1.0
    assert "accuracy_lenient" not in metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": [], "references": []}, "no predictions"),
        ({"predictions": ["1"], "references": ["1", "2"]}, "1 predictions and 2 references"),
        ({"predictions": ["1"], "references": ["1"], "sources": []}, "1 predictions and 0 sources"),
        (
            {"predictions": ["1"], "references": ["1"], "question_types": ["a", "b"]},
            "1 predictions and 2 question_types",
        ),
        ({"predictions": ["1"], "references": ["1"], "interval": "wald"}, "'wilson' or 'bootstrap'.*'wald'"),
        ({"predictions": ["1"], "references": ["1"], "confidence": 95}, "between 0 and 1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relaxed_accuracy(**arguments)


@pytest.mark.parametrize("name", ["predictions", "references"])
def test_a_single_text_is_not_a_list_of_answers(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a list"):
        relaxed_accuracy(**{"predictions": ["12"], "references": ["12"], name: "12"})


# --- the table ---------------------------------------------------------------------------------------------------


def test_table_in_plain_text_and_markdown() -> None:
    metrics = relaxed_accuracy(**TEN, question_types=["a b"] * 5 + ["c"] * 5)
    assert format_table(metrics) == "\n".join(
        [
            "questions       relaxed accuracy [%]  95 % interval   n",
            "--------------  --------------------  -------------  --",
            "human                          75.00  30.06 - 95.44   4",
            "augmented                      25.00   4.56 - 69.94   4",
            "mean of splits                 50.00  25.32 - 74.68   8",
            "pooled                         40.00  16.82 - 68.73  10",
            "a b                            60.00  23.07 - 88.24   5",
            "c                              20.00   3.62 - 62.45   5",
        ]
    )
    prefixed = {
        f"eval_{key}": value
        for key, value in relaxed_accuracy(predictions=["1"] * 1250, references=["1"] * 1250).items()
    }
    assert format_table(prefixed, prefix="eval_", markdown=True) == "\n".join(
        [
            "| questions | relaxed accuracy [%] |  95 % interval |     n |",
            "| --------- | -------------------: | -------------: | ----: |",
            "| pooled    |               100.00 | 99.69 - 100.00 | 1,250 |",
        ]
    )
    with pytest.raises(ValueError, match="prefix='eval_'"):
        format_table(prefixed)


# --- evaluate ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_evaluate_metric_equals_relaxed_accuracy(tmp_path: Path) -> None:
    from chartqa_ft.metrics import RelaxedAccuracy

    metric = RelaxedAccuracy(cache_dir=str(tmp_path))
    rows = list(zip(*TEN.values(), strict=True))
    odd = [
        ("\ud800", ["x", "\ud800"], None),
        (None, 5, "human"),
        (2, [2.01, None], "augmented"),
        ("é", "É", "unknown"),
    ]
    for start in (0, 4, 8):
        predictions, references, sources = map(list, zip(*rows[start : start + 4], strict=True))
        metric.add_batch(predictions=predictions, references=references, sources=sources)
    for prediction, reference, source in odd:
        metric.add(prediction=prediction, reference=reference, source=source)
    predictions, references, sources = map(list, zip(*rows, *odd, strict=True))
    expected = relaxed_accuracy(predictions=predictions, references=references, sources=sources)
    assert metric.compute() == expected
    assert expected["n"] == 14
    # a second round starts empty; everything in one call, with options, is the same
    assert metric.compute(
        predictions=predictions,
        references=references,
        sources=sources,
        variant="lenient",
        interval="bootstrap",
        seed=4,
    ) == relaxed_accuracy(
        predictions=predictions,
        references=references,
        sources=sources,
        variant="lenient",
        interval="bootstrap",
        seed=4,
    )


def test_evaluate_metric_without_sources_and_with_a_configured_variant(tmp_path: Path) -> None:
    from chartqa_ft.metrics import RelaxedAccuracy

    metric = RelaxedAccuracy("unichart", cache_dir=str(tmp_path))
    metric.add_batch(predictions=["0.0"], references=["0"])
    assert metric.compute()["relaxed_accuracy"] == 1.0
    assert metric.compute(predictions=["0.0"], references=["0"], variant="pix2struct")["relaxed_accuracy"] == 0.0
    with pytest.raises(ValueError, match="unknown variant"):
        metric.compute(predictions=["1"], references=["1"], variant="relaxd")
    with pytest.raises(ValueError, match="needs predictions and references"):
        metric.compute(predictions=["1"])
    with pytest.raises(ValueError, match="2 predictions, 1 references and 1 sources"):
        RelaxedAccuracy(cache_dir=str(tmp_path)).add_batch(predictions=["1", "2"], references=["1"])


def test_evaluate_metric_combines_with_others(tmp_path: Path) -> None:
    import evaluate

    from chartqa_ft.metrics import RelaxedAccuracy

    both = evaluate.combine({v: RelaxedAccuracy(v, cache_dir=str(tmp_path)) for v in ("pix2struct", "unichart")})
    both.add_batch(predictions=["0.0", "7"], references=["0", "7"])
    metrics = both.compute()
    assert metrics["pix2struct_relaxed_accuracy"] == 0.5
    assert metrics["unichart_relaxed_accuracy"] == 1.0
