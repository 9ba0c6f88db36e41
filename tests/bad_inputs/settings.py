"""Bad training arguments: numbers that cannot be meant, names that do not exist, pairs that contradict each other."""

# ruff: noqa: PLW0108

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainingArguments, TrainingArguments

from chartqa_ft import ChartQATrainingArguments

from .case import add, charts, new_trainer, same_loss, train

GROUP = "configurations"
NAN, INF = math.nan, math.inf
KNOWN = {field.name for field in fields(ChartQATrainingArguments)}


def _run(folder: Path, **settings: Any) -> Any:
    """Two steps with an evaluation and a checkpoint between them, as far as the settings let it."""
    usual = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    if "num_train_epochs" in settings:
        usual["max_steps"] = -1
    return train(folder, train_dataset=charts(2), eval_dataset=charts(2), **{**usual, **settings})


NUMBERS: dict[str, tuple[Any, ...]] = {
    "num_train_epochs": (0, INF, "two"),
    "max_steps": (0, NAN, 1.5),
    "learning_rate": (-1e-3, NAN, "fast", None),
    "per_device_train_batch_size": (0, 1.5, None),
    "per_device_eval_batch_size": (-1, NAN, "four"),
    "gradient_accumulation_steps": (0, 1.5),
    "weight_decay": (-0.1, INF),
    "adam_beta1": (1.0, NAN),
    "adam_beta2": (-0.1, 1.5),
    "adam_epsilon": (-1e-8, INF),
    "max_grad_norm": (-1.0, "one"),
    "warmup_steps": (-1, NAN, 3, INF),
    "label_smoothing_factor": (-0.1, 1.5),
    "logging_steps": (0, NAN),
    "eval_steps": (-1, 1.5, 100),
    "save_steps": (0, "ten"),
    "eval_delay": (-1, 100),
    "save_total_limit": (0, 1, 1.5),
    "eval_accumulation_steps": (0, NAN),
    "seed": (-1, 1.5, 2**64),
    "data_seed": (NAN, "a"),
    "dataloader_num_workers": (-1, "two"),
    "dataloader_prefetch_factor": (0, 2),
    "generation_num_beams": (0, 1.5),
    "generation_max_new_tokens": (-1, "ten", None),
    "eval_window": (0, NAN, None),
    "eval_subset": (-1, 1.5, "ten"),
    "chart_cache_gb": (-1, NAN),
    "torch_empty_cache_steps": (0,),
    "neftune_noise_alpha": (-1.0, NAN),
}


ALSO: dict[str, tuple[str, ...]] = {
    "learning_rate": ("learning rate",),
    "adam_beta1": ("beta parameter at index 0",),
    "adam_beta2": ("beta parameter at index 1",),
    "adam_epsilon": ("epsilon value",),
    "per_device_train_batch_size": ("batch_size",),
    "dataloader_num_workers": ("num_workers",),
    "dataloader_persistent_workers": ("persistent_workers",),
    "lr_scheduler_type": ("SchedulerType",),
    "eval_strategy": ("IntervalStrategy",),
    "logging_strategy": ("IntervalStrategy",),
    "save_strategy": ("SaveStrategy",),
    "hub_strategy": ("HubStrategy",),
    "report_to": ("is not supported, only",),
    "metric_variant": ("variant",),
    "torch_compile_backend": ("DynamoBackend",),
    "accelerator_config": ("AcceleratorConfig",),
    "label_smoothing_factor": ("label_smoothing",),
}
"""What names an argument, beside its own name, in messages of transformers and torch."""


def _named(field: str, value: Any) -> tuple[str, ...]:
    value = next(iter(value), None) if isinstance(value, (dict, list)) else value
    return (field, *ALSO.get(field, ()), *((value,) if isinstance(value, str) and len(value) > 4 else ()))


def _numbers() -> None:
    for field, values in NUMBERS.items():
        for value in values:
            changes = {field: value}
            if field in ("save_total_limit", "save_steps"):
                changes["eval_strategy"] = "no"
            add(
                GROUP,
                f"arguments: {field}={value!r}",
                lambda folder, changes=changes: _run(folder, **changes),
                *_named(field, value),
                said=(field,) if field in ("warmup_steps", "eval_steps") else (),
            )


