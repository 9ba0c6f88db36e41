"""What `trainer.check()` tells about a training, and what each call tells."""

from __future__ import annotations

import io
import logging

import pytest
import torch
from PIL import Image

from chartqa_ft import ChartQATrainer, adapter_for
from chartqa_ft.training.preflight.facts import describe_run

from ...support.chart_records import undecodable
from ...support.common import arguments, drawn_charts, tiny, trainer


def messages(result, level: str = "info") -> list[str]:
    return [finding.message for finding in result.findings if finding.level == level]


def jpeg(record: dict) -> dict:
    buffer = io.BytesIO()
    record["image"].convert("RGB").resize((192, 192)).save(buffer, "JPEG", quality=90)
    return {**record, "image": Image.open(io.BytesIO(buffer.getvalue())), "chart_id": f"copy of {record['chart_id']}"}


def test_a_training_as_text(tmp_path):
    run = trainer(tmp_path, eval_dataset=drawn_charts(4, seed=9), max_steps=100, gradient_accumulation_steps=2)
    assert str(run.check()) == (
        "info: 20 questions on 8 charts to train on; 10 questions on 4 charts to evaluate; 100 steps (33.3 epochs) of "
        "8 questions (4 per device x 2 accumulated x 1 process)\n"
        "info: the first batch, with the tokens of the loss in >> <<:\n"
        "row 8 (chart_id 'synthetic-5-000003'): <chartqa> How much is purple? <s_answer> >> 10</s> << "
        "(loss on 2 of 9 tokens)\n"
        "row 9 (chart_id 'synthetic-5-000003'): <chartqa> How much is orange? <s_answer> >> 7</s> << "
        "(loss on 2 of 9 tokens)\n"
        "info: a chart takes 36 image tokens, of 16 records\n"
        "info: eval_dataset: none of the 4 evaluation charts is in the training data"
    )


def test_planted_copies_are_a_warning_and_stop_nothing(tmp_path, caplog):
    evaluation = drawn_charts(6, seed=9)
    planted = [jpeg(evaluation[row]) for row in (0, 5)]
    run = trainer(tmp_path, records=[*drawn_charts(), *planted], eval_dataset=evaluation)
    result = run.check()
    assert result.ok
    (warning,) = result.warnings
    names = [evaluation[row]["chart_id"] for row in (0, 5)]
    assert warning.name == "eval_dataset"
    assert warning.message.startswith(
        "eval_dataset: 2 of 6 evaluation charts, with 6 questions, are in the training data too (2 nearly the same"
    )
    assert warning.message.endswith(", ".join(f"{name} (as copy of {name})" for name in names))
    with caplog.at_level(logging.WARNING):
        run.train()
    assert not [record for record in caplog.records if "evaluation charts" in record.message]
    assert run.check(leakage=False).warnings == []


def test_each_evaluation_data_set_is_compared(tmp_path):
    parts = {"same": drawn_charts().select(range(3)), "new": drawn_charts(4, seed=9)}
    run = trainer(tmp_path, eval_dataset=parts)
    assert [finding.name for finding in run.check().warnings] == ["eval_dataset['same']"]
    assert "eval_dataset['new']: none of the 4 evaluation charts is in the training data" in messages(run.check())
    assert "; 3 questions on 1 chart to evaluate (same); 10 questions on 4 charts to evaluate (new); " in describe_run(
        run
    )


def test_streams_are_read_as_far_as_needed(tmp_path):
    run = trainer(tmp_path, records=drawn_charts().to_iterable_dataset(), eval_dataset=drawn_charts())
    told = messages(run.check())
    assert told[0] == (
        "a stream to train on; 20 questions on 8 charts to evaluate; 1 step of 4 questions (4 per device x 1 "
        "accumulated x 1 process)"
    )
    assert told[1].count("\nrow ") == 2
    assert told[2:] == ["eval_dataset: its charts are not compared with the training data, one is a stream"]


def test_transforms_do_not_hide_stored_charts(tmp_path):
    def noisy(batch: dict) -> dict:
        noise = torch.randint(0, 255, (40, 40, 3), dtype=torch.uint8).numpy()
        return {**batch, "image": [Image.fromarray(noise) for _ in batch["image"]]}

    run = trainer(tmp_path, records=drawn_charts().with_transform(noisy), eval_dataset=drawn_charts())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert "8 of 8 evaluation charts" in run.check().warnings[0].message
    assert torch.equal(torch.rand(2), expected)


def test_a_batch_that_cannot_be_read_is_an_error(tmp_path):
    records = [{"image": undecodable(), "question": "?", "answer": "1", "chart_id": "broken.png"}] * 4
    (error,) = trainer(tmp_path, records=records).check().errors
    assert "the first batch cannot be read" in error.message
    assert "broken.png" in error.message


def test_each_call_has_its_own_checks_alone(tmp_path):
    run = trainer(tmp_path, eval_dataset=drawn_charts())
    assert run.check("train").findings == run.check("evaluate").findings == []
    with pytest.raises(ValueError, match="measure=True measures a step of the training: leave out 'train'"):
        run.check("train", measure=True)


def test_without_training_data_nothing_is_told(tmp_path):
    model, processor = tiny()
    run = ChartQATrainer(model, arguments(tmp_path), eval_dataset=drawn_charts(), processing_class=processor)
    assert run.check(measure=True).findings == []


def test_the_training_tells_its_size(tmp_path, caplog):
    run = trainer(tmp_path)
    with caplog.at_level(logging.INFO, logger="chartqa_ft"):
        run.train()
    assert describe_run(run) in caplog.messages
    assert describe_run(run) == (
        "20 questions on 8 charts to train on; 1 step (0.2 epochs) of 4 questions (4 per device x 1 accumulated x 1 "
        "process)"
    )


def test_truncated_answers_are_not_counted_twice(tmp_path, caplog):
    model, processor = tiny()
    adapter = adapter_for(model, processor, max_length=12, on_long_answer="warn")
    records = [{**record, "answer": "1 2 3 4 5 6 7 8 9 10 11 12"} for record in drawn_charts()]
    run = trainer(tmp_path, model=model, records=records, adapter=adapter)
    before = adapter.cut_answers
    assert "row 8 (chart_id" in str(run.check(leakage=False))
    assert any("it is truncated" in message for message in caplog.messages)
    assert adapter.cut_answers == before
