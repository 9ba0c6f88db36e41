"""The final answer in texts that reason first: what each step finds, what it leaves alone, and where it is stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chartqa_ft.metrics import EXTRACTORS, compare_predictions, read_predictions
from chartqa_ft.metrics.accuracy import per_example_correctness, relaxed_accuracy
from chartqa_ft.metrics.extraction import extract_name, extracted, extractor_of
from chartqa_ft.metrics.predictions import write_predictions


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("answer_line", "12 + 8 is 20. Answer: 20", "20"),
        ("answer_line", "Answer: 5\nNo, wait.\nFinal Answer: 20\nDone.", "20"),
        ("answer_line", "**Answer:** 20", "20"),
        ("answer_line", "**Answer**: 20", "20"),
        ("answer_line", "ANSWER :\n\n 20 \n21", "20"),
        ("answer_line", "Answer\uff1a20", "20"),
        ("answer_line", "Answer:", ""),
        ("answer_line", "20", None),
        ("answer_line", "The answers: 20", None),
        ("answer_is", "So the answer is 20.", "20"),
        ("answer_is", "The answer is: Peru", "Peru"),
        ("answer_is", "The answer to the question is 12.5.\nGood bye.", "12.5"),
        ("answer_is", "Answer: 20", None),
        ("boxed", r"\boxed{20}", "20"),
        ("boxed", r"First $\boxed{5}$, then $\boxed{20}$.", "20"),
        ("boxed", r"\boxed {\text{North America}}", "North America"),
        ("boxed", r"\boxed{12.5\%}", "12.5%"),
        ("boxed", r"\boxed{1{,}204}", "1,204"),
        ("boxed", r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("boxed", r"\boxed{a \} b}", "a } b"),
        ("boxed", r"\boxed{\boxed{20}}", "20"),
        ("boxed", r"\boxed{20} and \boxed{21", "20"),
        ("boxed", r"\boxed{21", None),
        ("boxed", "boxed{20}", None),
        ("answer_tag", "<think>5</think><answer>20</answer>", "20"),
        ("answer_tag", "<answer>5</answer> no: <ANSWER>\n20\n</Answer>", "20"),
        ("answer_tag", "<answer>20", "20"),
        ("answer_tag", "<s_answer>20</s_answer>", None),
        ("after_think", "<think>12 + 8</think> 20", "20"),
        ("after_think", "12 + 8</think>\n\n20\n", "20"),
        ("after_think", "<thinking>a</thinking>20", "20"),
        ("after_think", "<think>12 + 8", None),
        ("auto", r"<think>\boxed{5}</think> <answer>Answer: $\boxed{20}$</answer>", "20"),
        ("auto", "<think>Answer: 5</think> 20", "20"),
        ("auto", r"It is \boxed{20}", "20"),
        ("auto", "20", None),
    ],
)
def test_what_a_step_finds(name: str, text: str, expected: str | None) -> None:
    assert EXTRACTORS[name](text) == expected
    assert extracted([text], name) == ([text if expected is None else expected], int(expected is not None))


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize(
    "unit", ["\\boxed{", "{", "<answer>", "answer: ", "answer is ", "</think>", "\\text{", "\n", "\\"]
)
def test_degenerate_texts_take_no_time(name: str, unit: str) -> None:
    extracted([unit * 50_000], name)


def test_extraction_is_off_by_default() -> None:
    asked = {"predictions": ["It is 20. Answer: 20", "21", "Answer: 7"], "references": ["20", "21", "8"]}
    assert per_example_correctness(**asked) == [0.0, 1.0, 0.0]
    assert "share_extracted" not in relaxed_accuracy(**asked)
    assert per_example_correctness(**asked, extract="answer_line") == [1.0, 1.0, 0.0]
    metrics = relaxed_accuracy(**asked, extract="answer_line")
    assert (metrics["relaxed_accuracy"], metrics["share_extracted"]) == (2 / 3, 2 / 3)
    # diagnostics are of the answers that are scored
    assert metrics["share_trailing_dot"] == 0.0
    assert metrics["share_unparsable_number"] == 0.0


def last_word(text: str) -> str | None:
    return text.rsplit(maxsplit=1)[-1] if text else None


class FirstWord:
    def __call__(self, text: str) -> str:
        return text.split(maxsplit=1)[0]


@pytest.mark.parametrize(
    ("extract", "name"),
    [
        (None, None),
        ("boxed", "boxed"),
        (last_word, f"{__name__}.last_word"),
        (FirstWord(), f"{__name__}.FirstWord"),
        (str.lower, "builtins.str.lower"),
    ],
)
def test_callables_and_names(extract: object, name: str | None) -> None:
    assert extract_name(extract) == name


def test_a_callable_is_used_and_none_leaves_the_text() -> None:
    assert extracted(["it is 20", ""], last_word) == (["20", ""], 1)
    with pytest.raises(TypeError, match=r"must return a str or None, and builtins.len returned 8"):
        extracted(["it is 20"], len)


@pytest.mark.parametrize("extract", ["boxd", "", "Boxed", 3, ["boxed"]])
@pytest.mark.parametrize(
    "call",
    [
        extractor_of,
        extract_name,
        lambda extract: extracted([], extract),
        lambda extract: relaxed_accuracy(predictions=["1"], references=["1"], extract=extract),
        lambda extract: per_example_correctness(predictions=["1"], references=["1"], extract=extract),
        lambda extract: compare_predictions(["1"], ["1"], references=["1"], extract=extract),
    ],
)
def test_an_unknown_name_lists_the_known_ones(call: Callable, extract: object) -> None:
    with pytest.raises(ValueError, match="unknown extraction") as error:
        call(extract)
    for name in EXTRACTORS:
        assert name in str(error.value)


# --- files and comparisons ---------------------------------------------------------------------------------------


def row(index: int, answer: str, prediction: str, **more: object) -> dict:
    texts = {"chart_id": "a", "question": f"q{index}", "answer": answer, "prediction": prediction}
    return {"index": index, **texts, "correct": 0.0, "source": "human", **more}


def test_a_file_keeps_the_prediction_and_the_extracted_answer(tmp_path) -> None:
    rows = [row(0, "20", "Answer: 20", extracted="20"), row(1, "7", "7")]
    path = write_predictions(rows, tmp_path / "p.jsonl")
    assert read_predictions(path) == rows
    assert list(read_predictions(path)[0])[:7] == list(rows[1])[:7]
    assert '"extracted"' not in path.read_text().splitlines()[1]


def test_comparisons_take_the_extracted_answers() -> None:
    a = [row(0, "20", "Answer: 20", extracted="20"), row(1, "7", "Answer: 8", extracted="8")]
    b = [row(0, "20", r"\boxed{20}", extracted="20"), row(1, "7", r"\boxed{7}", extracted="7")]
    result = compare_predictions(a, b)
    assert (result["accuracy_a"], result["accuracy_b"]) == (0.5, 1.0)
    assert "extract" not in result
    # extract= is applied to what was generated, whatever is stored
    result = compare_predictions(a, b, extract="answer_line")
    assert (result["accuracy_a"], result["accuracy_b"], result["extract"]) == (0.5, 0.0, "answer_line")


@pytest.mark.parametrize("without", ["a", "b", "one row"])
def test_a_mix_of_extracted_and_other_answers_is_refused(without: str) -> None:
    sides = {name: [row(i, "20", "Answer: 20", extracted="20") for i in range(2)] for name in "ab"}
    for record in sides["a"][:1] if without == "one row" else sides[without]:
        del record["extracted"]
    with pytest.raises(ValueError, match=r"answers were extracted in [012] of 2 records of a.*pass extract="):
        compare_predictions(sides["a"], sides["b"])
    assert compare_predictions(sides["a"], sides["b"], extract="answer_line")["accuracy_a"] == 1.0
