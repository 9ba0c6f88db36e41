"""Records without an answer: asked in every family as the others are, and no part of any loss."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft.adapters.text import has_answer
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.batching.rows import ROW_KEY, RowKey
from tests.support.common import drawn_charts, tiny, trainer
from tests.support.families import records
from tests.support.family_cases import ALL, answer_logits, ready

MISSING = ["", None, " \n", float("nan")]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [*((missing, False) for missing in MISSING), ("7", True), (0, True), (0.0, True), (False, True), ("nan", True)],
)
def test_what_an_answer_is(answer, expected):
    assert has_answer({"answer": answer}) is expected
    assert not has_answer({})


@pytest.mark.parametrize("name", ALL)
def test_every_family_asks_an_unanswered_question_and_learns_nothing_of_it(name):
    model, adapter = ready(name)
    rows = records()
    blank = [{**row, "answer": None} if number % 2 else row for number, row in enumerate(rows)]
    whole = ChartQACollator(adapter, group_by_chart=False)(rows)
    batch = ChartQACollator(adapter, group_by_chart=False, allow_unanswered=True)(blank)
    masked = batch["labels"] == -100
    assert masked.all(dim=1).tolist() == [False, True, False, True]
    answered = torch.tensor([0, 2])
    kept = (whole["labels"] != -100).sum(dim=1)
    assert torch.equal((~masked).sum(dim=1)[answered], kept[answered])
    with torch.no_grad():
        logits, expected = answer_logits(model, adapter, batch), answer_logits(model, adapter, whole)
        of_row = torch.repeat_interleave(torch.arange(len(rows)), kept)
        torch.testing.assert_close(logits, expected[torch.isin(of_row, answered)], rtol=1e-4, atol=1e-4)
        settings = {"max_new_tokens": 5, "num_beams": 1}
        bare = ChartQACollator(adapter, group_by_chart=False, with_answers=False)(blank)
        assert torch.equal(adapter.generate(model, batch, **settings), adapter.generate(model, bare, **settings))


@pytest.mark.parametrize("name", ["unichart", "florence2", "llava"])
def test_a_batch_in_which_nothing_is_answered(name):
    model, adapter = ready(name)
    rows = [{**row, "answer": ""} for row in records()]
    batch = ChartQACollator(adapter, group_by_chart=False, allow_unanswered=True)(rows)
    assert (batch["labels"] == -100).all()
    bare = ChartQACollator(adapter, group_by_chart=False, with_answers=False)(rows)
    settings = {"max_new_tokens": 5, "num_beams": 1}
    assert torch.equal(adapter.generate(model, batch, **settings), adapter.generate(model, bare, **settings))


@pytest.mark.parametrize("answer", MISSING)
def test_training_refuses_such_a_record_by_name(answer):
    _, adapter = ready("unichart")
    rows = [{**records()[0], "answer": answer, "question": "How much is red?", "chart_id": "r.png"}]
    with pytest.raises(ValueError, match=r"chart_id='r.png', question='How much is red\?'\) has no answer"):
        ChartQACollator(adapter)(rows)
    assert rows[0]["answer"] is answer


@pytest.mark.parametrize("answer", [["7", "8"], ("7", "seven"), [["7", "8"]], {"a": "7"}, b"7", {"7"}, [b"7"]])
def test_answers_that_are_no_text_are_refused_by_name(answer):
    _, adapter = ready("unichart")
    row = {**records()[0], "answer": answer, "question": "How much is red?"}
    with pytest.raises(
        ValueError, match=r"How much is red\?'\): the answer .* is a (list|tuple|dict|bytes|set), which"
    ):
        ChartQACollator(adapter)([row])


def test_fillers_of_an_evaluation_are_prompts_alone():
    _, adapter = ready("unichart")
    row = {**records()[0], ROW_KEY: RowKey(row=0, epoch=0, counts=False)}
    collate = ChartQACollator(adapter, keep_rows=True, allow_unanswered=True)
    batch = collate([row])
    bare = ChartQACollator(adapter, with_answers=False)([row])
    assert torch.equal(batch["decoder_input_ids"], bare["decoder_input_ids"])
    assert batch["rows"][0]["answer"] == row["answer"]


@pytest.mark.parametrize("answer", MISSING)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_evaluations_leave_unanswered_questions_out_of_loss_and_score(tmp_path, answer, batch_size):
    rows = [dict(row) for row in drawn_charts().select(range(5))]
    run = trainer(tmp_path, model=tiny()[0], per_device_eval_batch_size=batch_size)
    expected = run.evaluate([rows[0], rows[1], rows[3]])
    blank = [{**row, "answer": answer} if number in (2, 4) else row for number, row in enumerate(rows)]
    metrics = run.evaluate(blank)
    assert metrics["eval_loss"] == pytest.approx(expected["eval_loss"], abs=1e-5)
    assert metrics["eval_n"] == 3
    output = run.predict(blank)
    assert list(output.predictions) == list(run.predict(rows).predictions)
    assert output.metrics["test_n"] == 3


def test_an_evaluation_of_unanswered_questions_alone_has_no_loss(tmp_path):
    rows = [{**row, "answer": " "} for row in drawn_charts().select(range(3))]
    output = trainer(tmp_path, model=tiny()[0]).predict(rows)
    assert len(output.predictions) == 3
    assert "test_loss" not in output.metrics
    assert "test_relaxed_accuracy" not in output.metrics
