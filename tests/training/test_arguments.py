"""The defaults of the training arguments, and the combinations that are refused."""

from __future__ import annotations

import pytest
from transformers import HfArgumentParser

from chartqa_ft.training.arguments import RECIPE_STEPS, ChartQATrainingArguments

from ..support.common import arguments, trainer


def test_defaults_are_the_official_recipe(tmp_path):
    args = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert args.max_steps == RECIPE_STEPS == 40_000
    assert args.learning_rate == 5e-5
    assert args.lr_scheduler_type == "cosine"
    assert args.warmup_steps == 100
    assert args.max_grad_norm == 1.0
    assert args.weight_decay == 0.0
    assert args.per_device_train_batch_size == 8
    assert args.generation_num_beams == 4
    assert args.predict_with_generate is True
    assert args.precision == "fp32"
    epochs = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True, num_train_epochs=2)
    assert (epochs.max_steps, epochs.num_train_epochs) == (-1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"remove_unused_columns": True}, "remove_unused_columns=True would drop"),
        ({"generation_max_length": 20}, "use generation_max_new_tokens"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics=True cannot"),
        ({"sortish_sampler": True}, "sortish_sampler"),
        ({"train_sampling_strategy": "group_by_length"}, "'group_by_length' is not supported"),
        ({"metric_for_best_model": "relaxed_accuracy", "predict_with_generate": False}, "needs predict_with_generate"),
        ({"generation_max_new_tokens": 0}, "must be a whole number of at least 1, got 0"),
        ({"eval_subset": -1.0}, "eval_subset must be"),
        ({"eval_subset": 1.5}, "eval_subset must be"),
        ({"logging_nan_inf_filter": True}, "logging_nan_inf_filter=True would"),
        ({"save_total_limit": 1}, "at least 2, got 1: 1 deletes the last whole checkpoint"),
        ({"prediction_loss_only": True}, "use predict_with_generate=False"),
        ({"include_for_metrics": ["inputs"]}, "is not supported: compute_metrics gets the texts"),
        ({"hub_create_pr": True, "hub_strategy": "every_save"}, "would open a pull request for every save"),
        ({"hub_create_pr": True, "hub_model_id": "model"}, "needs hub_model_id='owner/name'"),
        ({"eval_subset": 2, "eval_dataset": [{"question": "?"}]}, "eval_subset needs a datasets.Dataset"),
        ({"predict_with_generate": False, "compute_metrics": print}, "it needs predict_with_generate=True"),
        ({"fp16": True, "bf16": True}, "exclude each other"),
        ({"fp16": True}, "fp16 does nothing on this device"),
        ({"load_best_model_at_end": True, "save_strategy": "best"}, "load_best_model_at_end needs evaluations"),
        ({"auto_find_batch_size": True}, "choose per_device_train_batch_size"),
    ],
)
def test_wrong_combinations_say_what_to_do(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **changes)


def test_precision_of_the_launcher_is_honoured_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert arguments(tmp_path).precision == "bf16"
    with pytest.raises(ValueError, match="accelerate was started with --mixed_precision bf16"):
        arguments(tmp_path, bf16=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="fp16 does nothing on this device"):
        arguments(tmp_path)


def test_flags_that_may_be_unset_work_bare_and_with_a_value(tmp_path):
    parser = HfArgumentParser(ChartQATrainingArguments)
    line = ["--output_dir", str(tmp_path), "--use_cpu"]
    (args,) = parser.parse_args_into_dataclasses([*line, "--bf16", "--group_by_chart", "False", "--random_padding"])
    assert (args.bf16, args.group_by_chart, args.random_padding) == (True, False, True)
    (args,) = parser.parse_args_into_dataclasses(line)
    assert (args.bf16, args.group_by_chart, args.random_padding) == (False, None, None)


def test_several_gpus_in_one_process_are_refused_with_the_line_to_use(tmp_path, monkeypatch):
    monkeypatch.setattr(ChartQATrainingArguments, "n_gpu", property(lambda self: 3))
    with pytest.raises(ValueError, match=r"accelerate launch --multi_gpu --num_processes 3"):
        arguments(tmp_path)
