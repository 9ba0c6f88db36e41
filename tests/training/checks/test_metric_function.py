"""`compute_metrics` of a user: a function of texts is used, and one of ids is refused with the line to write."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import EvalPrediction

from chartqa_ft.training.checks.metric_function import explained, refused_metrics

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
        explained(lambda prediction: prediction.predictions.shape)(EvalPrediction(["1"], ["1"]))
    with pytest.raises(ValueError, match="must return a dict of numbers, got float"):
        explained(lambda prediction: 0.5)(None)