NAMES: dict[str, tuple[Any, ...]] = {
    "lr_scheduler_type": ("cosin", "", None),
    "optim": ("adam8", "", "sgdd"),
    "optim_args": ("nothing=1", "x", "lr=1e-3", "momentum:0.9"),
    "lr_scheduler_kwargs": ({"nothing": 1}, "{", "[1]", "num_cycles=2"),
    "eval_strategy": ("step", "every", 1),
    "save_strategy": ("step", "bests"),
    "logging_strategy": ("step",),
    "report_to": ("wand", ["nothing"]),
    "log_level": ("loud", "WARNING", 30),
    "log_level_replica": ("loud",),
    "debug": ("nothing",),
    "include_num_input_tokens_seen": ("some",),
    "metric_variant": ("pix2", "", None, 5, "Pix2Struct "),
    "metric_for_best_model": (
        "accuracy",
        "relaxed_accurracy",
        "eval_relaxed_acc",
        "bleu",
        "test_loss",
        "",
        "relaxed_accuracy_humans",
        "share_nothing",
        5,
    ),
    "chart_cache": ("", None, "/proc/nowhere/charts"),
    "output_dir": ("", None),
    "hub_strategy": ("always",),
    "train_sampling_strategy": ("shuffled", "group_by_length", None),
    "group_by_chart": ("no", 2),
    "random_padding": ("yes", 2),
    "pack_questions": ("yes", True),
    "resume_from_checkpoint": ("checkpoint-5", "no/such/folder"),
    "generation_config": ("no/such/folder", {"num_beams": 2}),
    "generation_max_length": (20,),
    "label_names": (["answer"],),
    "include_for_metrics": (["inputs"], ["nothing"]),
    "deepspeed": ("no_such.json",),
    "fsdp": ("full_shard", "fully", True),
    "fsdp_config": ({"nothing": 1},),
    "accelerator_config": ({"nothing": 1}, {"split_batches": True}, {"dispatch_batches": True}, "no_such.json"),
    "activation_checkpointing_kwargs": ({"nothing": 1}, "{"),
    "gradient_checkpointing_kwargs": ({"nothing": 1}, "{"),
    "torch_compile_backend": ("nothing",),
    "half_precision_backend": ("apex",),
    "use_liger_kernel": (True,),
    "tf32": (True,),
    "fp16": (True,),
    "fp16_full_eval": (True,),
    "bf16_full_eval": (True,),
    "optim_target_modules": ("nothing", "all-linear", ["q_proj"]),
    "hub_model_id": ("a/b/c", "has blank"),
    "past_index": (1,),
    "auto_find_batch_size": (True,),
    "predict_with_generate": ("no",),
    "remove_unused_columns": (True,),
    "dataloader_persistent_workers": (True,),
    "average_tokens_across_devices": (False,),
    "batch_eval_metrics": (True,),
    "prediction_loss_only": (True,),
    "logging_nan_inf_filter": (True,),
    "use_cpu": ("no",),
    "sortish_sampler": (True,),
    "jit_mode_eval": (True,),
}


def _names() -> None:
    for field, values in NAMES.items():
        if field not in KNOWN:
            continue
        for value in values:
            changes: dict[str, Any] = {field: value}
            if field == "metric_for_best_model":
                changes |= {"load_best_model_at_end": True}
            if field == "hub_model_id":
                changes |= {"push_to_hub": True}
            if field == "lr_scheduler_kwargs":
                changes |= {"lr_scheduler_type": "cosine_with_restarts"}
            add(
                GROUP,
                f"arguments: {field}={value!r}",
                lambda folder, changes=changes: _run(folder, **changes),
                *_named(field, value),
                right=RIGHT.get((field, repr(value))),
                said=("cache",) if field == "chart_cache" else (),
            )


def _types() -> None:
    """An object that no field of the arguments takes, for each of them."""
    for field in sorted(KNOWN):
        add(
            GROUP,
            f"arguments: a set as {field}",
            lambda folder, field=field: ChartQATrainingArguments(**{"output_dir": str(folder), field: {1}}),
            field,
            *({"metric_extract": ("extraction",), "metric_variant": ("variant",)}.get(field, ())),
        )


def _made_charts(*, ids: bool = False) -> Any:
    made = {"chart_id": ["a"]} if ids else {}
    return charts(2).remove_columns("chart_id").with_transform(lambda batch: {**batch, **made})


def _steps(n: int) -> Any:
    return lambda trainer: trainer.state.global_step == n


def _best_by(name: str) -> Any:
    return lambda trainer: trainer.args.metric_for_best_model.endswith(name) and trainer.state.best_metric is not None


def _losses(trainer: Any) -> list[float]:
    return [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]


