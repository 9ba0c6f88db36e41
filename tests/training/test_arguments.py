"""The defaults of the training arguments, and the combinations that are refused."""

from __future__ import annotations

import pytest
from transformers import HfArgumentParser

from chartqa_ft.training.arguments import RECIPE_STEPS, ChartQATrainingArguments
from chartqa_ft.training.checks.argument_values import FOLLOWING_A_METRIC, WITHOUT_WARMUP
from chartqa_ft.training.schedule import settle_warmup

from ..support.common import arguments, drawn_charts, trainer


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


# ---------------------------------------------------------------------- schedules
@pytest.mark.parametrize("schedule", FOLLOWING_A_METRIC)
@pytest.mark.parametrize(("metric", "mode"), [("relaxed_accuracy", "max"), ("loss", "min"), (None, "min")])
def test_a_schedule_that_follows_a_metric_knows_whether_greater_is_better(tmp_path, schedule, metric, mode):
    settings = {"lr_scheduler_type": schedule, "metric_for_best_model": metric, "eval_strategy": "epoch"}
    assert arguments(tmp_path, **settings).lr_scheduler_kwargs == {"mode": mode}
    known = arguments(tmp_path, lr_scheduler_kwargs={"patience": 2, "mode": mode}, **settings)
    assert known.lr_scheduler_kwargs == {"patience": 2, "mode": mode}
    run = trainer(tmp_path, eval_dataset=drawn_charts(), lr_scheduler_kwargs='{"patience": 3}', **settings)
    run.create_optimizer_and_scheduler(4)
    assert (run.lr_scheduler.mode, run.lr_scheduler.patience) == (mode, 3)
    wrong = {"mode": "min" if mode == "max" else "max"}
    with pytest.raises(
        ValueError, match=f"mode='{wrong['mode']}' in lr_scheduler_kwargs would lower .*leave mode out"
    ):
        arguments(tmp_path, lr_scheduler_kwargs=wrong, **settings)


def test_the_mode_of_a_schedule_changes_with_the_schedule_and_the_metric(tmp_path):
    args = arguments(tmp_path, metric_for_best_model="relaxed_accuracy", eval_strategy="epoch")
    seen = []
    for schedule, greater in (("cosine", True), ("reduce_lr_on_plateau", True), ("reduce_lr_on_plateau", False)):
        args.lr_scheduler_type, args.greater_is_better = schedule, greater
        args.choose_mode()
        seen.append(args.lr_scheduler_kwargs)
    args.lr_scheduler_type, args.lr_scheduler_kwargs = "cosine", {**args.lr_scheduler_kwargs, "num_cycles": 2}
    args.choose_mode()
    assert [*seen, args.lr_scheduler_kwargs] == [None, {"mode": "max"}, {"mode": "min"}, {"num_cycles": 2}]


@pytest.mark.parametrize("schedule", WITHOUT_WARMUP)
def test_a_warmup_that_a_schedule_does_not_have_is_refused_and_no_default(tmp_path, schedule):
    settings = {"lr_scheduler_type": schedule, "eval_strategy": "epoch", "max_steps": 200}
    for steps in (10, 0.1):
        with pytest.raises(
            ValueError, match=rf"warmup_steps={steps} would not be used with .*{schedule}.*_with_warmup"
        ):
            arguments(tmp_path, warmup_steps=steps, **settings)
    assert arguments(tmp_path, warmup_steps=0, **settings).warmup_steps == 0
    args = arguments(tmp_path, warmup_steps=None, **settings)
    assert (args.warmup_steps, args.warmup_is_default) == (0, True)
    settle_warmup(args, drawn_charts(), 1)
    assert args.warmup_steps == 0
    args.lr_scheduler_type = "cosine"
    settle_warmup(args, drawn_charts(), 1)
    assert args.warmup_steps == 100


def test_a_warmup_that_is_set_later_is_used(tmp_path):
    args = arguments(tmp_path, warmup_steps=None, max_steps=50)
    assert (args.warmup_steps, args.warmup_is_default) == (5, True)
    args.warmup_steps = 7
    settle_warmup(args, drawn_charts(), 1)
    assert (args.warmup_steps, args.warmup_is_default) == (7, False)
