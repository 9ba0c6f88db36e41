"""Questions of several batches are decoded together, and each is answered as if it were alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import GenerationMixin

from chartqa_ft import read_predictions
from chartqa_ft.adapters import Adapter, adapter_for
from chartqa_ft.adapters.sharing.encoded_rows import join_rows, split_rows
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.evaluation.answer_queue import AnswerQueue
from chartqa_ft.evaluation.answering import answer_questions

from ..support.common import tiny
from ..support.families import records
from ..support.family_cases import ready, run_of

ROWS, BATCH, NEW_TOKENS = 29, 8, 4
DECODING = {"max_new_tokens": NEW_TOKENS}


def confident() -> tuple[torch.nn.Module, Adapter]:
    """A tiny UniChart whose answers differ from question to question: random weights, larger than at the start."""
    model, processor = tiny()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    adapter = adapter_for(model, processor)
    adapter.attach(model)
    return model, adapter


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, int]]:
    """(rows, prompt length) of every call of `model.generate`."""
    seen: list[tuple[int, int]] = []
    generate = GenerationMixin.generate

    @functools.wraps(generate)
    def counted(self, *args: Any, **kwargs: Any) -> Any:
        seen.append(tuple(kwargs["decoder_input_ids"].shape))
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", counted)
    return seen


def charts_encoded(model: torch.nn.Module) -> list[int]:
    """How many charts every pass of the encoder has, from now on."""
    seen: list[int] = []

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        seen.append(len(kwargs["pixel_values"]))

    model.get_encoder().register_forward_pre_hook(count, with_kwargs=True)
    return seen


def batches_of(adapter: Adapter, rows: list[dict]) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """(row numbers, batch); batches with answers and without them take turns."""
    for start in range(0, len(rows), BATCH):
        collate = ChartQACollator(adapter, with_answers=start % (2 * BATCH) == 0)
        numbers = list(range(start, min(start + BATCH, len(rows))))
        yield numbers, collate([rows[number] for number in numbers])


def queued(model: Any, adapter: Adapter, rows: list[dict], window: int, **settings: Any) -> list[str]:
    """The answers to `rows` in their order, from a queue that never holds more than it may."""
    queue = AnswerQueue(adapter, rows_per_call=BATCH, window=window, **DECODING, **settings)
    answers: dict[int, str] = {}
    for numbers, batch in batches_of(adapter, rows):
        for key, answer in queue.add(model, batch, numbers):
            assert answers.setdefault(key, answer) is answer
        assert numbers[-1] + 1 - len(answers) <= (window - 1) * BATCH
    for key, answer in queue.flush():
        assert answers.setdefault(key, answer) is answer
    assert list(queue.flush()) == []
    return [answers[number] for number in range(len(rows))]


@pytest.mark.parametrize("num_beams", [1, 4])
def test_any_window_answers_as_each_question_alone(calls, num_beams):
    model, adapter = confident()
    rows = records(ROWS)
    alone = [queued(model, adapter, [row], 1, num_beams=num_beams)[0] for row in rows]
    assert len(set(alone)) > 5
    encoded = charts_encoded(model)
    needed: dict[int, int] = {}
    for window in (1, 2, 3, 100):
        calls.clear()
        encoded.clear()
        assert queued(model, adapter, rows, window, num_beams=num_beams) == alone
        # Two rows of every eight share the first chart and two the fourth.
        assert encoded == [6, 6, 6, 4]
        assert sum(rows for rows, _ in calls) == ROWS
        assert max(rows for rows, _ in calls) <= BATCH
        needed[window] = len(calls)
    lengths = adapter.prompt_lengths(ChartQACollator(adapter)(rows))
    assert needed[100] == sum(-(-lengths.count(length) // BATCH) for length in set(lengths))
    assert needed == {1: 18, 2: 8, 3: 6, 100: 6}


def test_full_calls_come_at_once_the_most_numerous_next_and_the_longest_first_at_the_end(calls):
    model, adapter = confident()
    rows = records(8)
    prompt = dict(zip(adapter.prompt_lengths(adapter.encode(rows)), rows, strict=True))
    short, middle, long = sorted(prompt)[:3]
    queue = AnswerQueue(adapter, rows_per_call=3, window=3, max_new_tokens=1)

    def add(*lengths: int) -> list[int]:
        batch = adapter.encode([prompt[length] for length in lengths])
        return [key for key, _ in queue.add(model, batch, lengths)]

    assert add(short, long, middle) == []
    assert add(middle, long) == []
    assert add(middle) == [middle] * 3
    assert add(short, short) == [short] * 3
    assert add(middle, short, short) == []
    assert add(short, middle) == [short] * 3
    assert add(middle) == [middle] * 3
    assert add(short, middle, long) == [long] * 3
    assert add(long, long, short, middle) == []
    assert add(short) == [short] * 3
    assert add(middle, short, short) == [middle] * 3
    assert [key for key, _ in queue.flush()] == [long, long, short, short]
    assert calls[-2:] == [(2, long), (2, short)]


def test_too_many_waiting_rows_leave_the_most_numerous_first(calls):
    model, adapter = confident()
    rows = records(8)
    prompt = dict(zip(adapter.prompt_lengths(adapter.encode(rows)), rows, strict=True))
    short, middle, long = sorted(prompt)[:3]
    queue = AnswerQueue(adapter, rows_per_call=4, window=2, max_new_tokens=1)
    batch = adapter.encode([prompt[length] for length in (short, middle, long, middle, long, short, middle)])
    answered = [key for key, _ in queue.add(model, batch, "abcdefg")]
    assert answered == ["b", "d", "g"]
    batch = adapter.encode([prompt[short], prompt[middle]])
    assert [key for key, _ in queue.add(model, batch, "hi")] == ["a", "f", "h"]
    assert [key for key, _ in queue.flush()] == ["c", "e", "i"]


def test_a_call_that_fails_takes_no_other_answer_along(calls):
    model, adapter = confident()
    rows = records(ROWS)
    wanted = queued(model, adapter, rows, 100)
    number = len(calls)
    calls.clear()

    def fails(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return scores

    queue = AnswerQueue(adapter, rows_per_call=BATCH, window=100, logits_processor=[fails], **DECODING)
    answers = {}
    for keys, batch in batches_of(adapter, rows):
        answers.update(queue.add(model, batch, keys))
    with pytest.raises(RuntimeError, match="out of memory"):
        answers.update(queue.flush())
    assert 0 < len(answers) < ROWS
    answers.update(queue.flush())
    assert [answers[row] for row in range(ROWS)] == wanted
    assert len(calls) == number + 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_evaluations_are_the_same_with_any_window(tmp_path, calls, precision):
    rows = records(13)
    metrics, answers, predicted, needed = {}, {}, {}, {}
    for window in (1, 2, 16):
        model, adapter = confident()
        folder = tmp_path / str(window)
        evaluated = run_of(
            folder,
            model,
            adapter,
            rows,
            per_device_eval_batch_size=4,
            eval_window=window,
            bf16=precision == "bf16",
            generation_max_new_tokens=NEW_TOKENS,
            generation_num_beams=4,
        )
        encoded = charts_encoded(model)
        calls.clear()
        metrics[window] = evaluated.evaluate()
        needed[window] = len(calls)
        assert encoded == [3, 3, 3, 1]
        answers[window] = read_predictions(folder / "predictions" / "eval-step-0.jsonl")
        bare = [{key: value for key, value in row.items() if key != "answer"} for row in rows]
        predicted[window] = list(evaluated.predict(bare).predictions)
        metrics[window] = {
            key: value for key, value in metrics[window].items() if not key.endswith(("_time", "_runtime", "_second"))
        }
    assert metrics[1] == metrics[2] == metrics[16]
    assert metrics[1]["eval_n"] == 13
    assert answers[1] == answers[2] == answers[16]
    assert predicted[1] == predicted[2] == predicted[16] == [row["prediction"] for row in answers[1]]
    assert len(set(predicted[1])) > 3
    assert needed == {1: 10, 2: 7, 16: 6}


def test_an_evaluation_that_fails_keeps_what_it_has_computed(tmp_path, calls):
    model, adapter = confident()
    evaluated = run_of(tmp_path, model, adapter, records(13), per_device_eval_batch_size=4, eval_window=2)

    def fails(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return scores

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluated.evaluate(logits_processor=[fails])
    kept = evaluated.evaluator.rows
    answered = sum("prediction" in row for row in kept)
    assert sum(rows for rows, _ in calls[:3]) == answered < len(kept)
    assert all(row["loss_sum"] > 0 for row in kept)
    assert evaluated.evaluate()["eval_n"] == 13


def test_other_families_answer_every_batch_at_once(tmp_path, calls):
    model, adapter = ready("florence2")
    rows = records(10)
    queue = AnswerQueue(adapter, rows_per_call=BATCH, window=16, **DECODING)
    for numbers, batch in batches_of(adapter, rows):
        ids = adapter.generate(model, batch, **DECODING)
        assert list(queue.add(model, batch, numbers)) == list(zip(numbers, adapter.decode(ids), strict=True))
    assert [count for count, _ in calls] == [8, 8, 2, 2]


def test_answer_questions_lets_questions_wait(calls):
    model, adapter = confident()
    rows = records(ROWS)
    images, texts = [row["image"] for row in rows], [row["question"] for row in rows]
    wanted = queued(model, adapter, rows, 1)
    calls.clear()
    settings = {"adapter": adapter, "batch_size": BATCH, "progress": False, **DECODING}
    assert answer_questions(model, adapter.processor, images, texts, **settings) == wanted
    lengths = adapter.prompt_lengths(ChartQACollator(adapter)(rows))
    assert len(calls) == sum(-(-lengths.count(length) // BATCH) for length in set(lengths))


def test_a_waiting_row_holds_its_own_chart_alone():
    states = torch.arange(3 * 4 * 2.0).view(3, 4, 2)
    prompts = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 7, 8]])
    first, second, third = split_rows(prompts, [3, 2, 3], states, [2, 0, 2])
    assert (first.prompt.tolist(), second.prompt.tolist()) == ([1, 2, 3], [4, 5])
    assert first.shape == (3, 4, 2)
    assert second.shape == (2, 4, 2)
    assert first.states.untyped_storage().nbytes() == 4 * 2 * 4
    assert first.states is third.states
    (other,) = split_rows(prompts[:1], [3], states, [1])
    ids, charts, index = join_rows([first, other, third])
    assert ids.tolist() == [[1, 2, 3], [1, 2, 3], [6, 7, 8]]
    assert charts.equal(states[[2, 1]])
    assert index.tolist() == [0, 1, 0]


def test_a_window_is_at_least_one_batch(tmp_path):
    model, adapter = confident()
    with pytest.raises(ValueError, match="the window must be at least 1 batch, got 0"):
        AnswerQueue(adapter, rows_per_call=BATCH, window=0)
    with pytest.raises(ValueError, match="eval_window must be a whole number of at least 1, got 0"):
        run_of(tmp_path, model, adapter, records(2), eval_window=0)
