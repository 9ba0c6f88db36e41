"""Every field of `Seq2SeqTrainingArguments`: used as upstream does, used by this package, or refused.

A new transformers that adds a field fails here. Read what upstream does with it, and whether that reaches the trainer:
its data loaders, its loss, its evaluation loop and its pushes are its own.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from transformers import GenerationConfig, Seq2SeqTrainingArguments

from ...support.common import arguments

UPSTREAM = [
    "output_dir",
    "lr_scheduler_kwargs",
    "optim",
    "optim_args",
    "optim_target_modules",
    "tf32",
    "torch_compile_backend",
    "torch_compile_mode",
    "use_liger_kernel",
    "use_cache",
    "logging_strategy",
    "logging_first_step",
    "log_on_each_node",
    "log_level",
    "log_level_replica",
    "disable_tqdm",
    "report_to",
    "run_name",
    "project",
    "trackio_space_id",
    "trackio_bucket_id",
    "trackio_static_space_id",
    "eval_strategy",
    "eval_on_start",
    "eval_use_gather_object",
    "save_only_model",
    "save_on_each_node",
    "enable_jit_checkpoint",
    "restore_callback_states_from_checkpoint",
    "full_determinism",
    "use_cpu",
    "ddp_broadcast_buffers",
    "ddp_static_graph",
    "ddp_backend",
    "deepspeed",
    "debug",
    "skip_memory_metrics",
    "do_train",
    "do_eval",
    "do_predict",
    "local_rank",
]
"""Read by upstream's code, which runs as it is. Rows are gathered as `eval_use_gather_object` says anyway."""

OURS = {
    "lr_scheduler_type": ("the recipe's cosine by default", "test_defaults_are_the_official_recipe"),
    "bf16": ("unset: the best of the device", "test_precision_of_the_launcher_is_honoured_or_refused"),
    "fp16": ("unset: the best of the device", "test_precision_of_the_launcher_is_honoured_or_refused"),
    "activation_checkpointing": ("also for blocks that upstream leaves out", "test_the_trainer_does_it_on_request"),
    "gradient_checkpointing": ("the older name", "test_the_trainer_does_it_on_request"),
    "torch_compile": ("logits of answers are chosen after the model", "torch_compile=True"),
    "push_to_hub": ("pushed by HubPusher", "push_to_hub"),
    "hub_model_id": ("the repository", "hub_model_id"),
    "hub_token": ("used, and never written", "hub_token"),
    "hub_private_repo": ("for a new repository", "hub_private_repo"),
    "hub_strategy": ("what is pushed during training", "hub_strategy"),
    "hub_always_push": ("whether a push waits for the one before", "hub_always_push"),
    "hub_revision": ("the branch", "hub_revision"),
    "metric_for_best_model": (
        "checked against the metrics of evaluations",
        "test_a_best_metric_that_no_evaluation_has",
    ),
    "ignore_data_skip": ("also for streams", "test_ignore_data_skip_also_holds_for_streams"),
    "dataloader_drop_last": ("by rounds of batches", "test_a_schedule_that_cannot_be_is_refused"),
    "dataloader_pin_memory": ("passed to the loader", "test_arguments_of_the_loader_reach_it"),
    "ddp_find_unused_parameters": ("unset: by the family", "test_the_arguments_of_the_user_stay_as_they_are"),
    "resume_from_checkpoint": ("what train() resumes from", "test_resume_from_checkpoint_of_the_arguments_is_used"),
    "predict_with_generate": ("True by default", "test_defaults_are_the_official_recipe"),
    "generation_config": ("settings of evaluations", "test_generation_config_is_used"),
}
"""Field -> how this package uses it, and words in a test of that."""

