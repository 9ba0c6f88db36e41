"""Evaluations by generated answers: their metrics, their files and what they are asked about."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from chartqa_ft import read_predictions, relaxed_accuracy
from chartqa_ft.data.chart_subset import chart_subset

from ..support.common import drawn_charts, tiny, trainer


def test_evaluation_has_the_metrics_of_its_predictions_file(tmp_path):
    records = drawn_charts()
    evaluated = trainer(tmp_path, eval_dataset=records, per_device_eval_batch_size=5)
    metrics = evaluated.evaluate()
    rows = read_predictions(tmp_path / "predictions" / "eval-step-0.jsonl")
    assert [row["index"] for row in rows] == list(range(len(records)))
    for key in ("question", "answer", "source", "chart_id"):
        assert [row[key] for row in rows] == list(records[key])
    again = relaxed_accuracy(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        sources=[row["source"] for row in rows],
    )
    assert {key: metrics[f"eval_{key}"] for key in again} == again
    assert metrics["eval_n_human"] + metrics["eval_n_augmented"] == len(records)
    assert 0 <= metrics["eval_relaxed_accuracy"] <= 1
    assert metrics["eval_loss"] > 0


def test_an_absent_source_gives_no_key(tmp_path):
    records = drawn_charts().filter(lambda source: source == "human", input_columns="source")
    metrics = trainer(tmp_path, eval_dataset=records).evaluate()
    assert metrics["eval_n_human"] == len(records)
    assert not [key for key in metrics if "augmented" in key or "mean_of_splits" in key]
    assert not any(math.isnan(value) for value in metrics.values())


def test_a_dict_of_data_sets_is_evaluated_by_name(tmp_path):
    parts = {"easy": drawn_charts().select(range(4)), "hard": drawn_charts().select(range(4, 9))}
    both = trainer(tmp_path, eval_dataset=parts)
    metrics = both.evaluate()
    assert (metrics["eval_easy_n"], metrics["eval_hard_n"]) == (4, 5)
    assert both.evaluate("hard")["eval_n"] == 5
    assert (tmp_path / "predictions" / "eval_easy-step-0.jsonl").is_file()


def test_predict_answers_records_without_answers(tmp_path):
    with_answers = drawn_charts().select(range(5))
    without = with_answers.remove_columns("answer")
    answering = trainer(tmp_path)
    output, blind = answering.predict(with_answers), answering.predict(without)
    assert list(output.predictions) == list(blind.predictions)
    assert list(output.label_ids) == list(with_answers["answer"])
    assert "test_relaxed_accuracy" in output.metrics
    assert not [key for key in blind.metrics if "relaxed" in key or "loss" in key]
    rows = read_predictions(tmp_path / "predictions" / "test-step-0.jsonl")
    assert [row["correct"] for row in rows] == [None] * 5


def test_own_metrics_get_answers_and_references_as_text(tmp_path):
    seen = {}

    def lengths(prediction):
        seen["answers"], seen["references"] = prediction
        return {"mean_length": 3.5, "eval_kept": 1.0}

    records = drawn_charts().select(range(4))
    metrics = trainer(tmp_path, eval_dataset=records, compute_metrics=lengths).evaluate()
    assert metrics["eval_mean_length"] == 3.5
    assert metrics["eval_kept"] == 1.0
    assert seen["references"] == list(records["answer"])
    assert all(isinstance(answer, str) for answer in seen["answers"])


def test_loss_alone_without_generation(tmp_path):
    metrics = trainer(tmp_path, eval_dataset=drawn_charts(), predict_with_generate=False).evaluate()
    assert "eval_loss" in metrics
    assert not [key for key in metrics if "relaxed" in key]


def test_evaluations_while_training_take_the_subset_and_others_the_whole(tmp_path):
    records = drawn_charts()
    subset = trainer(
        tmp_path,
        eval_dataset=records,
        eval_subset=6,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=4,
    )
    subset.train()
    logged = next(entry for entry in subset.state.log_history if "eval_n" in entry)
    assert logged["eval_n"] == 6
    chosen = records.select(chart_subset(records["source"], records["chart_id"], 6, seed=subset.args.seed))
    charts = set(chosen["chart_id"])
    assert sum(chart in charts for chart in records["chart_id"]) == 6  # whole charts
    rows = read_predictions(tmp_path / "predictions" / "eval-step-1.jsonl")
    assert [row["question"] for row in rows] == list(chosen["question"])
    assert [records["question"][row["index"]] for row in rows] == list(chosen["question"])
    assert max(row["index"] for row in rows) > 6
    assert subset.evaluate()["eval_n"] == len(records)


class Evaluates(TrainerCallback):
    """Evaluates records of its own after each step, or after each evaluation of the training loop."""

    def __init__(self, records, hook, **given):
        self.records, self.given, self.found = records, given, []
        self.within = False
        setattr(self, hook, self.evaluate)

    def evaluate(self, args, state, control, **kwargs):
        if not self.within:
            self.within = True
            self.found.append(self.run.evaluate(self.records, **self.given))
            self.within = False


@pytest.mark.parametrize("hook", ["on_step_end", "on_evaluate", "on_epoch_end"])
@pytest.mark.parametrize("prefix", ["train", "eval"])
@pytest.mark.parametrize("kind", [list, Dataset.to_iterable_dataset, lambda records: records])
def test_other_records_that_a_callback_evaluates_are_not_the_scores_of_the_model(tmp_path, hook, prefix, kind):
    own, others = drawn_charts(), kind(drawn_charts().select(range(4, 9)))
    also = Evaluates(others, hook, metric_key_prefix=prefix)
    also.run = run = trainer(
        tmp_path,
        eval_dataset=own,
        eval_subset=4,
        max_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        callbacks=[also],
    )
    run.train()
    assert [metrics[f"{prefix}_n"] for metrics in also.found] == [5], "all of them, whatever eval_subset says"
    kept = run.scores[1]
    assert (kept.prefix, kept.metrics["eval_n"], kept.records) == ("eval_", 3, own), "3 questions on whole charts"
    chosen = own.select(chart_subset(own["source"], own["chart_id"], 4, seed=42))
    assert [row["question"] for row in read_predictions(kept.predictions)] == list(chosen["question"])
    assert [row["question"] for row in kept.rows] == list(chosen["question"])


def test_other_records_are_kept_where_a_trainer_has_none(tmp_path):
    records = drawn_charts().select(range(3))
    also = Evaluates(records, "on_step_end")
    also.run = run = trainer(tmp_path, max_steps=1, callbacks=[also])
    run.train()
    assert run.scores[1].metrics == also.found[0]


def test_another_way_to_evaluate_the_same_records_is_not_kept_beside_the_usual_one(tmp_path):
    records = drawn_charts().select(range(3))
    also = Evaluates(None, "on_epoch_end", metric_key_prefix="beams", num_beams=2)
    settings = {"max_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    also.run = run = trainer(tmp_path, eval_dataset=records, callbacks=[also], **settings)
    run.train()
    assert (run.scores[1].prefix, run.scores[1].decoding["num_beams"]) == ("eval_", 1)
    run.evaluate(metric_key_prefix="beams", num_beams=2)
    assert run.scores[1].prefix == "beams_", "after the training, the last evaluation counts"


def test_the_rows_of_an_evaluation_are_not_held_during_the_next_one(tmp_path):
    held = []

    class Noting(TrainerCallback):
        def on_prediction_step(self, args, state, control, **kwargs):
            held.append(len(evaluated.evaluator.answered))

    evaluated = trainer(tmp_path, eval_dataset=drawn_charts(), callbacks=[Noting()])
    for _ in range(2):
        evaluated.evaluate()
        assert len(evaluated.evaluator.answered) == len(drawn_charts())
    assert set(held) == {0}


def test_beams_and_lengths_of_one_evaluation(tmp_path):
    records = drawn_charts().select(range(4))
    model, _ = tiny()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    answering = trainer(tmp_path, model=model, eval_dataset=records)
    greedy = list(answering.predict(records).predictions)
    assert list(answering.predict(records, num_beams=4).predictions) != greedy
    assert list(answering.predict(records, max_new_tokens=1).predictions) != greedy
    assert list(answering.predict(records).predictions) == greedy
