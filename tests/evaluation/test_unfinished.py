"""The answers of an evaluation that does not come to its end are on disk."""

from __future__ import annotations

import errno
import json
import logging
import signal
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from transformers import TrainerCallback

from chartqa_ft import read_predictions
from chartqa_ft.evaluation.unfinished import UnfinishedAnswers, remove_unfinished, unfinished_path
from chartqa_ft.scripts.cli import main
from chartqa_ft.scripts.errors import one_line
from chartqa_ft.scripts.runs import find_run
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


def test_a_second_evaluation_keeps_the_files_that_it_writes(tmp_path):
    run_prepared([DRIVER, tmp_path, "0", "2"], 2)
    of_both = {NAME, *(unfinished_path(Path(NAME), rank).name for rank in (0, 1))}
    seen = [set((tmp_path / f"seen-{rank}.txt").read_text().split()) for rank in (0, 1)]
    # Each process sees its own file in its second batch; the other may be slower.
    assert [unfinished_path(Path(NAME), rank).name in seen[rank] for rank in (0, 1)] == [True, True]
    assert seen[0] | seen[1] <= of_both
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == [NAME]


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


def test_a_folder_that_cannot_be_made_is_reported_once_and_the_evaluation_goes_on(tmp_path, caplog):
    (tmp_path / "predictions").write_text("in the way")
    run = evaluating(tmp_path, At(3, (tmp_path / "predictions").unlink))
    with caplog.at_level(logging.WARNING, "chartqa_ft"):
        assert run.evaluate()["eval_n"] == len(drawn_charts())
    told = [record.getMessage() for record in caplog.records if "as they are generated" in record.getMessage()]
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


def test_each_process_deletes_its_own_answers_and_the_first_those_of_an_evaluation_on_more(tmp_path):
    names = [f"eval-step-1.unfinished{rank}.jsonl" for rank in ("", "-1", "-2", "-12", "-x")]
    names += ["eval-step-1.jsonl", "eval-step-11.unfinished.jsonl", "eval-step-1x"]
    for name in names:
        (tmp_path / name).touch()
    remove_unfinished(tmp_path / "eval-step-1.jsonl", rank=1, processes=2)
    assert sorted({*names} - {path.name for path in tmp_path.iterdir()}) == ["eval-step-1.unfinished-1.jsonl"]
    remove_unfinished(tmp_path / "eval-step-1.jsonl", processes=2)
    gone = sorted({*names} - {path.name for path in tmp_path.iterdir()})
    assert gone == [f"eval-step-1.unfinished{rank}.jsonl" for rank in ("-1", "-12", "-2", "")]
    remove_unfinished(tmp_path / "missing" / "eval-step-1.jsonl")


def test_what_an_earlier_evaluation_left_is_gone_when_the_next_begins(tmp_path):
    (tmp_path / "predictions").mkdir()
    paths = [unfinished_path(tmp_path / "predictions" / NAME, rank) for rank in (0, 1)]
    for path in paths:
        path.write_text("of other data")
    seen: list[bool] = []
    look = At(1, lambda: seen.extend(path.exists() for path in paths))
    evaluating(tmp_path, look, per_device_eval_batch_size=8, eval_window=3).evaluate()
    assert seen == [False, False]  # all rows of the first batch wait


class Broken:
    """A file of which some operations fail."""

    def __init__(self, file, *operations: str) -> None:
        self.file, self.operations = file, operations

    def _do(self, name: str, *given):
        if name in self.operations:
            raise OSError(errno.EIO, "Input/output error")
        return getattr(self.file, name)(*given)

    def write(self, data: bytes) -> int:
        return self._do("write", data)

    def fileno(self) -> int:
        return self._do("fileno")

    def close(self) -> None:
        self._do("close")


