"""The answers of an evaluation that does not come to its end are on disk."""

from __future__ import annotations

import errno
import json
import logging
import signal
from pathlib import Path

import pytest
from transformers import TrainerCallback

from chartqa_ft import read_predictions
from chartqa_ft.evaluation.unfinished import UnfinishedAnswers, remove_unfinished, unfinished_path
from chartqa_ft.training.signals import EvaluationStopped

from ..support.common import ROOT, drawn_charts, trainer
from ..support.prepared import Ranks, run_prepared

DRIVER = ROOT / "tests" / "drivers" / "kill_evaluation.py"
NAME = "eval-step-0.jsonl"
ROW = {"index": 0, "chart_id": "c1.png", "question": "How many?", "answer": "3", "source": "human", "prediction": "4"}


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_verdict(row: dict) -> dict:
    return {**row, "correct": None}


def evaluating(folder: Path, *callbacks: TrainerCallback, **changes):
    """A trainer that evaluates drawn charts in batches of two rows, of which none waits."""
    settings = {"per_device_eval_batch_size": 2, "eval_window": 1, **changes}
    return trainer(folder, eval_dataset=drawn_charts(), callbacks=list(callbacks), **settings)


class At(TrainerCallback):
    """Calls a function after a batch of an evaluation."""

    def __init__(self, batch: int, act) -> None:
        self.left, self.act = batch, act

    def on_prediction_step(self, args, state, control, **kwargs):
        self.left -= 1
        if self.left == 0:
            self.act()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_evaluation_keeps_the_answers_of_every_process(tmp_path, processes):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with open(tmp_path / "log", "w") as log:
        ranks = Ranks([DRIVER, killed, "2"], processes, stdout=log, stderr=log)
        assert [rank.wait(300) for rank in ranks.started] == [-signal.SIGKILL] * processes
    run_prepared([DRIVER, whole, "0"], processes)
    rows = {row["index"]: without_verdict(row) for row in read_predictions(whole / "predictions" / NAME)}
    assert len(rows) == len(drawn_charts())
    files = [unfinished_path(killed / "predictions" / NAME, rank) for rank in range(processes)]
    assert sorted((killed / "predictions").iterdir()) == sorted(files)
    kept = [row for file in files for row in lines_of(file)]
    assert len(kept) == 2 * 2 * processes
    assert kept == [rows[row["index"]] for row in kept]
    assert len({row["index"] for row in kept}) == len(kept)
    # The next evaluation replaces them, also on fewer processes.
    run_prepared([DRIVER, killed, "0"])
    assert [path.name for path in (killed / "predictions").iterdir()] == [NAME]


def test_answers_of_waiting_rows_come_when_they_are_generated(tmp_path):
    seen: list[list[dict]] = []
    path = unfinished_path(tmp_path / "predictions" / NAME)
    look = At(3, lambda: seen.append(lines_of(path)))
    evaluating(tmp_path, look, per_device_eval_batch_size=4, eval_window=2).evaluate(min_new_tokens=1)
    whole = {row["index"]: without_verdict(row) for row in read_predictions(tmp_path / "predictions" / NAME)}
    assert 0 < len(seen[0]) < 12  # of the 12 rows that were encoded, some wait
    assert seen[0] == [whole[row["index"]] for row in seen[0]]


def test_a_subset_is_numbered_as_in_its_records(tmp_path):
    seen: list[list[dict]] = []
    path = unfinished_path(tmp_path / "predictions" / "eval-step-1.jsonl")
    look = At(2, lambda: seen.append(lines_of(path)))
    evaluating(tmp_path, look, eval_subset=6, eval_strategy="steps", eval_steps=1).train()
    questions = drawn_charts()["question"]
    assert [questions[row["index"]] for row in seen[0]] == [row["question"] for row in seen[0]]
    assert max(row["index"] for row in seen[0]) >= 6  # as in the data set, not as in the subset


