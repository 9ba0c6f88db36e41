"""`ChartQATrainer`: a `Seq2SeqTrainer` with exact losses, that evaluates by generated answers and scores each once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import set_seed
from transformers.trainer_utils import TrainOutput

from ..adapters import Adapter, adapter_for, base_model
from ..adapters.pixels import makes_raw_charts, unchanged
from ..adapters.registry import SETTINGS_KEY
from ..batching.collator import ChartQACollator
from ..batching.loader import chart_loader, has_answers
from ..models.activation_checkpointing import checkpoint_blocks
from ..models.load import load_checkpoint
from ..models.lora import add_peft
from ..models.saving import check_saveable
from ..models.swin import chunk_swin_blocks
from .arguments import ChartQATrainingArguments
from .callbacks import AfterSave, CheckUnusedLora, EpochOrder, chart_cost
from .checks import check_trainable, check_trainer, packs_questions
from .evaluating import AnswerEvaluation
from .losses import answer_logits_only, token_losses
from .progress import SHORT
from .publishing import ModelPublishing
from .running_loss import RunningLoss, last_checkpoint

logger = logging.getLogger(__name__)

__all__ = ["ChartQATrainer"]


class ChartQATrainer(AnswerEvaluation, ModelPublishing):
    """Trains and evaluates a chart-reading model on records with `image`, `question`, `answer` (see `load_chartqa`).

    What differs from `Seq2SeqTrainer`, each because upstream is silently wrong for these models:

    - the loss is the sum over the answer tokens of a whole optimizer step on all ranks, divided by their number
      (huggingface/transformers#47688); `loss`, `train_loss` and `eval_loss` are reported to the token;
    - evaluations generate with the question in the prompt, in batches that answer as one row alone would;
    - every row is scored once on any number of ranks; `predictions/<prefix>-step-<n>.jsonl` holds each answer;
    - questions on one chart share a batch and one encoder pass (`group_by_chart`).

    Args:
        model: a loaded model, or a path or Hub id for `load_checkpoint`, which brings processor and adapter along.
        args: `ChartQATrainingArguments`.
        train_dataset: records for training; a `datasets.Dataset`, a list, or a stream (then `max_steps` is needed).
        eval_dataset: records for evaluation, or a dict of them: metrics are then `eval_<name>_...`.
        processing_class: the model's processor; saved with every checkpoint.
        adapter: how records become tensors; `None` takes `adapter_for(model, processing_class)`.
        peft_config: a PEFT configuration, such as `default_lora_config(model)`: only its adapter is trained and saved.
            `load_checkpoint(folder, merge=True)` later merges it into its base model.
        kwargs: `callbacks`, `optimizers`, `compute_metrics` and whatever else `Seq2SeqTrainer` takes.
            `compute_metrics` is called beside relaxed accuracy, with answers and references as lists of strings.

    Raises:
        ValueError: an argument that the trainer would have to ignore, or a model that cannot be saved.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module | str | Path,
        args: ChartQATrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        adapter: Adapter | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ):
        args = ChartQATrainingArguments(output_dir="chartqa_out") if args is None else args
        check_trainer(args, eval_dataset, kwargs)
        if isinstance(model, (str, Path)):
            model, loaded_processor, loaded_adapter = load_checkpoint(model, trainable=True, token=args.hub_token)
            if peft_config is None and not hasattr(model, "peft_config"):
                model.float()  # in 16 bits most updates would be rounded away; mixed precision does the rest
            if processing_class is None and adapter is None:
                processing_class, adapter = loaded_processor, loaded_adapter
        if processing_class is None and adapter is not None:
            processing_class = adapter.processor
        if processing_class is None:
            raise ValueError(
                "a loaded model needs its processor: pass processing_class=AutoProcessor.from_pretrained(...)"
            )
        self.adapter = adapter if adapter is not None else adapter_for(model, processing_class)
        setattr(base_model(model).config, SETTINGS_KEY, self.adapter.settings())
        if peft_config is not None:
            set_seed(args.seed)  # as the Trainer does, too late for weights that are drawn here
            model = add_peft(model, peft_config)
        adapted = hasattr(model, "peft_config")
        check_saveable(model)
        self.adapter.attach(model)
        if args.device.type == "cpu":
            chunk_swin_blocks(base_model(model), args.chunk_encoder)
        if args.activation_checkpointing:
            checkpoint_blocks(base_model(model))
        if args.ddp_find_unused_parameters is None:
            # Upstream says no with gradient checkpointing, for whose reentrant kind that was: LLaVA would stop.
            args.ddp_find_unused_parameters = not (self.adapter.uses_all_parameters or adapted)
        self._collators = self._make_collators(args, model)
        super().__init__(
            model=model,
            args=args,
            data_collator=self._collators["train"],
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        # Trainer then counts the answer tokens of a step, on all ranks, and hands the number to compute_loss.
        self.model_accepts_loss_kwargs = True
        self.running_loss = RunningLoss(self.accelerator)
        self.epoch_order = EpochOrder()
        after_save = AfterSave(self.push_checkpoint_saved)
        watching = [CheckUnusedLora()] if adapted else []
        for callback in (self.running_loss, after_save, self.epoch_order, *watching):
            self.add_callback(callback)
        for callback in [callback for callback in self.callback_handler.callbacks if type(callback) in SHORT]:
            self.remove_callback(callback)
            self.add_callback(SHORT[type(callback)])
        logger.info("precision: %s; adapter: %s; prompt: %s", args.precision, self.adapter.name, self.adapter.prompt)

    def _make_collators(self, args: ChartQATrainingArguments, model: nn.Module) -> dict[str, ChartQACollator]:
        group = self.adapter.groups_charts if args.group_by_chart is None else args.group_by_chart
        can_pad = getattr(self.adapter, "pads_charts", False)
        pad = can_pad if args.random_padding is None else args.random_padding
        if pad and not can_pad:
            raise ValueError(
                "random_padding=True needs a processor that pads charts to a fixed canvas: leave it unset"
            )
        # A subclass with a loss of its own may hand the batch to the model as it is.
        raw = makes_raw_charts(self.adapter) and unchanged(self, ("compute_loss", "prediction_step"))
        if not raw and args.chart_cache not in ("auto", "off"):
            raise ValueError(
                f"chart_cache={args.chart_cache!r} would not be used: it needs an image processor that resizes, pads, "
                "rescales and normalizes (UniChart, Donut), and the trainer's own loss. Leave it unset"
            )
        cache = self.adapter.open_cache(args.chart_cache, args.chart_cache_gb) if raw else None
        make = partial(ChartQACollator, self.adapter, group_by_chart=group, raw_charts=raw, chart_cache=cache)
        return {
            "train": make(
                random_padding="seeded" if pad else None,
                seed=args.seed,
                keep_rows=logger.isEnabledFor(logging.DEBUG),
                pack_questions=packs_questions(self, args, model, group),
            ),
            "eval": make(keep_rows=True),
            "test": make(keep_rows=True, with_answers=False),
        }

    # ------------------------------------------------------------------ data
    def get_train_dataloader(self) -> DataLoader:
        if self.train_dataset is None:
            raise ValueError("training needs a train_dataset")
        loader = self._loader(self.train_dataset, self._collators["train"], training=True)
        self.epoch_order.source = loader.sampler if hasattr(loader.sampler, "set_epoch") else loader.dataset
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        records = self._evaluated(eval_dataset)
        if records is None:
            raise ValueError("evaluation needs an eval_dataset")
        collate = self._collators["eval" if has_answers(records) else "test"]
        return self.accelerator.prepare(self._loader(records, collate, training=False))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        return self.get_eval_dataloader(test_dataset)

    def _loader(self, records: Any, collate: ChartQACollator, *, training: bool) -> DataLoader:
        args = self.args
        return chart_loader(
            records,
            collate,
            batch_size=args.train_batch_size if training else args.eval_batch_size,
            accumulation=args.gradient_accumulation_steps if training else 1,
            num_replicas=self.accelerator.num_processes,
            group_by_chart=collate.group_by_chart,
            shuffle=training and args.train_sampling_strategy == "random",
            drop_last=training and args.dataloader_drop_last,
            seed=args.seed if args.data_seed is None else args.data_seed,
            stored_images=collate.raw_charts,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            persistent_workers=training and args.dataloader_persistent_workers,
        )

    # ------------------------------------------------------------------ loss
    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Cross-entropy of the answer tokens in nats, summed and divided by `num_items_in_batch`, the tokens of the
        whole optimizer step on all ranks (by those of this batch where it is not given). Label smoothing is applied at
        answer tokens. The outputs hold the logits of answer tokens alone, shape (answer tokens, vocabulary)."""
        losses, outputs = self._token_losses(model, inputs)
        loss_sum, tokens = losses.sum(), torch.tensor(losses.numel(), device=losses.device)
        if model.training:
            self.running_loss.add(loss_sum, tokens)
            if logger.isEnabledFor(logging.DEBUG) and "rows" in inputs:
                rows = [row["index"] for row in inputs["rows"]]
                logger.debug("step %d rank %d rows %s", self.state.global_step, self.args.process_index, rows)
        if num_items_in_batch is None:
            loss = loss_sum / tokens.clamp(min=1)
        else:
            # DDP averages the gradients of the ranks: each rank's share is scaled up by their number first.
            divisor = torch.as_tensor(num_items_in_batch, device=losses.device).clamp(min=1)
            loss = loss_sum / divisor * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _token_losses(
        self, model: nn.Module, inputs: Mapping[str, Any], encoder_outputs: Any = None
    ) -> tuple[torch.Tensor, Any]:
        """The loss of every answer token, in the order of the rows, and the outputs of the model."""
        labels = inputs["labels"]
        mask = self.adapter.label_mask(labels)
        arguments = self.adapter.model_inputs(inputs, encoder_outputs=encoder_outputs)
        if self.args.torch_compile:
            # A hook that comes and goes would make the compiled model compile again.
            outputs = model(**arguments)
            outputs["logits"] = outputs["logits"][mask]
        else:
            with answer_logits_only(base_model(model), mask):
                outputs = model(**arguments)
        return token_losses(outputs["logits"], labels[labels != -100], self.args.label_smoothing_factor), outputs

    # ------------------------------------------------------------------ training
    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`; `resume_from_checkpoint=True` takes the newest checkpoint that is complete."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"no complete checkpoint in {self.args.output_dir}: start without resuming")
        check_trainable(self.model)
        if self.train_dataset is not None and self.is_world_process_zero():
            tell = logger.info if self.args.disable_tqdm else print
            cost = chart_cost(self.adapter, self.train_dataset)
            tell(cost or "what a chart takes in the model is not known for this family")
        if resume_from_checkpoint:
            self.running_loss.restore(resume_from_checkpoint)
        else:
            self.running_loss.reset()
        self.best_weights_step = None
        output = super().train(resume_from_checkpoint or None, *args, **kwargs)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self.best_weights_step = self.state.best_global_step
        return output._replace(training_loss=output.metrics["train_loss"])

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        # (epochs, batches of the epoch) that are done: upstream takes any stream for one of max_steps steps.
        done = super()._init_training_state(*args, **kwargs)
        place = self.running_loss.epoch, self.running_loss.batches
        return done if hasattr(self.train_dataset, "__len__") or not self.state.global_step else place

    def _run_epoch(self, **kwargs: Any) -> None:
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**kwargs)
        else:  # a finished run was resumed: upstream would train one step more
            self.control.should_training_stop = True

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.is_in_train and "loss" in logs:
            logs["loss"] = self.running_loss.since_last_log()
        if "train_loss" in logs:
            logs["train_loss"] = self.running_loss.since_start()
        super().log(logs, start_time)