@pytest.mark.parametrize("operations", [("close",), ("write", "fileno", "close"), ("write",)])
def test_a_file_that_fails_leaves_the_evaluation_alone(tmp_path, monkeypatch, operations):
    add = UnfinishedAnswers.add

    def breaking(self, row):
        add(self, row)
        if self._file is not None and not isinstance(self._file, Broken):
            self._file = Broken(self._file, *operations)

    monkeypatch.setattr(UnfinishedAnswers, "add", breaking)
    assert evaluating(tmp_path).evaluate()["eval_n"] == len(drawn_charts())
    assert len(read_predictions(tmp_path / "predictions" / NAME)) == len(drawn_charts())


def test_a_folder_that_cannot_be_listed_leaves_the_evaluation_alone(tmp_path, monkeypatch):
    def refuses(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuses)
    assert evaluating(tmp_path).evaluate()["eval_n"] == len(drawn_charts())


def test_answers_that_are_no_json_are_written_as_they_are_scored(tmp_path):
    answers = [date(2020, 1, 5), Decimal("3.5"), np.float32(0.5)]
    records = [{**row, "answer": answer} for row, answer in zip(drawn_charts(), answers, strict=False)]
    run = trainer(tmp_path, eval_dataset=records, per_device_eval_batch_size=1, eval_window=1)
    assert run.evaluate()["eval_n"] == 3
    rows = read_predictions(tmp_path / "predictions" / NAME)
    assert [row["answer"] for row in rows] == ["2020-01-05", "3.5", 0.5]


def test_an_error_in_writing_what_there_is_does_not_hide_why_the_evaluation_ended(tmp_path, monkeypatch):
    def fails() -> None:
        raise RuntimeError("boom \x1b[31m")

    def refuses(*_):
        raise TypeError("no JSON")

    monkeypatch.setattr("chartqa_ft.training.evaluating.write_predictions", refuses)
    with pytest.raises(RuntimeError, match="boom") as caught:
        evaluating(tmp_path, At(2, fails)).evaluate()
    path = unfinished_path(tmp_path / "predictions" / NAME)
    assert caught.value.__notes__ == [f"The 4 answers so far are in {path}, without verdicts (no JSON)."]
    assert len(lines_of(path)) == 4


def test_a_process_that_dies_before_all_answers_meet_leaves_a_note(tmp_path, monkeypatch):
    def dead(*_):
        raise RuntimeError("Connection closed by peer")

    run = evaluating(tmp_path)
    monkeypatch.setattr(run.evaluator, "_of_all_ranks", dead)
    with pytest.raises(RuntimeError, match="Connection closed") as caught:
        run.evaluate()
    path = unfinished_path(tmp_path / "predictions" / NAME)
    n = len(drawn_charts())
    assert caught.value.__notes__ == [f"The {n} answers so far are in {path}."]
    assert len(read_predictions(path)) == n


def test_a_full_disk_at_the_end_names_the_answers_without_verdicts(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    run = evaluating(tmp_path)
    monkeypatch.setattr("chartqa_ft.training.evaluating.write_predictions", full)
    path = unfinished_path(tmp_path / "predictions" / NAME)
    with pytest.raises(OSError, match=rf"The answers without verdicts are in {path}"):
        run.evaluate()
    assert len(lines_of(path)) == len(drawn_charts())
    assert len(run.evaluator.rows) == len(drawn_charts())


def test_the_command_line_says_where_the_answers_are(tmp_path, monkeypatch, capsys):
    error = ValueError("row 5: the image cannot be decoded")
    error.add_note("The 4 answers so far are in scores/predictions/eval-step-0.unfinished.jsonl.")

    def fails(*_):
        raise error

    monkeypatch.setattr("chartqa_ft.scripts.report.find_run", fails)
    assert main(["report", "out"]) == 2
    assert "the image cannot be decoded. The 4 answers so far are in scores/" in capsys.readouterr().err
    assert one_line(error).endswith("eval-step-0.unfinished.jsonl.")


def test_a_folder_with_unfinished_answers_alone_holds_no_predictions(tmp_path):
    (tmp_path / "predictions").mkdir()
    unfinished_path(tmp_path / "predictions" / NAME).touch()
    with pytest.raises(FileNotFoundError, match="evaluate with write_predictions=True"):
        find_run(str(tmp_path))
