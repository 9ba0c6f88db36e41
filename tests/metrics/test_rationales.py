"""Targets with reasoning, and what the extractions read back."""

from __future__ import annotations

import pytest
from datasets import Dataset, DatasetDict, Image
from PIL import Image as Pictures

from chartqa_ft import relaxed_accuracy, with_rationales
from chartqa_ft.metrics import EXTRACTORS, rationale_target
from chartqa_ft.metrics.rationales import TEMPLATES

ANSWERS = ["20", "Peru", "[2017, 2023]", "83 %", "12.5", "New York", "U.S.", "$1,204"]


@pytest.mark.parametrize("extract", [name for name in TEMPLATES if name not in ("program", "answer_is")])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_extraction_reads_its_target(extract: str, answer: str) -> None:
    target = rationale_target("Look at {answer}: \\{x} <b> is the answer is 7.", answer, extract=extract)
    assert "{answer}: \\{x} <b> is the answer is 7." in target
    assert EXTRACTORS[extract](target) == answer
    assert target != answer


def test_every_extraction_of_answers_has_a_template() -> None:
    assert set(TEMPLATES) == set(EXTRACTORS) - {"auto"}
    assert rationale_target("12 + 8.", "20", extract="answer_is") == "12 + 8. The answer is 20."
    assert rationale_target("12 + 8", "20", extract="boxed") == "12 + 8\n\\boxed{20}"
    assert rationale_target("print(12 + 8)", "20", extract="program") == "print(12 + 8)"
    assert rationale_target("12 + 8", "20", template="So {rationale}.\nFinal Answer: {answer}").endswith("Answer: 20")


def test_training_sets_reason_and_others_do_not() -> None:
    records = {
        "question": ["a?", "b?", "c?", "d?"],
        "answer": ["20", "Peru", "Tea rose.", "5"],
        "rationale": ["12 + 8 = 20.", None, "Look.", " "],
        "task": ["qa", "", "summary", "qa"],
    }
    data = Dataset.from_dict(records)
    assert with_rationales(data)["answer"][:] == ["12 + 8 = 20.\nAnswer: 20", "Peru", "Look.\nAnswer: Tea rose.", "5"]
    only = with_rationales(DatasetDict(train=data), template={"qa": "{rationale} Answer: {answer}"})["train"]
    assert only["answer"][:] == ["12 + 8 = 20. Answer: 20", "Peru", "Tea rose.", "5"]
    assert [row["answer"] for row in with_rationales(data.to_iterable_dataset())] == with_rationales(data)["answer"][:]
    # What a model that learned this writes is scored by the plain answers.
    found = relaxed_accuracy(predictions=only["answer"], references=records["answer"], extract="answer_line")
    assert (found["relaxed_accuracy"], found["share_extracted"]) == (1.0, 0.25)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"extract": "auto"}, "extract must be one of 'answer_line'"),
        ({"extract": None}, "extract must be one of"),
        ({"template": "Answer: {answer}"}, r"must contain \{rationale\}"),
        ({"template": {"qa": "{rationale}"}}, r"must contain \{answer\}"),
        ({"extract": "program"}, r"the record \(question='a\?'\): extract='program' finds None"),
        ({"template": "{answer} since {rationale}"}, "extract='answer_line' finds None"),
        ({"extract": "answer_is", "template": "The answer is {answer}, since {rationale}"}, "finds '20, since"),
    ],
)
def test_what_cannot_be_read_back_is_refused(arguments: dict, said: str) -> None:
    data = Dataset.from_dict({"question": ["a?"], "answer": ["20"], "rationale": ["12 + 8"]})
    with pytest.raises(ValueError, match=said):
        with_rationales(data, **arguments)


def test_no_image_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Pictures.new("RGB", (4, 4))]
    data = Dataset.from_dict({"image": images, "answer": ["20"], "rationale": ["12 + 8"]}).cast_column(
        "image", Image()
    )
    with monkeypatch.context() as patched:
        patched.setattr(Image, "decode_example", lambda *_, **__: pytest.fail("an image was decoded"))
        made = with_rationales(data)
    assert made[0]["image"].size == (4, 4)


def test_records_without_the_column_are_refused() -> None:
    with pytest.raises(ValueError, match="no column 'rationale'"):
        with_rationales(Dataset.from_dict({"answer": ["20"]}))


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_a_question_without_an_answer_is_not_taught(answer: str | None) -> None:
    data = Dataset.from_dict({"question": ["a?", "b?"], "answer": [answer, "5"], "rationale": ["think", "2 + 3"]})
    assert with_rationales(data)["answer"][:] == [answer, "2 + 3\nAnswer: 5"]
