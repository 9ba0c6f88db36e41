"""Questions and answers as text: what is kept, refused or truncated."""

from __future__ import annotations

import datetime
import decimal
import fractions
import json

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.decoder_prompt import MARKERS
from chartqa_ft.adapters.text import describe, has_answer, single_answer
from chartqa_ft.adapters.text_check import find_bad_texts

from ..support.common import tiny
from ..support.encoding import example, ids


def test_braces_in_a_question_stay_text_and_markers_are_refused(adapter):
    for question in ["What does <s_answer> mean?", "100 % </s> ?"]:
        with pytest.raises(ValueError, match="which is a control token of this model"):
            adapter.encode([example(question)])
    for question in ["Is {question} or {0} higher?", "Is a < b > c?"]:
        batch = adapter.encode([example(question)])
        assert adapter.decode(batch["labels"]) == ["3"]
        prompt = batch["decoder_input_ids"][0, : adapter.prompt_lengths(batch)[0]].tolist()
        assert prompt == ids(adapter, f"<chartqa> {question} <s_answer>")


def test_answers_that_do_not_fit_are_an_error_or_a_counted_warning(caplog):
    answer = "value " * 40
    with pytest.raises(
        ValueError, match=r"chart_id='w', question='What is .*: the answer takes \d+ tokens, \d+ are left"
    ):
        adapter_for(*tiny(), max_length=30).encode([example(answer=answer)])
    adapter = adapter_for(*tiny(), max_length=30, on_long_answer="warn")
    batch = adapter.encode([example(answer=answer), example(), example(answer=answer)])
    assert batch["decoder_input_ids"].shape[1] == 29
    assert "it is truncated (2 answers truncated so far in this process)" in caplog.text
    assert adapter.decode(batch["labels"])[1] == "3"


@pytest.mark.parametrize("answer", ["a</s>b", "a<s_answer>b", "<chartqa> 3", "3</s>", "a <pad> b"])
def test_answers_that_spell_special_tokens_are_refused(adapter, answer):
    with pytest.raises(
        ValueError, match=r"record \(chart_id='w'.*the answer '.*' holds '<.*correct or drop the record"
    ):
        adapter.encode([example(), example(answer=answer)])


@pytest.mark.parametrize(
    "answer",
    [
        *(None, [], float("nan"), np.float16("nan"), np.datetime64("NaT"), pd.NA, pd.NaT, [pd.NA]),
        *(np.array([np.nan]), decimal.Decimal("NaN"), decimal.Decimal("sNaN"), torch.tensor(float("nan"))),
    ],
)
def test_missing_answers_of_every_library_are_missing(answer):
    assert single_answer({"answer": answer}) is None
    assert not has_answer({"answer": answer})


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (float("inf"), "answer inf is not finite"),
        (-float("inf"), "answer -inf is not finite"),
        (np.float32("inf"), "answer inf is not finite"),
        (decimal.Decimal("-Infinity"), "answer -Infinity is not finite"),
        ([float("inf")], "answer inf is not finite"),
        (10**5000, "a number of more than 4300 digits"),
        (-(10**5000), "a number of more than 4300 digits"),
        (fractions.Fraction(10**5000, 3), "a number of more than 4300 digits"),
        (["7", "8"], r"answer \['7', '8'\] is a list.*one record per item.*relaxed_accuracy"),
        (("7", "8"), r"answer \('7', '8'\) is a tuple.*one record per item"),
        ({"7", "8"}, "is a set.*one record per item"),
        ({"text": "7"}, "is a dict, .*: give it as text"),
        (b"7", "is a bytes, .*: give it as text"),
        (memoryview(b"7"), "is a memoryview, .*: give it as text"),
        (len, "is a builtin_function_or_method, .*: give it as text"),
        (7j, "is a complex, .*: give it as text"),
        (ValueError("7"), "is a ValueError, .*: give it as text"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # not every int has a str
)
def test_answers_that_are_refused_name_their_record(answer, says):
    with pytest.raises(ValueError, match=rf"record \(chart_id='9.png', question=None\): the .*{says}"):
        single_answer({"answer": answer, "chart_id": "9.png"})


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (10**30, str(10**30)),
        (fractions.Fraction(1, 2), "1/2"),
        (decimal.Decimal("7.50"), "7.50"),
        (datetime.date(2020, 5, 1), "2020-05-01"),
        (np.datetime64("2020-05-01"), "2020-05-01"),
        (np.float32(0.1), "0.1"),
        (False, "False"),
    ],
)
def test_numbers_and_dates_are_answers(answer, text):
    assert str(single_answer({"answer": answer})) == text
    assert has_answer({"answer": answer})


def test_a_record_is_described_whatever_it_holds():
    assert describe({"chart_id": 10**5000, "question": "How?"}) == "record (chart_id=<int>, question='How?')"
    with pytest.raises(ValueError, match=r"question=<int>\): the question is <int>, not a str"):
        adapter_for(*tiny()).encode([{**example(), "question": 10**5000}])


@pytest.fixture(scope="module")
def normalizing():
    """An adapter whose tokenizer normalizes texts before it looks for its markers, as those of sentencepiece do."""
    model, processor = tiny()
    tokenizer = processor.tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in state["added_tokens"]:
        token["normalized"] = token["content"] in MARKERS
    state["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"String": "\x01"}, "content": ""}],
    }
    processor.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), **tokenizer.special_tokens_map
    )
    return adapter_for(model, processor)


@pytest.mark.parametrize("spelled", ["\uff1cs_answer\uff1e", "<s_\x01answer>", "<chart\x01qa>"])
def test_questions_that_are_read_as_markers_are_refused(normalizing, spelled):
    marker = "<chartqa>" if "qa" in spelled else "<s_answer>"
    record = example(f"What is {spelled} here?")
    wanted = rf"chart_id='w'.*the tokenizer reads '{marker}' in the question, which is a control token"
    for use in (normalizing.encode, normalizing.check_texts):
        with pytest.raises(ValueError, match=wanted):
            use([example(), record])
    (bad,) = find_bad_texts(normalizing, [example(), record], training=True, progress=False)
    assert bad.row == 1
    assert f"reads '{marker}'" in bad.message


@pytest.mark.parametrize("question", ["Größe (m²) < 5 µm?", "｜A｜ or ｛B｝?", "a\nb", "[1] or {2}?", "表の値は？"])
def test_other_characters_that_are_normalized_stay(normalizing, question):
    assert normalizing.encode([example(question)])["labels"].shape[0] == 1
