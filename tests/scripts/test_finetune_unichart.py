"""finetune_unichart.py as a user starts it, on one and two processes, and the evaluation of its model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chartqa_ft import (
    format_table,
)

from ..support.common import drawn_charts, relative_l2
from ..support.launching import (
    EVALUATE,
    FINETUNE,
    answers,
    check_against_predictions,
    complaints,
    example,
    last_step,
    report,
    save_tiny,
    start,
    start_prepared,
    without_times,
    write_original_layout,
)

TOKEN = "hf_aSecretThatMustNotBeWritten"


SETTINGS = {
    "train_split": "train",
    "eval_split": "val",
    "num_train_epochs": 8,
    "per_device_train_batch_size": 4,
    "optim": "sgd",
    "learning_rate": 1.0,
    "warmup_steps": 0,
    "eval_steps": 8,
    "save_steps": 8,
    "logging_steps": 2,
    "generation_num_beams": 1,
    "final_num_beams": 2,
    "generation_max_new_tokens": 5,
    "hub_token": TOKEN,
    "use_cpu": True,
}


def check_run(output: Path, questions: int, text: str) -> None:
    """Check that a run's files are complete and consistent, without pickled arguments or tokens."""
    metrics, rows = report(output), answers(output)
    assert [row["index"] for row in rows] == list(range(questions))
    check_against_predictions(metrics, rows)
    history = json.loads((last_step(output) / "trainer_state.json").read_text())["log_history"]
    evaluations = {entry["step"]: entry for entry in history if "eval_relaxed_accuracy" in entry}
    best = output / metrics["best_checkpoint"]
    best_step = int(best.name.rpartition("-")[2])
    assert evaluations[best_step]["eval_relaxed_accuracy"] == max(
        entry["eval_relaxed_accuracy"] for entry in evaluations.values()
    )
    assert metrics["eval_loss"] == pytest.approx(evaluations[best_step]["eval_loss"], rel=1e-6)
    assert (output / "model.safetensors").read_bytes() == (best / "model.safetensors").read_bytes()
    # The best and the last checkpoint are kept, and the answers of every evaluation.
    left = set(output.glob("checkpoint-*"))
    assert best in left
    assert len(left) == 2
    assert {path.name for path in (output / "predictions").iterdir()} == {
        f"eval-step-{step}.jsonl" for step in evaluations
    }
    files = [path for path in output.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name == "training_args.bin"]
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    assert TOKEN not in text
    assert format_table(metrics, prefix="eval_") in text


def test_drawn_charts_on_one_process_and_two_then_evaluated(tmp_path):
    """15 questions to train on and 13 to evaluate on cannot be divided evenly between two ranks."""
    model = save_tiny(tmp_path / "tiny")
    records = drawn_charts()
    data = write_original_layout(tmp_path / "data", train=records.select(range(5, 20)), val=records.select(range(13)))
    base = {**SETTINGS, "model_name_or_path": model, "dataset_name": data}
    one, two = tmp_path / "one", tmp_path / "two"
    first = start_prepared(FINETUNE, {**base, "output_dir": one})
    check_run(one, 13, first.stdout)
    second = start(
        FINETUNE, {**base, "output_dir": two, "per_device_train_batch_size": 2, "log_level": "debug"}, processes=2
    )
    check_run(two, 13, second.stdout)
    assert complaints(first.stdout + first.stderr + second.stdout + second.stderr) == []
    assert "rank 0 rows" in second.stderr
    assert "rank 1 rows" in second.stderr

    metrics = [without_times(report(output)) for output in (one, two)]
    assert metrics[0]["eval_relaxed_accuracy"] > 0
    for losses in ("eval_loss", "train_loss"):
        assert metrics[1].pop(losses) == pytest.approx(metrics[0].pop(losses), rel=1e-6)
    assert [run["num_processes"] for run in metrics] == [1, 2]
    for per_machine in ("best_checkpoint", "total_flos", "num_processes"):
        del metrics[0][per_machine], metrics[1][per_machine]
    assert metrics[0] == metrics[1]
    assert answers(one) == answers(two)
    weights = [
        torch.cat([weight.double().flatten() for weight in load_file(output / "model.safetensors").values()])
        for output in (one, two)
    ]
    assert relative_l2(weights[1], weights[0]) <= 1e-6

    scores = tmp_path / "scores"
    evaluation = {"model_name_or_path": one, "dataset_name": data, "eval_split": "val", "use_cpu": True}
    evaluation |= {"generation_num_beams": 2, "generation_max_new_tokens": 5, "output_dir": scores}
    printed = start_prepared(EVALUATE, evaluation, processes=2)
    assert format_table(report(scores), prefix="eval_") in printed.stdout
    assert answers(scores) == answers(one)
    evaluated, final = (
        {key: value for key, value in without_times(report(folder)).items() if key.startswith("eval_")}
        for folder in (scores, one)
    )
    assert evaluated == final
    recorded = report(scores)["arguments"]
    assert (recorded["eval_split"], recorded["generation_num_beams"]) == ("val", 2)
    assert report(one)["arguments"]["dataset_name"] == Path(data).name
    assert sorted(path.name for path in scores.iterdir()) == ["answers.png", "metrics.json", "predictions.jsonl"]


@pytest.mark.long
def test_real_charts(tmp_path, shared):
    model = save_tiny(tmp_path / "tiny", dropout=0.1, drop_path_rate=0.1)
    output, scores = tmp_path / "out", tmp_path / "scores"
    settings = {
        **SETTINGS,
        "model_name_or_path": model,
        "dataset_name": shared / "chartqa",
        "eval_split": "test",
        "max_train_samples": 16,
        "max_eval_samples": 21,
        "num_train_epochs": 2,
        "eval_steps": 4,
        "save_steps": 4,
        "dataloader_num_workers": 2,
        "output_dir": output,
    }
    launched = start_prepared(FINETUNE, settings)
    check_run(output, 21, launched.stdout)
    assert (report(output)["eval_n_human"], report(output)["eval_n_augmented"]) == (10, 11)
    evaluation = {"model_name_or_path": output, "dataset_name": shared / "chartqa", "metric_variant": "lenient"}
    evaluation |= {"generation_max_new_tokens": 5, "generation_num_beams": 1, "use_cpu": True}
    printed = start_prepared(EVALUATE, {**evaluation, "max_eval_samples": 40, "output_dir": scores})
    assert "1 beam, variant lenient" in printed.stdout
    assert format_table(report(scores), prefix="eval_") in printed.stdout
    assert len(answers(scores)) == 40
    check_against_predictions(report(scores), answers(scores), variant="lenient")


def test_a_folder_with_checkpoints_is_not_trained_into_by_mistake(tmp_path):
    checkpoint = tmp_path / "out" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "chartqa_state.json").write_text("{}")
    with pytest.raises(SystemExit, match="checkpoint-5 exists: resume with --resume_from_checkpoint last, or choose"):
        example(FINETUNE).main(["--output_dir", str(tmp_path / "out"), "--use_cpu"])
