"""A batch read back as text, for every kind of family, packed or not."""

from __future__ import annotations

import pytest

from chartqa_ft import ChartQACollator
from chartqa_ft.training.preflight.batch_text import batch_as_text

from ...support.families import records
from ...support.family_cases import ready

ROW = "row -1 (chart_id 'bars-0-0'): "
TEXTS = {
    "unichart": "<chartqa> How tall is the red bar? <s_answer> >> 7</s> << (loss on 2 of 21 tokens)",
    "pix2struct": "(question in the image: How tall is the red bar?) <pad> >> 7</s> << (loss on 2 of 2 tokens)",
    "florence2": "<image> x 17 <s><DocVQA>How tall is the red bar?</s> </s><s> >> 7</s> << (loss on 2 of 3 tokens)",
    "paligemma": "<image> x 16 <bos>How tall is the red bar?\\n >> 7<eos> << (loss on 2 of 31 tokens)",
    "qwen3_vl": (
        "<|im_start|>user\\n<|vision_start|><|image_pad|> x 6 <|vision_end|>How tall is the red bar?\\nPlease answer "
        "concisely with short words or phrases when possible.<|im_end|>\\n<|im_start|>assistant\\n >> 7<|im_end|> << "
        "(loss on 2 of 89 tokens)"
    ),
}


@pytest.mark.parametrize("family", TEXTS)
def test_what_the_model_is_given(family):
    _, adapter = ready(family)
    text = batch_as_text(adapter, ChartQACollator(adapter, keep_rows=True)(records(8)))
    first, second = text.split("\n")
    assert first == ROW + TEXTS[family]
    assert second.startswith(ROW)
    assert "What share of the sum of all four bars" in second


def test_packed_questions_are_in_one_sequence():
    _, adapter = ready("llava")
    batch = ChartQACollator(adapter, keep_rows=True, pack_questions=True)(records(8))
    assert batch_as_text(adapter, batch).split("\n")[0] == (
        "row 0: <s>USER: <image> x 16 \\nHow tall is the red bar?\\nAnswer the question using a single word or phrase."
        " ASSISTANT: >> 7</s> << What share of the sum of all four bars does the blue bar take, in percent with one "
        "decimal?\\nAnswer the question using a single word or phrase. ASSISTANT: >> 6.2 %</s> << "
        "(loss on 9 of 181 tokens)"
    )


def test_long_prompts_keep_the_question():
    _, adapter = ready("smolvlm")
    first = batch_as_text(adapter, ChartQACollator(adapter)(records(1)))
    assert " [...] " in first
    assert "How tall is the red bar?" in first
    assert ">> 7<end_of_utterance> <<" in first


def test_the_text_is_that_of_the_tensors():
    _, adapter = ready("unichart")
    batch = ChartQACollator(adapter)(records(1))
    batch["labels"][0, -1] = -100
    assert "loss on 1 of" in batch_as_text(adapter, batch)
    batch["labels"][:] = -100
    assert ">>" not in batch_as_text(adapter, batch)
    assert "loss on 0 of" in batch_as_text(adapter, batch)


def test_a_question_that_the_tokenizer_changes_is_not_said_to_be_in_the_image():
    _, adapter = ready("unichart")
    batch = ChartQACollator(adapter, keep_rows=True)(records(1))
    batch["rows"][0]["question"] += " \u2603"
    assert batch_as_text(adapter, batch) == ROW + TEXTS["unichart"]
