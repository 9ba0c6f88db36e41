"""What was found out about the best weights before an interruption is on the card that is pushed after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from transformers import TrainerCallback

from chartqa_ft.evaluation.results import SCORES_NAME, EvaluationResult, read_scores, write_scores
from chartqa_ft.hub import read_card
from chartqa_ft.training import pushing
from chartqa_ft.training.callbacks import SaveResults

from ..support.common import drawn_charts, trainer

SETTINGS = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "max_steps": 3,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": True,  # the loss falls: step 1 is best
    "push_predictions": True,
}


class StopAfter(TrainerCallback):
    """Ends a training as if it had been interrupted once the checkpoint of a step is complete."""

    def __init__(self, step: int):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


@pytest.fixture(autouse=True)
def _push_into_a_folder(monkeypatch, tmp_path_factory):
    """A push copies its files into a fresh folder and returns it."""
    copy = lambda folder, *_, **__: Path(shutil.copytree(folder, tmp_path_factory.mktemp("hub") / "model"))  # noqa: E731
    monkeypatch.setattr(pushing, "push_checkpoint", copy)


def made(folder: Path, eval_dataset: Any = None, **changes: Any):
    run = trainer(folder, eval_dataset=charts() if eval_dataset is None else eval_dataset, **{**SETTINGS, **changes})
    run.hub_model_id = "user/model"
    return run


def charts():
    return drawn_charts().select(range(4, 8))


def numbers(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if "relaxed_accuracy" in key or key.endswith("loss")}


def check_pushed(run, first: dict[str, Any]) -> Path:
    """The card, the metrics and the answers that a push takes are of step 1."""
    assert run.weights_step == 1
    folder = run.push_to_hub(include_images=True)
    report = json.loads((folder / "metrics.json").read_text())
    assert report["step"] == 1
    assert numbers(report) == numbers(first)
    told = read_card((folder / "README.md").read_text())
    assert told["relaxed_accuracy"] == first["eval_relaxed_accuracy"]
    assert told["n"] == 4
    answered = Path(run.args.output_dir) / "predictions" / "eval-step-1.jsonl"
    assert (folder / "predictions.jsonl").read_bytes() == answered.read_bytes()
    return folder


def evaluated(run, step: int) -> dict[str, Any]:
    return next(entry for entry in run.state.log_history if entry["step"] == step and "eval_loss" in entry)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """A run of three steps that ended after two."""
    folder = tmp_path_factory.mktemp("interrupted")
    made(folder, callbacks=[StopAfter(2)]).train()
    assert not (folder / "checkpoint-3").exists()
    return folder


def test_the_card_after_a_resume_is_of_the_best_weights_before_it(interrupted, tmp_path):
    folder = Path(shutil.copytree(interrupted, tmp_path / "out"))
    run = made(folder)
    run.train(resume_from_checkpoint=True)
    assert (run.state.global_step, run.state.best_global_step) == (3, 1)
    first = evaluated(run, 1)
    assert first["eval_loss"] > evaluated(run, 3)["eval_loss"]
    folder = check_pushed(run, first)
    for number, chart in enumerate(charts().select(range(3))["image"], start=1):
        with Image.open(folder / "assets" / f"sample_{number}.png") as shown:
            assert shown.convert("RGB").getpixel((1, 1)) == chart.convert("RGB").getpixel((1, 1))
            assert shown.width / shown.height == pytest.approx(chart.width / chart.height, rel=0.05)


def test_a_finished_run_that_was_moved_is_pushed_with_its_best_scores(interrupted, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    finished = made(old)
    finished.train()
    first = evaluated(finished, 1)
    best = {name: weight.clone() for name, weight in finished.model.state_dict().items()}
    shutil.move(old, new)
    run = made(new)
    run.train(resume_from_checkpoint=True)
    assert run.state.best_model_checkpoint == str(new / "checkpoint-1")
    assert all((weight == best[name]).all() for name, weight in run.model.state_dict().items())
    check_pushed(run, first)
    assert not old.exists()


def test_a_training_from_the_start_forgets_the_scores_of_the_last_one(tmp_path):
    run = made(tmp_path, max_steps=1)
    run.train()
    assert set(run.scores) == {1}
    run.args.eval_strategy = run.args.save_strategy = "no"
    run.args.load_best_model_at_end = False
    run.train()
    assert run.scores == {}


# ---------------------------------------------------------------------- the file
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


def test_an_evaluation_of_several_data_sets_says_which(tmp_path):
    parts = {"easy": charts(), "hard": drawn_charts().select(range(4))}
    run = made(tmp_path, parts, metric_for_best_model="hard_loss", max_steps=1)
    run.train()
    (read,) = read_scores(tmp_path / "checkpoint-1", tmp_path, parts).values()
    assert (read.part, read.prefix) == ("hard", "eval_hard_")
    assert read.chart(read.rows[0]).tobytes() == parts["hard"][0]["image"].tobytes()


def test_one_process_writes(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    callback, state = SaveResults(lambda: {1: score(tmp_path)}), SimpleNamespace(global_step=1)
    for writes in (False, True):
        callback.on_save(SimpleNamespace(should_save=writes, output_dir=str(tmp_path)), state, None)
        assert (tmp_path / "checkpoint-1" / SCORES_NAME).exists() == writes


@pytest.mark.parametrize("text", ['[{"step": 1', '[{"step": 1}]', "[1]", "1"])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / SCORES_NAME).write_text(text)
    with pytest.raises(ValueError, match=rf"{SCORES_NAME} is damaged .* resume from another checkpoint"):
        read_scores(tmp_path, tmp_path)
