"""Questions and answers as text: what is kept, refused or truncated."""

from __future__ import annotations

import pytest

from chartqa_ft.adapters import adapter_for

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
