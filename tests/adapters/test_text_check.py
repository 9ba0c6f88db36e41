"""The scan of all texts: what it finds, in what it looks, and what it leaves alone."""

from __future__ import annotations

import pytest
from datasets import Dataset

from chartqa_ft import Task, adapter_for, table_scores
from chartqa_ft.adapters.text_check import find_bad_texts

from ..support.common import tiny
from ..support.families import build

GOOD = {"question": "How much is red?", "answer": "7", "chart_id": "good"}


def bad_rows(adapter, changes, *, training=True, kind=list):
    rows = [GOOD] * 3 + [{**GOOD, "chart_id": "bad", **changes}] + [GOOD] * 2
    records = rows if kind is list else Dataset.from_list(rows)
    return find_bad_texts(adapter, records, training=training, progress=False)


@pytest.mark.parametrize("kind", [list, Dataset])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"question": "What is <s_answer>?"}, "question holds '<s_answer>'"),
        ({"question": "  "}, "empty question"),
        ({"answer": "a</s>b"}, "answer 'a</s>b' holds '</s>'"),
        ({"answer": "a<unk>b"}, "holds '<unk>'"),
        ({"answer": None}, "no answer"),
        ({"answer": " "}, "no answer"),
        ({"answer": "value " * 300}, "the answer takes"),
    ],
)
def test_bad_records_are_found_by_row(changes, says, kind):
    adapter = adapter_for(*tiny())
    (found,) = bad_rows(adapter, changes, kind=kind)
    assert (found.row, says in found.message, "chart_id='bad'" in found.message) == (3, True, True)


@pytest.mark.parametrize(
    "changes",
    [{"answer": {"a": 7}}, {"answer": b"7"}, {"answer": ["7", "8"]}, {"question": 7}, {"question": None}],
)
def test_objects_that_are_no_texts_are_found_in_lists(changes):
    (found,) = bad_rows(adapter_for(*tiny()), changes, training=False)
    assert found.row == 3
    assert "chart_id='bad'" in found.message


@pytest.mark.parametrize("answer", [None, "", float("nan"), "value " * 300])
def test_an_evaluation_takes_answers_that_are_missing_or_too_long(answer):
    assert bad_rows(adapter_for(*tiny()), {"answer": answer}, training=False) == []


@pytest.mark.parametrize("answer", [["7"], ("7",), 7, 7.5, "5 \ud83d %", " 7 "])
def test_answers_that_can_be_learned_are_no_finding(answer):
    assert bad_rows(adapter_for(*tiny()), {"answer": answer}) == []


@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "florence2", "pix2struct", "kosmos2", "gemma3", "unichart"])
def test_every_kind_of_adapter_is_scanned(name):
    model, processor = build(name)
    adapter = adapter_for(model, processor)
    end = processor.tokenizer.eos_token
    (found,) = bad_rows(adapter, {"answer": f"7 {end} 8"})
    assert found.row == 3
    long = bad_rows(adapter, {"answer": "value " * 2000})
    # The positions of Pix2Struct are relative: it has no longest answer.
    assert ["the answer takes" in bad.message for bad in long] == [True] * (name != "pix2struct")


def test_a_prompt_that_does_not_fit_is_found_without_its_chart():
    model, processor = build("llava")
    (found,) = bad_rows(adapter_for(model, processor), {"question": "How? " * 2000}, training=False)
    assert "the prompt takes" in found.message


def test_a_decoder_prompt_that_is_too_long_is_truncated_as_documented():
    assert bad_rows(adapter_for(*tiny()), {"question": "How? " * 300}) == []


def test_no_image_is_opened():
    class Closed(dict):
        def __getitem__(self, name):
            assert name != "image"
            return super().__getitem__(name)

    rows = [Closed(GOOD, image=object()) for _ in range(3)]
    assert find_bad_texts(adapter_for(*tiny()), rows, training=True, progress=False) == []


def test_answers_to_be_truncated_are_neither_found_nor_counted(caplog):
    adapter = adapter_for(*tiny(), max_length=40, on_long_answer="warn")
    assert bad_rows(adapter, {"answer": "value " * 40}) == []
    assert adapter.cut_answers == 0
    assert "truncated" not in caplog.text


def test_characters_that_the_tokenizer_cannot_write_are_said(caplog):
    adapter = adapter_for(*tiny())
    assert bad_rows(adapter, {"answer": "7 \u5143"}) == []
    if adapter.decode(adapter.tokenize([" 7 \u5143"])) != ["7 \u5143"]:
        assert "1 different answers have characters that this tokenizer cannot write" in caplog.text


def test_records_that_a_transform_makes_are_sampled_and_streams_left_alone():
    adapter = adapter_for(*tiny())
    read = []

    def make(batch):
        read.extend(batch["question"])
        return {**batch, "answer": ["a</s>b"] * len(batch["question"])}

    records = Dataset.from_list([GOOD] * 9).with_transform(make)
    assert [bad.row for bad in find_bad_texts(adapter, records, training=True, progress=False)] == [0, 1, 2, 3]
    assert len(read) == 4
    assert find_bad_texts(adapter, records.with_format(None).to_iterable_dataset(), training=True) == []


def test_an_adapter_with_its_own_encoding_is_not_asked():
    adapter = adapter_for(*tiny())
    adapter.encode = lambda examples, with_answers=True: {}
    assert bad_rows(adapter, {"answer": "a</s>b"}) == []


def table_of(rows: int) -> str:
    """A table of two columns, as comma-separated values."""
    return "\n".join(["Year,EU", *(f"{1000 + row},{row}" for row in range(rows))])


@pytest.mark.parametrize("kind", [list, Dataset])
def test_a_table_that_is_too_large_to_be_scored_is_found_before_an_evaluation(kind):
    adapter = adapter_for(*tiny(), prompts={"table": "<s_answer>"})
    fits, large = ({"task": "table", "answer": table_of(rows)} for rows in (511, 512))
    assert table_scores([""], [fits["answer"]])["n"] == 1
    with pytest.raises(ValueError, match="too many"):
        table_scores([""], [large["answer"]])
    rows = [{**GOOD, "task": "qa"}, {**GOOD, **fits}, {**GOOD, **large}]
    (found,) = find_bad_texts(adapter, rows if kind is list else Dataset.from_list(rows), training=False)
    assert found.row == 2
    assert "task='table') cannot be scored: 1,026 cells are too many: up to 1,024 cells" in found.message


def test_an_answer_that_a_task_cannot_score_is_found_before_an_evaluation():
    class Sign(Task):
        name = "sign"

        def check_reference(self, answer: str) -> None:
            if answer not in ("+", "-"):
                raise ValueError(f"the answer is + or -, and not {answer}")

    adapter = adapter_for(*tiny(), tasks=[Sign])
    rows = [{**GOOD, "task": "sign", "answer": answer} for answer in ("+", "7", "", "-")]
    (found,) = find_bad_texts(adapter, rows, training=False)
    assert found.row == 1
    assert found.message.endswith("cannot be scored: the answer is + or -, and not 7")
    assert [bad.row for bad in find_bad_texts(adapter, rows, training=True)] == [2]  # has no answer to learn