RIGHT: dict[tuple[str, str], Any] = {
    ("dataloader_persistent_workers", "True"): _steps(2),
    ("bf16_full_eval", "True"): _steps(2),
    ("fp16_full_eval", "True"): _steps(2),
}

PAIRS: dict[str, tuple[dict[str, Any], tuple[str, ...], Any]] = {
    "save_strategy best without evaluations": (
        {"save_strategy": "best", "eval_strategy": "no"},
        ("save_strategy", "eval_strategy"),
        None,
    ),
    "load_best without evaluations": (
        {"load_best_model_at_end": True, "eval_strategy": "no"},
        ("load_best_model_at_end",),
        None,
    ),
    "load_best without checkpoints": (
        {"load_best_model_at_end": True, "save_strategy": "no"},
        ("save_strategy",),
        None,
    ),
    "load_best with saves between evaluations": (
        {"load_best_model_at_end": True, "eval_steps": 2, "save_steps": 3, "max_steps": 6},
        ("load_best_model_at_end",),
        None,
    ),
    "load_best by epochs and steps": (
        {"load_best_model_at_end": True, "save_strategy": "epoch"},
        ("load_best_model_at_end",),
        None,
    ),
    "a lower relaxed accuracy as the better one": (
        {"load_best_model_at_end": True, "metric_for_best_model": "relaxed_accuracy", "greater_is_better": False},
        ("greater_is_better",),
        None,
    ),
    "a lower eval_relaxed_accuracy as the better one": (
        {"load_best_model_at_end": True, "metric_for_best_model": "eval_relaxed_accuracy", "greater_is_better": False},
        ("greater_is_better",),
        None,
    ),
    "a lower accuracy_lenient as the better one": (
        {"load_best_model_at_end": True, "metric_for_best_model": "accuracy_lenient", "greater_is_better": False},
        ("greater_is_better",),
        None,
    ),
    "a higher loss as the better one": (
        # Not refused: with it, a run that learns has its best model at an early step, which tests of the trainer need.
        {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True},
        (),
        lambda trainer: trainer.state.best_metric == max(_losses(trainer)) and len(_losses(trainer)) == 2,
    ),
    "the best by accuracy without generation": (
        {"load_best_model_at_end": True, "metric_for_best_model": "relaxed_accuracy", "predict_with_generate": False},
        ("predict_with_generate",),
        None,
    ),
    "the best by a source that is absent": (
        {
            "load_best_model_at_end": True,
            "metric_for_best_model": "relaxed_accuracy_human",
            "eval_dataset": [{**row, "source": "augmented"} for row in charts(2)],
        },
        ("metric_for_best_model", "human"),
        None,
    ),
    "the best by the mean of two splits with one": (
        {
            "load_best_model_at_end": True,
            "metric_for_best_model": "relaxed_accuracy_mean_of_splits",
            "eval_dataset": [{**row, "source": "human"} for row in charts(2)],
        },
        ("metric_for_best_model", "mean_of_splits"),
        None,
    ),
    "the best without the name of one of two sets": (
        {
            "load_best_model_at_end": True,
            "metric_for_best_model": "relaxed_accuracy",
            "eval_dataset": {"a": charts(2), "b": charts(2)},
        },
        ("metric_for_best_model",),
        None,
    ),
    "the best of a set that does not exist": (
        {
            "load_best_model_at_end": True,
            "metric_for_best_model": "c_relaxed_accuracy",
            "eval_dataset": {"a": charts(2), "b": charts(2)},
        },
        ("metric_for_best_model",),
        None,
    ),
    "the best of a set whose name begins another's": (
        {
            "load_best_model_at_end": True,
            "metric_for_best_model": "val_human_relaxed_accuracy",
            "eval_dataset": {"val": charts(2), "val_human": charts(2)},
        },
        (),
        _best_by("val_human_relaxed_accuracy"),
    ),
    "the best of a set called like a metric": (
        {
            "load_best_model_at_end": True,
            "metric_for_best_model": "loss_loss",
            "eval_dataset": {"loss": charts(2), "b": charts(2)},
        },
        (),
        _best_by("loss_loss"),
    ),
    "evaluations without a set": ({"eval_dataset": None}, ("eval_dataset", "eval_strategy"), None),
    "an evaluation at the start without a set": (
        {"eval_dataset": None, "eval_strategy": "no", "eval_on_start": True},
        ("eval_dataset", "eval_on_start"),
        None,
    ),
    "evaluations in steps without eval_steps": ({"eval_steps": None, "logging_steps": 1}, (), _steps(2)),
    "warm-up longer than the run": ({"warmup_steps": 50}, ("warmup_steps",), None),
    "warm-up longer than the epochs": ({"warmup_steps": 50, "num_train_epochs": 1}, ("warmup_steps",), None),
    "the recipe's warm-up beside two steps": ({"warmup_steps": 100}, ("warmup_steps",), None),
    "batches dropped that are the whole set": (
        {"dataloader_drop_last": True, "per_device_train_batch_size": 8},
        ("dataloader_drop_last", "batch"),
        None,
    ),
    "the first evaluation beyond the end": ({"eval_delay": 10}, ("eval_delay",), None),
    "eval_delay beyond the end in epochs": (
        {"eval_delay": 10, "eval_strategy": "epoch", "num_train_epochs": 1},
        ("eval_delay",),
        None,
    ),
    "eval_steps beyond the end": (
        {"eval_steps": 10, "load_best_model_at_end": True, "save_steps": 10},
        ("eval_steps",),
        None,
    ),
    "both precisions": ({"bf16": True, "fp16": True}, ("fp16",), None),
    "tf32 on a CPU": ({"tf32": True}, ("tf32",), None),
    "fsdp on a CPU": ({"fsdp": "full_shard auto_wrap"}, ("fsdp",), None),
    "fsdp with a switch on a CPU": ({"fsdp": True}, ("fsdp",), None),
    "persistent workers without workers": (
        {"dataloader_persistent_workers": True, "dataloader_num_workers": 0},
        ("persistent_workers",),
        _steps(2),
    ),
    "prefetching without workers": ({"dataloader_prefetch_factor": 2}, ("dataloader_prefetch_factor",), None),
    "a pull request without a repository": ({"hub_create_pr": True}, ("hub_model_id",), None),
    "a pull request for every save": (
        {"hub_create_pr": True, "hub_model_id": "a/b", "hub_strategy": "every_save"},
        ("hub_strategy",),
        None,
    ),
    "a subset of a list": ({"eval_subset": 1, "eval_dataset": list(charts(2))}, ("eval_subset",), None),
    "a subset of a stream": (
        {"eval_subset": 1, "eval_dataset": charts(2).to_iterable_dataset()},
        ("eval_subset",),
        None,
    ),
    "a subset larger than the set": ({"eval_subset": 100}, (), _steps(2)),
    "a subset without sources": (
        {"eval_subset": 1, "eval_dataset": charts(2).remove_columns("source")},
        ("source", "eval_subset"),
        _steps(2),
    ),
    "group_by_chart without ids": (
        {"group_by_chart": True, "train_dataset": charts(4).remove_columns("chart_id")},
        ("chart_id", "group_by_chart"),
        None,
    ),
    "group_by_chart of pictures that a transform makes, without ids": (
        {"group_by_chart": True, "train_dataset": _made_charts()},
        ("chart_id", "group_by_chart"),
        None,
    ),
    "group_by_chart of a stream": (
        {"group_by_chart": True, "train_dataset": charts(4).to_iterable_dataset()},
        (),
        lambda trainer: [len(batch["pixel_values"]) for batch in trainer.get_train_dataloader()] == [2],
    ),
    "group_by_chart of a stream without ids": (
        {"group_by_chart": True, "train_dataset": charts(2).remove_columns("chart_id").to_iterable_dataset()},
        ("group_by_chart",),
        None,
    ),
    "group_by_chart of ids that are all None": (
        {"group_by_chart": True, "train_dataset": [{**row, "chart_id": None} for row in charts(2)]},
        ("group_by_chart",),
        None,
    ),
    "group_by_chart of a transform that makes the ids": (
        {"group_by_chart": True, "train_dataset": _made_charts(ids=True)},
        ("group_by_chart",),
        None,
    ),
    "epochs of a stream": (
        {"max_steps": -1, "num_train_epochs": 1, "train_dataset": charts(2).to_iterable_dataset()},
        ("max_steps",),
        None,
    ),
    "packing of charts that are not grouped": (
        {"pack_questions": True, "group_by_chart": False},
        ("pack_questions",),
        None,
    ),
    "cached charts that cannot be": ({"chart_cache": "/dev/null/charts"}, ("chart_cache", "/dev/null"), None),
    "an output folder that is a file": ({"output_dir": "/dev/null/out"}, ("output_dir", "/dev/null"), None),
    "NEFTune without embeddings that take it": (
        {"neftune_noise_alpha": 5.0},
        ("neftune_noise_alpha",),
        lambda trainer: not same_loss(trainer),
    ),
    "gradient checkpointing under both names": (
        {"gradient_checkpointing": True, "activation_checkpointing": False},
        ("checkpointing",),
        _steps(2),
    ),
    "full determinism": ({"full_determinism": True}, (), _steps(2)),
    "Liger without its package": ({"use_liger_kernel": True}, ("liger",), None),
    "metrics of a variant and the best by another": (
        {
            "metric_variant": "lenient",
            "load_best_model_at_end": True,
            "metric_for_best_model": "relaxed_accuracy_lenient",
        },
        ("metric_for_best_model",),
        None,
    ),
    "an objective without generation": (
        {"predict_with_generate": False, "compute_metrics": lambda *_: {}},
        ("predict_with_generate", "compute_metrics"),
        None,
    ),
    "label smoothing of a half": ({"label_smoothing_factor": 0.5}, (), lambda trainer: not same_loss(trainer)),
}


