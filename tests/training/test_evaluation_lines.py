"""The lines of an evaluation: one for each split, with its change."""

from __future__ import annotations

import pytest

from chartqa_ft import relaxed_accuracy
from chartqa_ft.training.evaluation_lines import evaluation_lines, last_evaluation


def metrics(predictions, sources, prefix="eval", **more):
    scores = relaxed_accuracy(predictions=predictions, references=["1"] * len(predictions), sources=sources)
    return {f"{prefix}_{key}": value for key, value in {**scores, "runtime": 2.0, **more}.items()} | {"epoch": 1.0}


def test_each_split_has_a_line_and_the_last_one_has_the_rest():
    sources = ["human", "human", "augmented"]
    before = metrics(["1", "0", "0"], sources, loss=2.5, exact=0.25)
    after = metrics(["0", "0", "1"], sources, loss=2.25, exact=0.5)
    assert evaluation_lines(before, step=5) == [
        "step 5, human: 50.00 % of 2 questions",
        "step 5, augmented: 0.00 % of 1 question",
        "step 5, all: 33.33 % of 3 questions; loss 2.5; exact 0.25",
    ]
    assert evaluation_lines(after, before, step=1000) == [
        "step 1,000, human: 0.00 % (-50.00) of 2 questions",
        "step 1,000, augmented: 100.00 % (+100.00) of 1 question",
        "step 1,000, all: 33.33 % (+0.00) of 3 questions; loss 2.25 (-0.25); exact 0.5 (+0.25)",
    ]


def test_one_source_several_data_sets_and_no_answers():
    only = metrics(["1", "0"], ["human", "human"], prefix="eval_easy")
    assert evaluation_lines(only, step=3) == ["step 3, easy, all: 50.00 % of 2 questions"]
    assert evaluation_lines({"eval_loss": 1.5, "eval_runtime": 1.0}, {"eval_loss": 1.0}, step=3) == [
        "step 3, loss 1.5 (+0.5)"
    ]
    assert evaluation_lines({"eval_runtime": 1.0, "eval_model_preparation_time": 0.01}) == []
    with pytest.raises(ValueError, match="not the metrics of an evaluation: loss"):
        evaluation_lines({"loss": 1.0})
    history = [only, {"loss": 1.0}]
    assert last_evaluation(history, "eval_easy") is only
    assert last_evaluation(history, "eval") == {}
