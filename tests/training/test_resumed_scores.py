"""Results of the best weights from before an interruption are on the card that is pushed after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import TrainerCallback

from chartqa_ft.evaluation.results import read_scores
from chartqa_ft.hub import read_card

from ..support.common import drawn_charts, trainer

pytestmark = pytest.mark.usefixtures("pushes_into_a_folder")

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


def test_an_evaluation_of_several_data_sets_says_which(tmp_path):
    parts = {"easy": charts(), "hard": drawn_charts().select(range(4))}
    run = made(tmp_path, parts, metric_for_best_model="hard_loss", max_steps=1)
    run.train()
    (read,) = read_scores(tmp_path / "checkpoint-1", tmp_path, parts).values()
    assert (read.part, read.prefix) == ("hard", "eval_hard_")
    assert read.chart(read.rows[0]).tobytes() == parts["hard"][0]["image"].tobytes()