def test_an_evaluation_that_fails_scores_its_answers_and_says_where_they_are(tmp_path):
    def fails() -> None:
        raise RuntimeError("the callback failed")

    run = evaluating(tmp_path, At(2, fails))
    with pytest.raises(RuntimeError, match="the callback failed") as caught:
        run.evaluate(min_new_tokens=1)
    path = unfinished_path(tmp_path / "predictions" / NAME)
    assert caught.value.__notes__ == [f"The 4 answers so far are in {path}."]
    kept = read_predictions(path)
    run.evaluate(min_new_tokens=1)
    whole = read_predictions(tmp_path / "predictions" / NAME)
    assert kept == [whole[index] for index in sorted(row["index"] for row in kept)]
    assert len(kept) == 4
    assert not path.exists()


def test_an_evaluation_that_fails_without_an_answer_says_nothing_of_files(tmp_path):
    run = evaluating(tmp_path)
    with pytest.raises(ValueError, match="lacks its rows") as caught, run.evaluator.collecting(tmp_path / NAME):
        raise ValueError("the batch of an evaluation lacks its rows")
    assert not hasattr(caught.value, "__notes__")
    assert list(tmp_path.glob("*.jsonl")) == []


def test_an_evaluation_that_a_signal_ends_keeps_its_answers_as_they_are(tmp_path):
    def stop() -> None:
        raise EvaluationStopped

    with pytest.raises(EvaluationStopped):
        evaluating(tmp_path, At(1, stop)).evaluate()
    kept = lines_of(unfinished_path(tmp_path / "predictions" / NAME))
    assert [row["correct"] for row in kept] == [None, None]
    questions = drawn_charts()["question"]
    assert [row["question"] for row in kept] == [questions[row["index"]] for row in kept]


@pytest.mark.parametrize("changes", [{"write_predictions": False}, {"predict_with_generate": False}])
def test_nothing_is_written_where_no_answers_are_wanted(tmp_path, changes):
    names = []
    look = At(2, lambda: names.extend(tmp_path.rglob("*.jsonl")))
    evaluating(tmp_path, look, **changes).evaluate()
    assert look.left < 0
    assert names == []


def test_a_folder_that_cannot_be_made_is_told_once_and_the_evaluation_goes_on(tmp_path, caplog):
    (tmp_path / "predictions").write_text("in the way")
    run = evaluating(tmp_path, At(3, (tmp_path / "predictions").unlink))
    with caplog.at_level(logging.WARNING, "chartqa_ft"):
        assert run.evaluate()["eval_n"] == len(drawn_charts())
    told = [record.getMessage() for record in caplog.records if "while they are generated" in record.getMessage()]
    assert len(told) == 1
    assert "(File exists)" in told[0] or "(Not a directory)" in told[0]
    assert len(read_predictions(tmp_path / "predictions" / NAME)) == len(drawn_charts())


def test_a_disk_that_fills_up_keeps_whole_lines(tmp_path, caplog):
    class Full:
        """A file of which the disk takes the first line and half of the second."""

        def __init__(self, file) -> None:
            self.file, self.writes = file, 0

        def write(self, data: bytes) -> int:
            self.writes += 1
            if self.writes == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data if self.writes == 1 else data[: len(data) // 2])

        def fileno(self) -> int:
            return self.file.fileno()

        def close(self) -> None:
            self.file.close()

    answers = UnfinishedAnswers(tmp_path / NAME)
    answers.add(ROW)
    answers._file, full = Full(answers._file), answers._file
    answers._file.writes = 1
    answers.add({**ROW, "index": 1})
    answers.add({**ROW, "index": 2})
    assert full.closed
    assert lines_of(answers.path) == [without_verdict({**ROW, "index": 0})]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("of somebody else")
    answers = UnfinishedAnswers(tmp_path / NAME)
    answers.path.symlink_to(other)
    answers.add(ROW)
    answers.close()
    assert other.read_text() == "of somebody else"
    assert lines_of(answers.path) == [without_verdict(ROW)]


def test_only_the_answers_so_far_of_the_same_evaluation_are_deleted(tmp_path):
    gone = ["eval-step-1.unfinished.jsonl", "eval-step-1.unfinished-12.jsonl"]
    kept = ["eval-step-1.jsonl", "eval-step-11.unfinished.jsonl", "eval-step-1.unfinished-x.jsonl", "eval-step-1x"]
    for name in gone + kept:
        (tmp_path / name).touch()
    remove_unfinished(tmp_path / "eval-step-1.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
