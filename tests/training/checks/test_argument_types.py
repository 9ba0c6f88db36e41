"""Every training argument has the type that its field declares, or is refused by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import pytest
from transformers import GenerationConfig

from chartqa_ft import ChartQATrainingArguments
from chartqa_ft.training.checks.argument_types import type_refusals

from ...support.common import arguments, drawn_charts, trainer

FIELDS = [field.name for field in dataclasses.fields(ChartQATrainingArguments)]
OTHER_WORDS = {"metric_extract": "extraction", "metric_variant": "variant"}


@pytest.mark.parametrize(
    "value", [{1}, object(), 2j, len, ChartQATrainingArguments], ids=["set", "object", "complex", "function", "class"]
)
def test_no_field_takes_an_object_of_another_type(tmp_path, value):
    for name in FIELDS:
        if name == "metric_extract" and callable(value):
            continue
        with pytest.raises(ValueError, match=OTHER_WORDS.get(name, name)):
            ChartQATrainingArguments(**{"output_dir": str(tmp_path), "use_cpu": True, name: value})


def test_each_type_has_its_words(tmp_path):
    for name, value, words in [
        ("run_name", 5, "must be a str or None, got 5"),
        ("do_train", "no", "must be True or False, got 'no'"),
        ("disable_tqdm", 1, "must be True, False or None, got 1"),
        ("write_predictions", None, "must be True or False, got None: leave it out for the default"),
        ("max_steps", 1.5, "must be a whole number, got 1.5"),
        ("local_rank", "0", "must be a whole number, got '0'"),
        ("label_names", "labels", "must be a list of str or None, got 'labels'"),
        ("report_to", [5], r"must be a str, a list of str or None, got \[5\]"),
        ("liger_kernel_config", "rope", "must be a dict or None, got 'rope'"),
        ("generation_config", {"num_beams": 2}, "must be a str, a Path, a GenerationConfig or None, got {'num_beams'"),
        ("lr_scheduler_type", None, "must be a str, got None"),
        ("hub_token", 12345, "must be a str or None, got a value of type int$"),
        ("lr_scheduler_kwargs", "{", "='{' is not valid JSON"),
        ("lr_scheduler_kwargs", "num_cycles=2", "must be a dict, or JSON such as"),
        ("accelerator_config", "{'split_batches': 1}", "is not valid JSON"),
        ("log_level", "loud", "is not known: use one of passive, detail, debug, info, warning, error, critical"),
        ("log_level_replica", "", "is not known"),
        ("include_num_input_tokens_seen", "some", "is not known: use all or non_padding"),
        ("max_bad_steps", -1, "must be a whole number of at least 0"),
    ]:
        with pytest.raises(ValueError, match=f"{name}.*{words}" if "=" not in words[:1] else f"{name}{words}"):
            arguments(tmp_path, **{name: value})


def test_what_the_declared_types_leave_out_is_used(tmp_path):
    args = arguments(
        tmp_path,
        per_device_train_batch_size=np.int64(3),
        learning_rate=np.float32(0.5),
        do_train=np.True_,
        max_steps=2.0,
        dataloader_num_workers=1,
        dataloader_multiprocessing_context=get_context("spawn"),
        lr_scheduler_type="cosine_with_restarts",
        lr_scheduler_kwargs='{"num_cycles": 2}',
        generation_config=GenerationConfig(length_penalty=0.5),
        report_to=["none"],
        debug=None,
    )
    assert (args.per_device_train_batch_size, type(args.per_device_train_batch_size)) == (3, int)
    assert (args.learning_rate, args.do_train, args.lr_scheduler_kwargs) == (0.5, True, {"num_cycles": 2})
    assert list(type_refusals(args)) == []
    assert list(type_refusals(dataclasses.replace(args))) == []


WHOLE = {
    "data_seed": 3.0,
    "dataloader_num_workers": 1.0,
    "eval_window": 2.0,
    "generation_max_new_tokens": 6.0,
    "generation_num_beams": 2.0,
    "gradient_accumulation_steps": np.float64(2),
    "max_steps": 3.0,
    "per_device_eval_batch_size": 4.0,
    "per_device_train_batch_size": 4.0,
    "save_total_limit": 2.0,
    "seed": 42.0,
}


def test_whole_floats_train_as_whole_numbers(tmp_path):
    """YAML files and configs of other tools hold 8.0; `range`, slices and `generate` take no floats."""
    often = {"eval_strategy": "steps", "eval_steps": 2.0, "save_strategy": "steps", "save_steps": 1.0}
    run = trainer(tmp_path, eval_dataset=drawn_charts().select(range(4)), **{**often, **WHOLE})
    assert {name: (getattr(run.args, name), type(getattr(run.args, name))) for name in WHOLE} == {
        name: (int(value), int) for name, value in WHOLE.items()
    }
    assert isinstance(run.args.warmup_steps, (int, float))
    run.train()
    assert run.state.global_step == 3
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]


def test_floats_stay_floats_where_they_are_declared(tmp_path):
    args = arguments(tmp_path, learning_rate=1.0, num_train_epochs=2.0, eval_subset=0.5, max_grad_norm=1.0)
    assert {type(value) for value in (args.learning_rate, args.num_train_epochs, args.max_grad_norm)} == {float}


@dataclass
class OwnArguments(ChartQATrainingArguments):
    shade: int = None  # type: ignore[assignment]
    run_name: list = dataclasses.field(default_factory=list)  # type: ignore[assignment]


def test_fields_of_a_subclass_are_its_own_affair(tmp_path):
    args = OwnArguments(str(tmp_path), use_cpu=True, report_to="none", shade="dark", run_name=["a"])
    assert (args.shade, args.run_name) == ("dark", ["a"])
    with pytest.raises(ValueError, match="do_train must be True or False"):
        OwnArguments(str(tmp_path), use_cpu=True, do_train="yes")
