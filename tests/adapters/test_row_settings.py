"""Settings of generation that look at single rows act alike whatever rows are answered together."""

from __future__ import annotations

import pytest

from chartqa_ft import adapter_for, answer_questions
from chartqa_ft.adapters import compat

from ..support.families import build, records

FAMILIES = ["unichart", "florence2", "pix2struct", "llava", "qwen2_5_vl", "kosmos2", "kosmos2_5"]
DIGITS = 8


def answered(name, examples, batch_size, **settings):
    model, processor = build(name)
    images, questions = ([example[key] for example in examples] for key in ("image", "question"))
    return answer_questions(model, processor, images, questions, batch_size=batch_size, **settings)


def digits_of(name):
    tokenizer = build(name)[1].tokenizer
    return [tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(DIGITS)]


@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_that_ends_answers_ends_each_as_alone(name, num_beams):
    """Only the digits may be written, and one of them ends an answer."""
    model, processor = build(name)
    digits = digits_of(name)

    def only_digits(row, ids):
        return digits

    shared = {"num_beams": num_beams, "prefix_allowed_tokens_fn": only_digits, "max_new_tokens": 5}
    usual = answered(name, records(6), 6, **shared)
    stop = next(text[2] for text in usual if len(text) > 3)
    settings = {"stop_strings": [stop], **shared}
    alone = [answered(name, [record], 1, **settings)[0] for record in records(6)]
    assert answered(name, records(6), 6, **settings) == alone
    if num_beams == 1:
        assert alone == [before + mark for before, mark, _ in (text.partition(stop) for text in usual)]
        assert alone != usual
    model.generation_config.stop_strings = stop  # a checkpoint that stores one
    images, questions = ([record[key] for record in records(6)] for key in ("image", "question"))
    assert answer_questions(model, processor, images, questions, batch_size=4, **shared) == alone


@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_function_of_allowed_tokens_gets_the_number_of_the_question(name, num_beams):
    digits = digits_of(name)
    found = answered(
        name,
        records(DIGITS),
        4,
        prefix_allowed_tokens_fn=lambda row, ids: [digits[row]],
        max_new_tokens=1,
        num_beams=num_beams,
    )
    assert found == [str(row) for row in range(DIGITS)]


@pytest.mark.parametrize("name", ["unichart", "llava"])
def test_a_function_of_allowed_tokens_gets_the_row_of_the_batch(name):
    model, processor = build(name)
    adapter, digits = adapter_for(model, processor), digits_of(name)
    ids = adapter.generate(
        model,
        adapter.encode(records(DIGITS), with_answers=False),
        prefix_allowed_tokens_fn=lambda row, ids: [digits[row]],
        max_new_tokens=1,
    )
    assert adapter.decode(ids) == [str(row) for row in range(DIGITS)]


def test_the_beam_search_of_4_28_has_no_texts_that_end_answers():
    model, processor = build("unichart")
    adapter = adapter_for(compat.apply_legacy_model(model), processor)
    batch = adapter.encode(records(1), with_answers=False)
    with pytest.raises(ValueError, match=r"has no stop_strings: answer with num_beams=1"):
        adapter.generate(model, batch, max_new_tokens=2, num_beams=2, stop_strings=["."])
    assert adapter.generate(model, batch, max_new_tokens=2, stop_strings=["."]).shape == (1, 2)