def _pairs() -> None:
    for name, (changes, names, right) in PAIRS.items():
        add(
            GROUP,
            f"arguments: {name}",
            lambda folder, changes=changes: _run_pair(folder, changes),
            *names,
            right=right,
            said=SAID.get(name, ()),
        )


SAID = {
    "warm-up longer than the run": ("warmup_steps",),
    "warm-up longer than the epochs": ("warmup_steps",),
    "the recipe's warm-up beside two steps": ("warmup_steps",),
    "eval_steps beyond the end": ("eval_steps",),
    "cached charts that cannot be": ("cache",),
    "group_by_chart of a transform that makes the ids": ("group_by_chart", "chart_id"),
}


def _run_pair(folder: Path, changes: dict[str, Any]) -> Any:
    own = {
        name: value for name, value in changes.items() if name in ("eval_dataset", "train_dataset", "compute_metrics")
    }
    settings = {name: value for name, value in changes.items() if name not in own}
    usual = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    if "num_train_epochs" in settings:
        usual["max_steps"] = -1
    data = {"train_dataset": charts(2), "eval_dataset": charts(2)}
    if "output_dir" in settings:
        settings["args"] = ChartQATrainingArguments(
            use_cpu=True, max_steps=1, warmup_steps=0, report_to="none", **settings
        )
    return train(folder, **{**data, **usual, **settings, **own})


