"""Encoder-decoder models whose encoder reads the question."""

from __future__ import annotations

import pytest

from chartqa_ft.adapters import EncoderPrompt, adapter_for

from ..support.families import build, records

# ---------------------------------------------------------------------- Florence-2


def test_what_the_tokenizer_puts_before_answers_is_no_label():
    """BART's `<s>`, which checkpoints force as the first token, is an input of the decoder and not trained."""
    model, processor = build("florence2")
    adapter = adapter_for(model, processor, prompt="{question}")
    assert type(adapter) is EncoderPrompt
    start, begin = model.generation_config.decoder_start_token_id, processor.tokenizer.bos_token_id
    assert adapter.start == [start, begin]
    batch = adapter.encode(records(2))
    assert batch["decoder_input_ids"][:, :2].tolist() == [[start, begin]] * 2
    assert batch["labels"][:, 0].tolist() == [-100, -100]
    model.generation_config.forced_bos_token_id = begin  # as in the released checkpoints
    forced = adapter.generate(model, batch, max_new_tokens=4)
    model.generation_config.forced_bos_token_id = None
    assert forced.equal(adapter.generate(model, batch, max_new_tokens=4))


def test_a_question_longer_than_the_encoder_is_refused_with_the_numbers():
    model, processor = build("florence2")
    adapter = adapter_for(model, processor, prompt="{question}")
    positions = model.config.text_config.max_position_embeddings
    record = {**records(1)[0], "question": "How? " * positions}
    wanted = rf"the prompt takes \d+ tokens \(17 for the chart, \d+ for the text\), and the encoder has {positions}"
    with pytest.raises(ValueError, match=wanted):
        adapter.encode([records(1)[0], record])


def test_a_model_without_a_start_token_is_refused():
    model, processor = build("florence2")
    model.generation_config.decoder_start_token_id = None
    model.config.text_config.decoder_start_token_id = None
    with pytest.raises(ValueError, match=r"set model.generation_config.decoder_start_token_id"):
        adapter_for(model, processor)