REFUSED = {
    "per_device_train_batch_size": [0, -1, 2.5, "8"],
    "per_device_eval_batch_size": [0],
    "gradient_accumulation_steps": [0, -2],
    "num_train_epochs": [0, -1.0, float("nan")],
    "max_steps": [0, -2, 1.5],
    "learning_rate": [-1e-5, float("nan"), float("inf"), "5e-5"],
    "warmup_steps": [-1, float("nan")],
    "weight_decay": [-0.1, float("nan")],
    "adam_beta1": [1.0, -0.1],
    "adam_beta2": [1.5],
    "adam_epsilon": [-1e-8],
    "max_grad_norm": [-1.0, float("nan")],
    "label_smoothing_factor": [1.0, -0.1],
    "average_tokens_across_devices": [False],
    "bf16_full_eval": [True],
    "fp16_full_eval": [True],
    "activation_checkpointing_kwargs": [{"every_n_layers": 2}],
    "gradient_checkpointing_kwargs": [{"use_reentrant": False}],
    "liger_kernel_config": [{"rope": True}],
    "neftune_noise_alpha": [0.0, -5.0],
    "torch_empty_cache_steps": [0],
    "auto_find_batch_size": [True],
    "logging_steps": [0, -5, 2.5, float("nan")],
    "logging_nan_inf_filter": [True],
    "eval_steps": [0, -1, 2.5],
    "eval_delay": [-1, float("nan")],
    "prediction_loss_only": [True],
    "eval_do_concat_batches": [False],
    "eval_accumulation_steps": [0],
    "include_for_metrics": [["inputs"]],
    "batch_eval_metrics": [True],
    "save_strategy": ["best"],
    "save_steps": [0, -1],
    "save_total_limit": [1, 0, -1],
    "load_best_model_at_end": [True],
    "greater_is_better": [False],
    "seed": [-1, 2**32, 0.5],
    "data_seed": [-1],
    "accelerator_config": [{"split_batches": True}, {"dispatch_batches": True}],
    "parallelism_config": ["tensor parallel"],
    "dataloader_num_workers": [-1],
    "dataloader_persistent_workers": [True],
    "dataloader_prefetch_factor": [2],
    "dataloader_multiprocessing_context": ["fork"],
    "dataloader_in_order": [False],
    "remove_unused_columns": [True],
    "label_names": [["answer"]],
    "train_sampling_strategy": ["group_by_length"],
    "length_column_name": ["n_tokens"],
    "ddp_bucket_cap_mb": [0],
    "ddp_timeout": [0],
    "fsdp": ["full_shard"],
    "fsdp_config": [{"version": 2}],
    "sortish_sampler": [True],
    "generation_max_length": [20],
    "generation_num_beams": [0, 1.5],
    "include_num_input_tokens_seen": [],
}
"""Field -> values that are refused at once; `include_num_input_tokens_seen` is refused for some models."""

BESIDE = {
    "eval_steps": {"eval_strategy": "steps"},
    "save_steps": {"save_strategy": "steps"},
    "load_best_model_at_end": {"save_strategy": "steps"},
    "greater_is_better": {"metric_for_best_model": "relaxed_accuracy"},
    "num_train_epochs": {"max_steps": -1},
}
OTHER_WORDS = {"fsdp": "FSDP"}
FIELDS = {field.name for field in dataclasses.fields(Seq2SeqTrainingArguments)}
SINCE_5_23 = {"activation_checkpointing", "activation_checkpointing_kwargs"}


def test_every_field_of_this_transformers_is_in_the_table():
    table = [*UPSTREAM, *OURS, *REFUSED]
    assert len(table) == len(set(table)), "a field stands in the table twice"
    assert FIELDS - set(table) == set(), "new fields: read what upstream does with them"
    assert set(table) - FIELDS <= SINCE_5_23, "fields that this transformers no longer has"


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values if name in FIELDS]
)
def test_a_refused_value_names_the_argument(tmp_path, name, value):
    with pytest.raises(ValueError, match=OTHER_WORDS.get(name, name)):
        arguments(tmp_path, **BESIDE.get(name, {}), **{name: value})


