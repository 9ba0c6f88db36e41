"""What a `ChartQATrainer` does at moments of the training loop, beside its running loss."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..adapters import Adapter
from ..evaluation.results import EvaluationResult, write_scores
from ..models.lora import check_gradients

logger = logging.getLogger(__name__)

COST_SAMPLE = 4


class EpochOrder(TrainerCallback):
    """Tells the sampler its epoch by itself: accelerate does not reach it behind a resumed, sharded batch sampler."""

    def __init__(self) -> None:
        self.source: Any = None

    def on_epoch_begin(self, args, state, control, **kwargs):
        if self.source is not None:
            self.source.set_epoch(int(state.epoch or 0))


class AfterSave(TrainerCallback):
    """Calls a function once a checkpoint is complete: to be added behind what writes into checkpoints."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_save(self, args, state, control, **kwargs):
        self.call()


class CheckUnusedLora(TrainerCallback):
    """After the first step of a run with a PEFT adapter: names adapted layers that take no part in the loss.

    They cost memory for nothing, and under DistributedDataParallel without `ddp_find_unused_parameters` they would
    stop the second step with a message about reduction that names none of them.
    """

    def __init__(self) -> None:
        self.checked = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.checked = False

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        # With DeepSpeed and FSDP gradients are out of sight.
        if not self.checked and not args.deepspeed and not args.fsdp:
            check_gradients(model, strict=args.world_size > 1 and args.ddp_find_unused_parameters is False)
        self.checked = True


def chart_cost(adapter: Adapter, records: Iterable[Mapping[str, Any]]) -> str | None:
    """What a chart costs, as a line to print: how many tokens (or positions of the encoder) the first charts of
    `records` take in the model. `None` where the family does not tell."""
    rows = list(islice(iter(records), COST_SAMPLE))
    counts = adapter.image_tokens(adapter.encode(rows, with_answers=False)) if rows else None
    if not counts:
        return None
    low, high = min(counts), max(counts)
    number = low if low == high else f"{low} to {high}"
    return f"a chart takes {number} image tokens (the first {len(counts)} records); set_image_cost can change that"


class KeepScores(TrainerCallback):
    """Stores the scores of a run in its checkpoints: to be added before what marks a checkpoint as complete."""

    def __init__(self, scores: Callable[[], Mapping[int, EvaluationResult]]) -> None:
        self.scores = scores

    def on_save(self, args, state, control, **kwargs):
        if args.should_save:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            write_scores(self.scores(), folder, args.output_dir)


class BestCheckpoint(TrainerCallback):
    """Finds the best checkpoint of a resumed run again whose `output_dir` was moved: upstream looks where it was."""

    def on_train_begin(self, args, state, control, **kwargs):
        if state.best_model_checkpoint is None and state.best_global_step:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
            if folder.is_dir():
                state.best_model_checkpoint = str(folder)
                logger.info("the best checkpoint is %s", folder)
