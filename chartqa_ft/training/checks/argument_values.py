"""Values of `ChartQATrainingArguments` that are refused, because something else than asked would happen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers.utils import logging

from ...files import parse_json
from ...metrics.correctness import variant_name
from ...metrics.extraction import extractor_of
from ...metrics.limits import INTERVALS
from ..parts import part_refusals
from .argument_types import type_refusals
from .optimizer_arguments import optimizer_argument_refusals
from .tasks import task_refusals
from .trackers import tracker_refusals


@dataclass(frozen=True)
class Range:
    """The values that a number may have; both ends are included unless they are said to be open."""

    low: float = 0
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    whole: bool = False
    """Whether only whole numbers are allowed."""
    infinite: bool = False
    """Whether `inf` is allowed."""
    advice: str = ""
    """What to do if the value is outside."""

    def message(self, name: str, value: Any) -> str | None:
        """Return why a value is refused, or `None` if it is in the range or unset.

        Example:
            >>> Range(1, whole=True).message("per_device_train_batch_size", 0)
            'per_device_train_batch_size must be a whole number of at least 1, got 0'
            >>> Range(0, 1, high_open=True).message("adam_beta1", 0.9) is None
            True
        """
        if value is None or self._holds(value):
            return None
        kind = "a whole number" if self.whole else "a number"
        low = f"{'above' if self.low_open else 'of at least'} {self.low:g}"
        high = "" if math.isinf(self.high) else f" and {'below' if self.high_open else 'at most'} {self.high:g}"
        return f"{name} must be {kind} {low}{high}, got {value!r}" + (f": {self.advice}" if self.advice else "")

    def _holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if not (math.isfinite(value) or (self.infinite and value > 0)) or (self.whole and value != value // 1):
            return False
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)


_COUNT = Range(1, whole=True)
_FROM_ZERO = Range()

RANGES: dict[str, Range] = {
    "per_device_train_batch_size": _COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "num_train_epochs": Range(low_open=True, advice="to train nothing, do not call train()"),
    "learning_rate": _FROM_ZERO,
    "weight_decay": _FROM_ZERO,
    "max_grad_norm": Range(infinite=True, advice="0 does not clip"),
    "adam_beta1": Range(high=1, high_open=True),
    "adam_beta2": Range(high=1, high_open=True),
    "adam_epsilon": _FROM_ZERO,
    "label_smoothing_factor": Range(high=1, high_open=True),
    "warmup_steps": Range(advice="0 for no warm-up"),
    "neftune_noise_alpha": Range(low_open=True, advice="leave it unset for no noise"),
    "eval_delay": _FROM_ZERO,
    "eval_accumulation_steps": _COUNT,
    "torch_empty_cache_steps": _COUNT,
    "save_total_limit": Range(
        2,
        whole=True,
        advice="1 deletes the last whole checkpoint before the next is known to be whole: use 2, or leave it unset to "
        "keep all",
    ),
    "seed": Range(high=2**32 - 1, whole=True),
    "data_seed": Range(high=2**32 - 1, whole=True),
    "dataloader_num_workers": Range(whole=True),
    "dataloader_prefetch_factor": _COUNT,
    "ddp_bucket_cap_mb": _COUNT,
    "ddp_timeout": _COUNT,
    "generation_num_beams": Range(1, whole=True, advice="1 is greedy search"),
    "generation_max_new_tokens": _COUNT,
    "eval_window": _COUNT,
    "max_bad_steps": Range(whole=True, advice="0 stops at the first"),
    "chart_cache_gb": Range(low_open=True, advice="to keep no charts, use chart_cache='off'"),
}
"""Argument -> the values that it may have. Unset arguments (`None`) are not checked."""

_LEVELS = ("passive", *logging.get_log_levels_dict())
_LEVELS_ADVICE = f"is not known: use one of {', '.join(_LEVELS)}"

ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "log_level": (_LEVELS, _LEVELS_ADVICE),
    "log_level_replica": (_LEVELS, _LEVELS_ADVICE),
    "include_num_input_tokens_seen": (
        ("no", "all", "non_padding", True, False),
        "is not known: use all or non_padding",
    ),
    "on_bad_text": (("raise", "skip"), "is not known: use raise or skip"),
    "remove_unused_columns": ((False,), "would drop the chart and its question: leave it False"),
    "generation_max_length": (
        (None,),
        "counts the prompt, so that long questions get no answer: use generation_max_new_tokens",
    ),
    "average_tokens_across_devices": ((True,), "makes the update depend on the number of ranks: leave it True"),
    "batch_eval_metrics": ((False,), "cannot score over all ranks: leave it False"),
    "sortish_sampler": ((False,), "is not supported: use train_sampling_strategy"),
    "train_sampling_strategy": (("random", "sequential"), "is not supported: use random or sequential"),
    "length_column_name": (("length",), "is only read by group_by_length, which is not supported: leave it out"),
    "logging_nan_inf_filter": ((False,), "would have to change the exact losses of the log: leave it False"),
    "prediction_loss_only": ((False,), "is not supported: use predict_with_generate=False, which computes the loss"),
    "include_for_metrics": (([], ()), "is not supported: compute_metrics gets the texts"),
    "eval_do_concat_batches": ((True,), "is not supported: compute_metrics gets all rows at once. Leave it True"),
    "auto_find_batch_size": ((False,), "would change the rows of a step: choose per_device_train_batch_size"),
    "fp16_full_eval": (
        (False,),
        "would leave the weights in 16 bits, and save them so: use fp16=True, or load the model with dtype=float16",
    ),
    "bf16_full_eval": (
        (False,),
        "would leave the weights in 16 bits, and save them so: use bf16=True, or load the model with dtype=bfloat16",
    ),
    "label_names": ((None, ["labels"]), "would not be read: batches hold their answers as labels. Leave it out"),
    "dataloader_in_order": ((True,), "would make the order of batches depend on timing: leave it True"),
    "parallelism_config": (
        (None,),
        "is not supported: the exact loss counts tokens over data-parallel ranks. Use DistributedDataParallel, FSDP "
        "or DeepSpeed",
    ),
}
"""Argument -> the only values that it may have, and what follows the name and value in the message."""

FOLLOWING_A_METRIC = ("reduce_lr_on_plateau", "greedy")
"""Values of `lr_scheduler_type` that change the learning rate after evaluations, by `metric_for_best_model`."""

WITHOUT_WARMUP = ("constant", *FOLLOWING_A_METRIC)
"""Values of `lr_scheduler_type` whose schedules get no warm-up (`transformers.get_scheduler`)."""

WITHOUT_SETTINGS = ("constant", "constant_with_warmup")
"""Values of `lr_scheduler_type` whose schedules get no `lr_scheduler_kwargs`."""


def schedule_name(args: Any) -> str:
    """Return `lr_scheduler_type` as text: transformers makes an enum of it.

    Args:
        args: `ChartQATrainingArguments`.
    """
    return str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))


def refusals(args: Any) -> Iterator[str]:
    """Yield why values of the arguments are refused, one message each.

    Args:
        args: `ChartQATrainingArguments`, as given and before any value is derived from another.

    Raises:
        ValueError: `metric_variant` or `metric_extract` is not known.
    """
    variant_name(args.metric_variant)
    extractor_of(args.metric_extract)
    if args.metric_interval not in INTERVALS:
        yield f"metric_interval must be one of {', '.join(INTERVALS)}, got {args.metric_interval!r}"
    wrong = dict(type_refusals(args))
    for name, (allowed, why) in ONLY.items():
        if name not in wrong and getattr(args, name, allowed[0]) not in allowed:
            yield f"{name}={getattr(args, name)!r} {why}"
    for name, values in RANGES.items():
        message = values.message(name, getattr(args, name, None))
        if message:
            wrong[name] = message
    yield from wrong.values()
    if wrong:
        return  # the checks of several arguments count on their types
    yield from _steps(args)
    yield from _best(args)
    yield from _schedule(args)
    yield from optimizer_argument_refusals(args)
    yield from _settings(args)
    yield from _generation(args)
    yield from task_refusals(args)
    yield from part_refusals(args)
    yield from _data(args)
    yield from _hub(args)
    yield from tracker_refusals(args.report_to)
    if args.fp16 and args.bf16:
        yield "fp16=True and bf16=True exclude each other: choose one"


def _steps(args: Any) -> Iterator[str]:
    if args.max_steps != -1:
        message = Range(1, whole=True, advice="-1 trains num_train_epochs").message("max_steps", args.max_steps)
        if message:
            yield message
    for what in ("logging", "eval", "save"):
        value, name = getattr(args, f"{what}_steps"), f"{what}_steps"
        if getattr(args, f"{what}_strategy") == "steps" and value is not None:
            whole_or_share = Range(low_open=True, advice="a number below 1 is a share of all steps")
            message = whole_or_share.message(name, value)
            if message is None and value > 1 and value != int(value):
                message = f"{name} must be a whole number of steps or a share below 1, got {value!r}"
            if message:
                yield message


def _schedule(args: Any) -> Iterator[str]:
    name = schedule_name(args)
    given = args.lr_scheduler_kwargs or {}
    settings = dict(parse_json(given) if isinstance(given, str) else given)
    if settings.get("mode") == args.default_mode:  # not given: an earlier schedule's
        del settings["mode"]
    if name in WITHOUT_SETTINGS and settings:
        yield (
            f"lr_scheduler_kwargs={settings!r} would not be used with lr_scheduler_type={name!r}, which has no "
            "settings: leave it out"
        )
    if name in WITHOUT_WARMUP and args.warmup_steps and not args.warmup_is_default:
        yield (
            f"warmup_steps={args.warmup_steps:g} would not be used with lr_scheduler_type={name!r}: use "
            "'constant_with_warmup' or another schedule, or set warmup_steps=0"
        )


def _best(args: Any) -> Iterator[str]:
    if args.eval_strategy == "no":
        if args.load_best_model_at_end:
            yield "load_best_model_at_end needs evaluations: set eval_strategy to 'steps' or 'epoch'"
        if args.save_strategy == "best":
            yield "save_strategy='best' needs evaluations, or nothing is ever saved: set eval_strategy"
    name = args.metric_for_best_model or ""
    wants_best = args.load_best_model_at_end or args.save_strategy == "best"
    if ("accuracy" in name or (wants_best and not name and args.predict_with_generate)) and (
        args.greater_is_better is False
    ):
        yield (
            f"greater_is_better=False would keep the worst {name or 'relaxed_accuracy'}: leave it out, or choose "
            "metric_for_best_model='loss'"
        )
    if "relaxed_accuracy" in name and not args.predict_with_generate:
        yield f"metric_for_best_model={name!r} needs predict_with_generate=True"


def _settings(args: Any) -> Iterator[str]:
    """Settings of something that is off."""
    for name, switches in (
        ("activation_checkpointing_kwargs", ("activation_checkpointing", "gradient_checkpointing")),
        ("gradient_checkpointing_kwargs", ("activation_checkpointing", "gradient_checkpointing")),
        ("liger_kernel_config", ("use_liger_kernel",)),
        ("fsdp_config", ("fsdp",)),
    ):
        if getattr(args, name, None) and not any(getattr(args, switch, None) for switch in switches):
            yield f"{name} would not be used without {switches[0]}: set it too, or leave {name} out"


def _generation(args: Any) -> Iterator[str]:
    if args.generation_config is not None and not args.predict_with_generate:
        yield "generation_config is not used with predict_with_generate=False: leave one of them out"
    size = args.eval_subset
    if size is not None:
        number = isinstance(size, (int, float)) and not isinstance(size, bool) and math.isfinite(size)
        if not number or not (0 < size < 1 or size == int(size) > 0):
            yield f"eval_subset must be a number of questions or a share between 0 and 1, got {size}"


def _data(args: Any) -> Iterator[str]:
    if not args.chart_cache:
        yield "chart_cache must be a folder, 'auto' or 'off'"
    if args.dataloader_num_workers == 0:
        for name, unset in (
            ("dataloader_persistent_workers", False),
            ("dataloader_prefetch_factor", None),
            ("dataloader_multiprocessing_context", None),
        ):
            if getattr(args, name) != unset:
                yield f"{name}={getattr(args, name)!r} needs dataloader_num_workers of at least 1"
    if not isinstance(args.accelerator_config, str):
        yield from accelerator_refusals(args.accelerator_config)


def accelerator_refusals(config: Any) -> Iterator[str]:
    """Yield why settings of `accelerator_config`, a dict or an object, are refused. Text is parsed before."""
    for name, advice in (
        ("split_batches", "would split a batch between ranks, and charts from their questions: leave it False"),
        ("dispatch_batches", "would split batches by rows, and charts from their questions: leave it out"),
    ):
        if config.get(name) if isinstance(config, dict) else getattr(config, name, None):
            yield f"{name}=True in accelerator_config {advice}"


def _hub(args: Any) -> Iterator[str]:
    for name in ("write_predictions", "predict_with_generate"):
        if args.push_predictions and not getattr(args, name):
            yield f"push_predictions=True needs {name}=True, or there are no answers to push: leave one of them out"
    if args.hub_create_pr and args.hub_strategy != "end":
        yield (
            f"hub_create_pr=True with hub_strategy={args.hub_strategy!r} would open a pull request for every save: "
            "use hub_strategy='end'"
        )
    if args.hub_create_pr and "/" not in (args.hub_model_id or ""):
        yield "hub_create_pr=True needs hub_model_id='owner/name', the repository to propose the model to"