def test_a_field_that_is_used_by_this_package_has_a_test():
    tests = Path(__file__).resolve().parents[2]
    text = "\n".join(path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py") if path != Path(__file__))
    text += "\n".join(path.read_text(encoding="utf-8") for path in (tests / "support").glob("*.py"))
    assert [name for name, (_, words) in OURS.items() if words not in text] == []


def test_all_refusals_come_in_one_error(tmp_path):
    with pytest.raises(ValueError) as caught:
        arguments(tmp_path, per_device_train_batch_size=0, learning_rate=float("nan"), save_total_limit=0)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 things to change:"
    assert [re.match(r"- (\w+) must be", line)[1] for line in lines[1:]] == [
        "per_device_train_batch_size",
        "learning_rate",
        "save_total_limit",
    ]


def test_values_at_the_ends_of_the_ranges_are_taken(tmp_path):
    args = arguments(
        tmp_path,
        learning_rate=0,
        weight_decay=0,
        max_grad_norm=float("inf"),
        adam_beta1=0.0,
        generation_num_beams=None,
        save_total_limit=2,
        generation_config=GenerationConfig(length_penalty=0.5),
        eval_subset=0.5,
        logging_steps=0.1,
    )
    assert (args.max_grad_norm, args.save_total_limit, args.logging_steps) == (float("inf"), 2, 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "10"])
def test_an_eval_subset_that_is_no_number_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="eval_subset must be"):
        arguments(tmp_path, eval_subset=value)


def test_fsdp_of_the_launcher_is_refused_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP shards models over GPUs"):
        arguments(tmp_path)


def test_an_unset_warmup_fits_into_a_short_run(tmp_path):
    assert arguments(tmp_path, warmup_steps=None, max_steps=30).warmup_steps == 3
    assert arguments(tmp_path, warmup_steps=None, max_steps=101).warmup_steps == 100
    assert arguments(tmp_path, warmup_steps=None, max_steps=-1, num_train_epochs=2).warmup_steps == 100


@pytest.mark.parametrize("name", ["constant", "constant_with_warmup"])
def test_settings_of_a_schedule_that_has_none_are_refused(tmp_path, name):
    for settings in ({"num_cycles": 2}, '{"num_cycles": 2}'):
        with pytest.raises(
            ValueError, match=rf"lr_scheduler_kwargs={{'num_cycles': 2}} .* lr_scheduler_type='{name}'"
        ):
            arguments(tmp_path, lr_scheduler_type=name, lr_scheduler_kwargs=settings)
    assert arguments(tmp_path, lr_scheduler_type=name, lr_scheduler_kwargs={}).lr_scheduler_type == name
    assert arguments(tmp_path, lr_scheduler_type="cosine", lr_scheduler_kwargs={"num_cycles": 2}).lr_scheduler_kwargs


@pytest.mark.parametrize("name", ["split_batches", "dispatch_batches"])
@pytest.mark.parametrize("kind", ["text", "file"])
def test_settings_of_accelerate_are_refused_in_json_too(tmp_path, name, kind):
    config = json.dumps({name: True})
    if kind == "file":
        config = str(tmp_path / "accelerator.json")
        (tmp_path / "accelerator.json").write_text(json.dumps({name: True}))
    with pytest.raises(ValueError, match=f"{name}=True in accelerator_config would split"):
        arguments(tmp_path, accelerator_config=config)
    kept = arguments(tmp_path, accelerator_config='{"even_batches": false}').accelerator_config
    assert (kept.even_batches, kept.dispatch_batches) == (False, False)


@pytest.mark.parametrize("name", ["write_predictions", "predict_with_generate"])
def test_predictions_that_will_not_be_there_cannot_be_pushed(tmp_path, name):
    with pytest.raises(ValueError, match=f"push_predictions=True needs {name}=True"):
        arguments(tmp_path, push_predictions=True, **{name: False})
