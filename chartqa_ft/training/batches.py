"""The collators and data loaders of a trainer, as its arguments, its adapter and its own loss allow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from ..adapters import Adapter, base_model
from ..adapters.pixels import RawCharts, makes_raw_charts
from ..adapters.sharing.packing import PROVEN
from ..batching.collator import ChartQACollator
from ..batching.loader import chart_loader
from .arguments import ChartQATrainingArguments
from .signals import outlive_signals

CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
"""Values of `torch_compile_mode` that record a CUDA graph for every shape of a batch."""
SHAPES = 64
"""What the lengths of batches are a multiple of with these modes."""
COLLATOR_ARGUMENTS = (
    *("group_by_chart", "pack_questions", "random_padding", "seed", "chart_cache", "chart_cache_gb", "task_weights"),
    *("torch_compile", "torch_compile_mode", "include_num_input_tokens_seen"),
)
"""The arguments that `make_collators` reads."""


def collator_arguments(args: ChartQATrainingArguments) -> dict[str, Any]:
    """Return the arguments that the collators depend on, by name.

    Example:
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
        >>> before = collator_arguments(args)
        >>> args.random_padding = True
        >>> before == collator_arguments(args), before["random_padding"]
        (False, None)
    """
    return {name: copy.copy(getattr(args, name)) for name in COLLATOR_ARGUMENTS}


def make_collators(
    adapter: Adapter,
    args: ChartQATrainingArguments,
    model: nn.Module,
    *,
    own_loss: bool,
    own_steps: bool,
    own_evaluation: bool = True,
) -> dict[str, ChartQACollator]:
    """Return the collators of a trainer: `"train"`, `"eval"` and `"test"`, the last one for records without answers.

    Args:
        adapter: the adapter of the model's family.
        args: the arguments of the trainer.
        model: the model, which decides whether questions can be packed.
        own_loss: whether the trainer computes the loss itself. A subclass's loss may count on a row and a chart per
            question.
        own_steps: whether the trainer also evaluates batches itself. A subclass may pass the batch to the model as it
            is, which then needs the processor's floats.
        own_evaluation: whether the trainer alone evaluates batches. A subclass's `prediction_step` may count on a
            chart per question.

    Raises:
        ValueError: an argument that would have no effect.
    """
    group = adapter.groups_charts if args.group_by_chart is None else args.group_by_chart
    if args.group_by_chart and group and not own_loss:
        raise ValueError(
            "group_by_chart=True with an own compute_loss: inputs hold each chart once, and chart_index says which "
            "row shows which, so that model(**inputs) would fail. Leave group_by_chart unset to have one chart per "
            "row, or call super().compute_loss(...)"
        )
    group_train, group_eval = group and own_loss, group and own_evaluation
    can_pad = getattr(adapter, "pads_charts", False)
    pad = can_pad if args.random_padding is None else args.random_padding
    if pad and not can_pad:
        raise ValueError("random_padding=True needs a processor that pads charts to a fixed canvas: leave it unset")
    raw = own_steps and makes_raw_charts(adapter)
    if not raw and args.chart_cache not in ("auto", "off"):
        raise ValueError(
            f"chart_cache={args.chart_cache!r} would not be used: it needs an image processor that resizes, pads, "
            "rescales and normalizes (UniChart, Donut), and the trainer's own loss. Leave it unset"
        )
    cache = None
    if raw and isinstance(adapter, RawCharts):
        cache = adapter.open_cache(args.chart_cache, args.chart_cache_gb)
    make = partial(ChartQACollator, adapter, raw_charts=raw, chart_cache=cache)
    return {
        "train": make(
            group_by_chart=group_train,
            random_padding="seeded" if pad else None,
            seed=args.seed,
            keep_rows=own_loss,  # a step that fails names them
            pad_to_multiple_of=SHAPES if args.torch_compile and args.torch_compile_mode in CUDA_GRAPHS else None,
            pack_questions=_packs_questions(
                adapter, args, model, grouped=group_train, own_loss=own_loss and own_steps
            ),
        ),
        "eval": make(keep_rows=True, group_by_chart=group_eval, allow_unanswered=True),
        "test": make(keep_rows=True, group_by_chart=group_eval, with_answers=False),
    }


def _refuse_packing(
    adapter: Adapter, args: ChartQATrainingArguments, model: nn.Module, *, grouped: bool
) -> str | None:
    """Return why the questions of a chart cannot be trained as one sequence, or `None` if they can.

    Args:
        adapter: the adapter of the model's family.
        args: the arguments of the training.
        model: the model, with its PEFT weights if it has any.
        grouped: whether questions on one chart share a batch.
    """
    if not grouped:
        return "group_by_chart is off, and then no questions of a chart meet"
    if not adapter.packs_questions:
        return (
            f"the adapter {adapter.name!r} cannot for this model, which must be decoder-only, with causal sdpa or "
            "eager attention to all tokens and rotary positions of one dimension"
        )
    if args.task_weights:
        return "task_weights needs a row per question"
    if args.torch_compile:
        return "torch_compile would compile again for other masks"
    if args.include_num_input_tokens_seen == "non_padding":
        return "include_num_input_tokens_seen='non_padding' would count pairs of tokens"
    return None


def _packs_questions(
    adapter: Adapter, args: ChartQATrainingArguments, model: nn.Module, *, grouped: bool, own_loss: bool
) -> bool:
    reason = _refuse_packing(adapter, args, model, grouped=grouped)
    if args.pack_questions and reason:
        raise ValueError(f"pack_questions=True is not possible: {reason}. Leave it unset")
    wanted = args.pack_questions
    if wanted is None:
        wanted = own_loss and base_model(model).config.model_type in PROVEN
    return wanted and reason is None


def make_loader(
    records: Any,
    collate: ChartQACollator,
    args: ChartQATrainingArguments,
    *,
    num_processes: int,
    training: bool,
    find_bad: Callable[[Mapping[str, Any]], str | None] | None = None,
) -> DataLoader:
    """Return a data loader over records for all ranks, which accelerate still has to prepare.

    Args:
        records: a `datasets.Dataset`, a list or a stream.
        collate: one of `make_collators`.
        args: the arguments of the trainer.
        num_processes: number of ranks.
        training: whether rows are shuffled and batches sized as in training.
        find_bad: what is wrong with a record of a stream that is to be left out.
    """
    return chart_loader(
        records,
        collate,
        batch_size=args.train_batch_size if training else args.eval_batch_size,
        accumulation=args.gradient_accumulation_steps if training else 1,
        num_replicas=num_processes,
        group_by_chart=bool(collate.group_by_chart),
        shuffle=training and args.train_sampling_strategy == "random",
        drop_last=training and args.dataloader_drop_last,
        seed=args.seed if args.data_seed is None else args.data_seed,
        rank=args.process_index,
        stored_images=collate.raw_charts,
        find_bad=find_bad,
        num_workers=args.dataloader_num_workers,
        # Only copies to a GPU gain from it. Without one, torch warns about each loader.
        pin_memory=args.dataloader_pin_memory and args.device.type not in ("cpu", "mps"),
        prefetch_factor=args.dataloader_prefetch_factor,
        multiprocessing_context=args.dataloader_multiprocessing_context,
        persistent_workers=training and args.dataloader_persistent_workers,
        worker_init_fn=outlive_signals if training else None,
    )
