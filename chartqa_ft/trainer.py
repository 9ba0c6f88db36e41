"""`ChartQATrainer`: a `Seq2SeqTrainer` with exact losses, that evaluates by generated answers and scores each once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, set_seed
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, TrainOutput

from . import compat, hub
from .adapters import SETTINGS_KEY, Adapter, adapter_for, base_model
from .callbacks import AdaptedWeights, EpochOrder, chart_cost
from .checks import check_trainable, check_trainer
from .collator import ChartQACollator
from .data import stratified_subset
from .loaders import chart_loader, has_answers
from .lora import add_adapter
from .losses import answer_logits_only, sum_by_row, token_losses
from .predictions import write_predictions
from .progress import SHORT
from .running_loss import RunningLoss, last_checkpoint
from .scoring import each_row_once, score_rows
from .training_args import ChartQATrainingArguments

logger = logging.getLogger(__name__)

__all__ = ["ChartQATrainer"]


class ChartQATrainer(Seq2SeqTrainer):
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
            model, loaded_processor, loaded_adapter = hub.load_checkpoint(model, trainable=True)
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
            model = add_adapter(model, peft_config)
        adapted = hasattr(model, "peft_config")
        hub.check_saveable(model)
        self.adapter.attach(model)
        if args.ddp_find_unused_parameters is None:
            # Upstream says no with gradient checkpointing, for whose reentrant kind that was: LLaVA would stop.
            args.ddp_find_unused_parameters = not (self.adapter.uses_all_parameters or adapted)
        self._collators = self._make_collators(args)
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
        for callback in (self.running_loss, self.epoch_order, *([AdaptedWeights()] if adapted else [])):
            self.add_callback(callback)
        for callback in [callback for callback in self.callback_handler.callbacks if type(callback) in SHORT]:
            self.remove_callback(callback)
            self.add_callback(SHORT[type(callback)])
        self._answered: list[dict[str, Any]] = []
        self._row_numbers: list[int] | None = None
        """Of a subset that is being evaluated: the row of the whole data set for each of its rows."""
        self._generation_settings: dict[str, Any] = {}
        logger.info("precision: %s; adapter: %s; prompt: %s", args.precision, self.adapter.name, self.adapter.prompt)

    def _make_collators(self, args: ChartQATrainingArguments) -> dict[str, ChartQACollator]:
        group = self.adapter.groups_charts if args.group_by_chart is None else args.group_by_chart
        can_pad = getattr(self.adapter, "pads_charts", False)
        pad = can_pad if args.random_padding is None else args.random_padding
        if pad and not can_pad:
            raise ValueError(
                "random_padding=True needs a processor that pads charts to a fixed canvas: leave it unset"
            )
        return {
            "train": ChartQACollator(
                self.adapter,
                group_by_chart=group,
                random_padding="seeded" if pad else None,
                seed=args.seed,
                keep_rows=logger.isEnabledFor(logging.DEBUG),
            ),
            "eval": ChartQACollator(self.adapter, group_by_chart=group, keep_rows=True),
            "test": ChartQACollator(self.adapter, group_by_chart=group, keep_rows=True, with_answers=False),
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

    def _evaluated(self, records: Any) -> Any:
        """Records to evaluate: those given, those of that name, or those of the trainer."""
        if isinstance(records, str):
            return self.eval_dataset[records]
        return self.eval_dataset if records is None else records

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
        output = super().train(resume_from_checkpoint or None, *args, **kwargs)
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

    # ------------------------------------------------------------------ evaluation
    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **generation_settings: Any,
    ) -> dict[str, float]:
        """Answer and score a data set; returns the loss, the keys of `relaxed_accuracy` and the times, each prefixed.

        Evaluations that the training loop starts take `args.eval_subset`; others take the whole data set.

        Args:
            eval_dataset: records, the name of one in a dict of data sets, or a dict; `None`: those of the trainer.
            ignore_keys: unused; kept for the signature.
            metric_key_prefix: prefix of the metrics and of the predictions file.
            generation_settings: `num_beams`, `max_new_tokens` and others for this evaluation alone.
        """
        records = self._evaluated(eval_dataset)
        if isinstance(records, dict):
            metrics: dict[str, float] = {}
            for name, part in records.items():
                metrics.update(self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}", **generation_settings))
            return metrics
        if self.is_in_train and self.args.eval_subset is not None:
            size = self.args.eval_subset
            numbered = Dataset.from_dict({"source": records["source"], "number": range(len(records))})
            chosen = stratified_subset(numbered, int(size) if size >= 1 else size, seed=self.args.seed)
            self._row_numbers = list(chosen["number"])
            records = records.select(self._row_numbers)
        self._generation_settings = generation_settings
        try:
            return super().evaluate(records, ignore_keys, metric_key_prefix)
        finally:
            self._row_numbers = None

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        **generation_settings: Any,
    ) -> PredictionOutput:
        """Answer a data set, with or without answers of its own; `predictions` and `label_ids` are arrays of str."""
        self._generation_settings = generation_settings
        return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Upstream's loop drives `prediction_step`; rows are then gathered by their number, each counted once."""
        self._answered = []
        self._collecting = True
        try:
            output = super().evaluation_loop(dataloader, description, None, ignore_keys, metric_key_prefix)
        finally:
            self._collecting = False
        gathered = gather_object(self._answered) if self.accelerator.num_processes > 1 else self._answered
        rows, self._answered = each_row_once(gathered), []
        if self._row_numbers is not None:
            rows = [{**row, "index": self._row_numbers[row["index"]]} for row in rows]
        scores = score_rows(rows, variant=self.args.metric_variant, compute_metrics=self.compute_metrics)
        prefix = f"{metric_key_prefix}_"
        metrics = output.metrics | {key if key.startswith(prefix) else prefix + key: scores[key] for key in scores}
        if self.args.write_predictions and self.is_world_process_zero() and rows and "correct" in rows[0]:
            name = f"{metric_key_prefix}-step-{self.state.global_step}.jsonl"
            write_predictions(rows, Path(self.args.output_dir) / "predictions" / name)
        return EvalLoopOutput(
            predictions=np.array([row.get("prediction") for row in rows], dtype=object),
            label_ids=np.array([row["answer"] for row in rows], dtype=object),
            metrics=metrics,
            num_samples=len(rows),
        )

    _collecting = False

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **generation_settings: Any,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """(loss, answer ids, labels) of one batch: the mean loss per answer token (0-d, nats), int64 ids of the
        answers alone (rows, max_new_tokens), the batch's labels. Charts are encoded once for loss and generation."""
        inputs = send_to_device(inputs, self.args.device)
        labels, loss, ids = inputs.get("labels"), None, None
        generate = self.args.predict_with_generate and not (prediction_loss_only and not self._collecting)
        with torch.no_grad(), self.accelerator.autocast():
            inner = base_model(model)
            encoder_outputs = self.adapter.encode_charts(inner, inputs)
            if labels is not None:
                losses, _ = self._token_losses(inner, inputs, encoder_outputs)
                loss = losses.sum() / max(losses.numel(), 1)
            if generate:
                settings = {
                    "max_new_tokens": self.args.generation_max_new_tokens,
                    "num_beams": self.args.generation_num_beams or 1,
                    **self._generation_settings,
                    **generation_settings,
                }
                ids = self.adapter.generate(inner, inputs, encoder_outputs=encoder_outputs, **settings)
        if not self._collecting:
            return loss, ids, labels
        rows = [dict(row) for row in inputs["rows"]]
        if ids is not None:
            for row, answer in zip(rows, self.adapter.decode(ids), strict=True):
                row["prediction"] = answer
        if labels is not None:
            mask = labels != -100
            for row, loss_sum, tokens in zip(
                rows, sum_by_row(losses, mask).tolist(), mask.sum(dim=1).tolist(), strict=True
            ):
                row["loss_sum"], row["tokens"] = loss_sum, tokens
        self._answered.extend(rows)
        return None, None, None

    # ------------------------------------------------------------------ saving
    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Tied weights are stored once; upstream calls that a missing key, and nobody can act on the warning.
        tied = getattr(self.model, "all_tied_weights_keys", {})
        missing = [key for key in load_result.missing_keys if key not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save model, processor, what the adapter needs to answer the same way, and the arguments as JSON.

        Upstream's `training_args.bin` is a pickle that holds `hub_token` in plain text: it is not kept.
        """
        folder = Path(output_dir or self.args.output_dir)
        super().save_model(str(folder), _internal_call=True)
        if self.args.should_save:
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            self.args.save_json(folder / "training_args.json")
            legacy = compat.is_legacy(base_model(self.model).config)
            hub.save_settings(self.adapter, folder, compat=legacy, metric_variant=self.args.metric_variant)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)
