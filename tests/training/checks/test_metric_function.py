"""`compute_metrics` of a user: a function of texts is used, and one of ids is refused with the line to write."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial
from types import MappingProxyType

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from chartqa_ft.training.checkpoints import last_checkpoint
from chartqa_ft.training.checks.metric_function import MetricsError, checked_metrics, refused_metrics

from ...support.common import drawn_charts, trainer


def ids_metrics(prediction):
    ids, labels = prediction
    labels = np.where(labels != -100, labels, 0)
    return {"match": float((ids == labels).mean())}


def logits_metrics(prediction):
    return {"match": float(prediction.predictions.argmax(-1).mean())}


def decoding_metrics(prediction, tokenizer=None):
    return {"n": len([text.strip() for text in tokenizer.batch_decode(prediction.predictions)])}


@pytest.mark.parametrize("function", [ids_metrics, logits_metrics, decoding_metrics])
def test_metrics_of_ids_are_refused_with_the_line_to_write(tmp_path, function):
    with pytest.raises(ValueError, match=r"the answers and references as lists of str.*write answers, references ="):
        trainer(tmp_path, compute_metrics=function)


def test_metrics_of_texts_work_and_their_errors_say_what_they_get(tmp_path):
    def words(prediction):
        answers, references = prediction
        return {"words": len(answers[0].split()) * 0 + len(references)}

    assert list(refused_metrics(words)) == []
    assert (
        trainer(tmp_path, eval_dataset=drawn_charts().select(range(3)), compute_metrics=words).evaluate()["eval_words"]
        == 3
    )
    with pytest.raises(ValueError, match=r"failed \(AttributeError: .*gets the answers and references as lists"):
        checked_metrics(lambda prediction: prediction.predictions.shape)(EvalPrediction(["1"], ["1"]))
    with pytest.raises(ValueError, match=r"must return a dict of str to numbers, such as .*, got float"):
        checked_metrics(lambda prediction: 0.5)(None)


def forgets_to_return(prediction):
    len(prediction.predictions)


def yields(prediction):
    yield {"x": 1.0}


async def waits(prediction):
    return {"x": 1.0}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("accuracy", "must be a function of one argument, got str"),
        (lambda: {}, r"must take one argument, the EvalPrediction .* is <lambda>\(\)"),
        (lambda answers, references: {}, r"is <lambda>\(answers, references\)"),
        (lambda *, prediction: {}, "must take one argument"),
        (forgets_to_return, "and returns None"),
        (lambda prediction: 0.5, "and returns 0.5"),
        (yields, "yields is a generator or coroutine: write it with def and return"),
        (waits, "waits is a generator or coroutine"),
    ],
)
def test_what_can_return_no_metrics_is_refused_before_it_is_called(tmp_path, function, message):
    with pytest.raises(ValueError, match=f"compute_metrics .*{message}"):
        trainer(tmp_path, compute_metrics=function)


def test_functions_that_may_return_metrics_are_taken():
    class Metric:
        def __call__(self, prediction, *more):
            return {"x": 1.0}

        def method(self, prediction):
            return dict(x=1.0)  # noqa: C408

    def some(prediction):
        if not prediction.predictions:
            return None
        return {"x": 1.0}

    either = lambda prediction: dict(x=1.0) if prediction else None  # noqa: C408, E731
    for function in (
        some,
        either,
        Metric(),
        Metric().method,
        partial(lambda n, prediction: {"n": n}, 1),
        dict,
        lambda *_: {},
    ):
        assert list(refused_metrics(function)) == []


def test_numbers_of_any_library_become_those_of_python():
    values = {"a": np.float32(0.5), "b": np.array([2]), "c": torch.tensor(3), "d": True, "e": Fraction(1, 4), "f": 7}
    metrics = checked_metrics(lambda prediction: MappingProxyType(values))(None)
    assert metrics == {"a": 0.5, "b": 2, "c": 3, "d": True, "e": 0.25, "f": 7}
    assert [type(value) for value in metrics.values()] == [float, int, int, bool, float, int]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"x": "y"}, r"got 'y' \(str\) as 'x'"),
        ({"x": {"y": 1.0}}, r"got {'y': 1.0} \(dict\) as 'x'"),
        ({"x": None}, r"got None \(NoneType\) as 'x'"),
        ({"x": np.zeros(2)}, r"\(ndarray\) as 'x'"),
        ({"x": 1j}, r"\(complex\) as 'x'"),
        ({1: 0.5}, "got the name 1"),
        ([0.5], "got list"),
    ],
)
def test_metrics_that_are_no_numbers_end_the_training_with_its_step_and_answers_saved(tmp_path, metrics, message):
    run = trainer(
        tmp_path,
        compute_metrics=lambda prediction: metrics,
        eval_dataset=drawn_charts().select(range(2)),
        eval_strategy="steps",
        eval_steps=2,
        max_steps=3,
    )
    with pytest.raises(MetricsError, match=rf"must return a dict of str to numbers.*{message}.*Step 2 is saved in"):
        run.train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert len((tmp_path / "predictions" / "eval-step-2.jsonl").read_text().splitlines()) == 2


def test_the_corrected_function_goes_on_from_the_saved_step(tmp_path):
    settings = {"eval_dataset": drawn_charts().select(range(2)), "eval_strategy": "steps", "eval_steps": 2}
    with pytest.raises(MetricsError, match="IndexError"):
        trainer(tmp_path, compute_metrics=lambda p: {"x": p.predictions[9]}, max_steps=4, **settings).train()
    run = trainer(tmp_path, compute_metrics=lambda p: {"x": 1.0}, max_steps=4, **settings)
    run.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in run.state.log_history if "eval_x" in entry] == [4]
    assert run.state.global_step == 4


def test_a_best_metric_that_the_function_does_not_return_is_named_with_its_step_saved(tmp_path):
    run = trainer(
        tmp_path,
        compute_metrics=lambda p: {"y": 1.0},
        eval_dataset=drawn_charts().select(range(2)),
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="x",
    )
    with pytest.raises(MetricsError, match=r"no metric_for_best_model='x', but .*eval_y.*Step 1 is saved in"):
        run.train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")


def test_answers_that_cannot_be_scored_are_written_with_their_step_saved(tmp_path):
    settings = {"eval_dataset": drawn_charts().select(range(2)), "eval_strategy": "steps", "eval_steps": 2}
    run = trainer(tmp_path, metric_extract=lambda text: text.split("=")[9], max_steps=3, **settings)
    said = (
        r"the answers cannot be scored \(IndexError: list index out of range\)\. The answers are in .*unscored\.jsonl"
    )
    with pytest.raises(MetricsError, match=rf"{said}.*Step 2 is saved in"):
        run.train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    lines = (tmp_path / "predictions" / "eval-step-2.unscored.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["question"] for row in rows] == drawn_charts()["question"][:2]
    assert [row["correct"] for row in rows] == [None, None]
    assert not (tmp_path / "predictions" / "eval-step-2.jsonl").exists()
