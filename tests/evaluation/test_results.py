"""Results of evaluations come back from a checkpoint as they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from chartqa_ft.evaluation.results import SCORES_NAME, EvaluationResult, read_scores, write_scores

from ..support.common import drawn_charts


def row(index: int, **changes: Any) -> dict[str, Any]:
    record = {key: drawn_charts()[index][key] for key in ("chart_id", "question", "answer", "source")}
    return {"index": index, **record, "prediction": "7", "correct": 0.0, **changes}


def score(folder: Path, **changes: Any) -> EvaluationResult:
    answers = folder / "predictions" / "eval-step-1.jsonl"
    answers.parent.mkdir(parents=True, exist_ok=True)
    answers.write_text("{}\n")
    settings = {"rows": [row(2)], "predictions": answers, "records": drawn_charts(), **changes}
    return EvaluationResult(step=1, prefix="eval_", metrics={"eval_n": 1.0}, decoding={"num_beams": 1}, **settings)


def stored(tmp_path: Path, eval_dataset: Any, **changes: Any) -> EvaluationResult:
    write_scores({1: score(tmp_path, **changes)}, tmp_path, tmp_path)
    (read,) = read_scores(tmp_path, tmp_path, eval_dataset).values()
    return read


def test_scores_come_back_as_they_were(tmp_path):
    before = score(tmp_path)
    assert stored(tmp_path, before.records) == before
    text = (tmp_path / SCORES_NAME).read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)[0]["predictions"] == "predictions/eval-step-1.jsonl"
    assert not list(tmp_path.glob("*.part"))
    shutil.rmtree(tmp_path / "predictions")
    assert read_scores(tmp_path, tmp_path)[1].predictions is None
    assert read_scores(tmp_path / "none", tmp_path) == {}


def test_charts_are_found_again_only_in_the_data_that_was_evaluated(tmp_path):
    records = drawn_charts()
    wanted = records[2]["image"].tobytes()
    assert stored(tmp_path, records).chart(row(2)).tobytes() == wanted
    parts = {"a": records.select(range(2)), "b": records}
    assert stored(tmp_path, parts, part="b").chart(row(2)).tobytes() == wanted
    for other, part in (
        (parts, "a"),  # shorter
        (parts, "c"),
        (records.select(range(3, 8)), None),  # other questions at these rows
        (records.to_iterable_dataset(), None),
        (None, None),
    ):
        assert stored(tmp_path, other, part=part).chart(row(2)) is None


@pytest.mark.parametrize("text", ['[{"step": 1', '[{"step": 1}]', "[1]", "1"])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / SCORES_NAME).write_text(text)
    with pytest.raises(ValueError, match=rf"{SCORES_NAME} is damaged .* resume from another checkpoint"):
        read_scores(tmp_path, tmp_path)
