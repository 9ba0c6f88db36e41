"""Evaluation of a trainer by generated answers: every row answered as alone, and scored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, TrainOutput

from ..adapters import Adapter, base_model
from ..data.splitting import stratified_subset
from ..evaluation.answer_queue import AnswerQueue
from ..evaluation.results import EvaluationResult, part_of, read_scores
from ..evaluation.scoring import each_row_once, score_rows
from ..metrics.predictions import write_predictions
from .callbacks import BestCheckpoint, KeepScores
from .losses import sum_by_row

SHOWN = 3
"""Rows of an evaluation that are kept to be shown on the model's card."""


class AnswerEvaluation(Seq2SeqTrainer):
    """The part of `ChartQATrainer` that evaluates; it reads `adapter` and `_token_losses` of the whole."""

    adapter: Adapter

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.scores: dict[int, EvaluationResult] = {}
        """Of the weights of each step the last evaluation. Checkpoints keep them."""
        # Now, before what marks a checkpoint as complete is added.
        self.add_callback(KeepScores(lambda: self.scores))
        self.add_callback(BestCheckpoint())
        self.best_weights_step: int | None = None
        """The step of the weights that training went back to at its end (`load_best_model_at_end`)."""
        self._answered: list[dict[str, Any]] = []
        self._queue: AnswerQueue | None = None
        """While an evaluation is running: its rows that wait for their answers."""
        self._scored: list[dict[str, Any]] = []
        self._row_numbers: list[int] | None = None
        """Of a subset that is being evaluated: the row of the whole data set for each of its rows."""
        self._generation_settings: dict[str, Any] = {}

    @property
    def weights_step(self) -> int:
        """The optimizer step that the weights in memory are of."""
        return self.state.global_step if self.best_weights_step is None else self.best_weights_step

    def decoding(self) -> dict[str, Any]:
        """The settings of the next generation: the arguments' and those of this evaluation."""
        return {
            "max_new_tokens": self.args.generation_max_new_tokens,
            "num_beams": self.args.generation_num_beams or 1,
            **self._generation_settings,
        }

    def _evaluated(self, records: Any) -> Any:
        """Records to evaluate: those given, those of that name, or those of the trainer."""
        if isinstance(records, str):
            return self.eval_dataset[records]
        return self.eval_dataset if records is None else records

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
        whole = records
        if self.is_in_train and self.args.eval_subset is not None:
            size = self.args.eval_subset
            numbered = Dataset.from_dict({"source": records["source"], "number": range(len(records))})
            chosen = stratified_subset(numbered, int(size) if size >= 1 else size, seed=self.args.seed)
            self._row_numbers = list(chosen["number"])
            records = records.select(self._row_numbers)
        self._generation_settings = generation_settings
        try:
            metrics = super().evaluate(records, ignore_keys, metric_key_prefix)
        finally:
            self._row_numbers = None
        if f"{metric_key_prefix}_relaxed_accuracy" in metrics:
            file = self._predictions_file(metric_key_prefix)
            self.scores[self.weights_step] = EvaluationResult(
                step=self.weights_step,
                prefix=f"{metric_key_prefix}_",
                metrics=metrics,
                decoding=self.decoding(),
                rows=self._scored[:SHOWN],
                predictions=file if file.is_file() else None,
                records=whole,
                part=part_of(whole, self.eval_dataset),
            )
        return metrics

    def train(self, resume_from_checkpoint: str | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`; `scores` become those of the run that is resumed, or empty."""
        folder = resume_from_checkpoint
        self.scores = {} if folder is None else read_scores(folder, self.args.output_dir, self.eval_dataset)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _predictions_file(self, prefix: str) -> Path:
        return Path(self.args.output_dir) / "predictions" / f"{prefix}-step-{self.state.global_step}.jsonl"

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
        self._queue = AnswerQueue(
            self.adapter,
            rows_per_call=self.args.eval_batch_size,
            window=self.args.eval_window,
            **self.decoding(),
        )
        try:
            output = super().evaluation_loop(dataloader, description, None, ignore_keys, metric_key_prefix)
            with self.accelerator.autocast():
                for row, answer in self._queue.flush():
                    row["prediction"] = answer
        finally:
            self._queue = None
        gathered = gather_object(self._answered) if self.accelerator.num_processes > 1 else self._answered
        rows, self._answered = each_row_once(gathered), []
        if self._row_numbers is not None:
            rows = [{**row, "index": self._row_numbers[row["index"]]} for row in rows]
        scores = score_rows(rows, variant=self.args.metric_variant, compute_metrics=self.compute_metrics)
        prefix = f"{metric_key_prefix}_"
        metrics = output.metrics | {key if key.startswith(prefix) else prefix + key: scores[key] for key in scores}
        if self.args.write_predictions and self.is_world_process_zero() and rows and "correct" in rows[0]:
            write_predictions(rows, self._predictions_file(metric_key_prefix))
        self._scored = rows
        return EvalLoopOutput(
            predictions=np.array([row.get("prediction") for row in rows], dtype=object),
            label_ids=np.array([row["answer"] for row in rows], dtype=object),
            metrics=metrics,
            num_samples=len(rows),
        )

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **generation_settings: Any,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """(loss, answer ids, labels) of one batch: the mean loss per answer token (0-d, nats), int64 ids of the
        answers alone (rows, max_new_tokens), the batch's labels. Charts are encoded once for loss and generation.
        Within an evaluation all three are `None`: rows are collected, and some of them wait for their answers."""
        inputs = send_to_device(inputs, self.args.device)
        labels, loss, ids = inputs.get("labels"), None, None
        with torch.no_grad(), self.accelerator.autocast():
            inner = base_model(model)
            encoder_outputs = self.adapter.encode_charts(inner, inputs)
            if labels is not None:
                losses, _ = self._token_losses(inner, inputs, encoder_outputs)
                loss = losses.sum() / max(losses.numel(), 1)
            if self._queue is None:
                if self.args.predict_with_generate and not prediction_loss_only:
                    settings = {**self.decoding(), **generation_settings}
                    ids = self.adapter.generate(inner, inputs, encoder_outputs=encoder_outputs, **settings)
                return loss, ids, labels
            rows = [dict(row) for row in inputs["rows"]]
            if labels is not None:
                mask = labels != -100
                for row, loss_sum, tokens in zip(
                    rows, sum_by_row(losses, mask).tolist(), mask.sum(dim=1).tolist(), strict=True
                ):
                    row["loss_sum"], row["tokens"] = loss_sum, tokens
            self._answered.extend(rows)
            if self.args.predict_with_generate:
                for row, answer in self._queue.add(inner, inputs, rows, encoder_outputs):
                    row["prediction"] = answer
        return None, None, None