def _kinds() -> None:
    """Arguments of another kind."""
    for name, make in {
        "TrainingArguments": lambda folder: TrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True),
        "Seq2SeqTrainingArguments": lambda folder: Seq2SeqTrainingArguments(
            output_dir=str(folder), report_to="none", use_cpu=True
        ),
        "a dict": lambda folder: {"output_dir": str(folder), "max_steps": 1},
        "a path": str,
        "the class": lambda folder: ChartQATrainingArguments,
        "a list": lambda folder: [],
    }.items():
        add(GROUP, f"trainer: {name} as args", lambda folder, make=make: train(folder, args=make(folder)), "args")
    for name, value in {
        "nothing": 1,
        "lr": 1e-4,
        "batch_size": 2,
        "epochs": 1,
        "max_length": 5,
        "num_beams": 2,
        "learning_rates": 1.0,
    }.items():
        add(
            GROUP,
            f"arguments: a field {name} that does not exist",
            lambda folder, name=name, value=value: _run(folder, **{name: value}),
            name,
        )


def _arguments_are_kept() -> None:
    """What a trainer works out is not written into the user's own arguments."""

    def twice(folder: Path) -> Any:
        from tests.support.common import arguments

        args = arguments(folder / "out", log_level="error")
        before = args.to_dict()
        new_trainer(folder, args=args)
        return {key: (before[key], value) for key, value in args.to_dict().items() if before[key] != value}

    add(GROUP, "trainer: arguments used for a second trainer", twice, right=lambda got: got == {})

    add(
        GROUP,
        "predict: num_beams of one call is not that of the next evaluation",
        lambda folder: _beams_after_predict(folder),
        right=lambda got: got == 1,
    )


def _beams_after_predict(folder: Path) -> int:
    trainer = new_trainer(folder, generation_num_beams=1)
    trainer.predict(charts(2), num_beams=3)
    seen: list[int] = []
    usual = trainer.adapter.generate
    trainer.adapter.generate = lambda *args, **options: [seen.append(options["num_beams"]), usual(*args, **options)][1]
    trainer.prediction_step(trainer.model, next(iter(trainer.get_eval_dataloader())), False)
    return seen[0]


_numbers()
_names()
_types()
_pairs()
_kinds()
_arguments_are_kept()
