"""`Evaluator`: evaluation by generated answers, in which every row is answered as if alone and scored once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, send_to_device
from torch import nn
from transformers.trainer_utils import EvalLoopOutput

from ..adapters import Adapter
from ..adapters.lockstep import lockstep_for
from ..adapters.tasks.task import QA_NAME
from ..adapters.text import has_answer
from ..batching.records import column, hinted_chart_ids
from ..data.chart_subset import chart_subset
from ..evaluation.answer_queue import AnswerQueue
from ..evaluation.results import EvaluationResult, is_own, part_of, read_scores
from ..evaluation.row_table import RowTable, TableRow
from ..evaluation.scoring import Rows, main_metrics, score_rows
from ..evaluation.unfinished import UnfinishedAnswers, remove_unfinished, unfinished_path
from ..metrics.extraction import extract_name
from ..metrics.predictions import write_predictions
from ..printable import printable
from ..resources import naming_a_full_disk
from .arguments import ChartQATrainingArguments, as_dict
from .checks.metric_function import MetricsError, checked_metrics
from .losses import AnswerLoss, sum_by_row
from .signals import EvaluationStopped

SHOWN = 3
"""Number of rows of an evaluation that are kept for the model card."""


class Evaluator:
    """Answers and scores the rows of evaluations, and keeps the results of each step.

    The trainer runs upstream's evaluation loop, which calls `step` for every batch. Within `collecting`, `step`
    returns nothing: rows are collected here, and some wait until others with prompts of the same length have come.
    `scored` then gathers the rows of all ranks, counts each once and computes the metrics.

    Args:
        adapter: the adapter of the model's family.
        args: the arguments of the trainer, which are read anew in every evaluation.
        accelerator: the accelerator of the trainer.
        loss: the loss of each answer token.
        settings: generation settings of every evaluation, in addition to those of the arguments.
    """

    def __init__(
        self,
        adapter: Adapter,
        args: ChartQATrainingArguments,
        accelerator: Accelerator,
        loss: AnswerLoss,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.adapter, self.args, self.accelerator, self.loss = adapter, args, accelerator, loss
        self.results: dict[int, EvaluationResult] = {}
        """Step of the weights -> the last evaluation of these weights."""
        self.chosen = dict(settings or {})
        """Generation settings of every evaluation: those of `args.generation_config`."""
        self.settings: dict[str, Any] = {}
        """Generation settings of the current evaluation, which take precedence."""
        self.rows = RowTable()
        """The rows of the evaluation loop that is running, or of one that failed."""
        self.records: Any = None
        """The records of the current evaluation, from which `subset` chose, or of the last one."""
        self.kept = ""
        """A sentence that says where the answers of a failed evaluation are."""
        self._queue: AnswerQueue | None = None
        self._so_far: UnfinishedAnswers | None = None
        self._scored = RowTable()
        self._is_used = False
        self._row_numbers: list[int] | None = None

    def decoding_of_tasks(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each task that has its own. Those of the current evaluation precede them."""
        own = as_dict(self.args.task_max_new_tokens) or {}
        lengths = {name: own.get(name, self.adapter.max_new_tokens_of(name)) for name in self.adapter.known_tasks()}
        return {name: {"max_new_tokens": n, **self.settings} for name, n in lengths.items() if n is not None}

    def decoding(self) -> dict[str, Any]:
        """Return the settings of the next generation: those of the arguments and of the current evaluation."""
        return {
            "max_new_tokens": self.args.generation_max_new_tokens,
            "num_beams": self.args.generation_num_beams or 1,
            **self.chosen,
            **self.settings,
        }

    @property
    def answered(self) -> list[dict[str, Any]]:
        """The rows of the last evaluation, with question, answer, prediction and verdict.

        Empty while an evaluation is running, and after one that failed.
        """
        return [dict(row) for row in self.table]

    @property
    def table(self) -> RowTable:
        """The same rows in a table, which takes less memory."""
        return self._scored if self._scored and "correct" in self._scored[0] else RowTable()

    @contextmanager
    def using(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Use further generation settings within this context, which is that of an evaluation.

        A callback may evaluate within an evaluation: the outer one then goes on with its own records and rows.
        """
        nested, self._is_used = self._is_used, True
        before, self.settings = self.settings, dict(settings)
        allowed = settings.get("prefix_allowed_tokens_fn")
        if allowed is not None:  # gets a row of the table otherwise
            self.settings["prefix_allowed_tokens_fn"] = lambda row, ids: allowed(row["index"], ids)
        records, scored, numbers = self.records, self._scored, self._row_numbers
        self._row_numbers = None
        try:
            yield
        finally:
            self.settings, self._is_used, self._row_numbers = before, nested, numbers
            if nested:
                self.records, self._scored = records, scored

    def restore(self, checkpoint: str | Path | None, eval_dataset: Any) -> None:
        """Take over the results stored in a checkpoint; `None` forgets all results."""
        self.results = {} if checkpoint is None else read_scores(checkpoint, self.args.output_dir, eval_dataset)

    def predictions_file(self, prefix: str, step: int, own_data: Any = None) -> Path:
        """Return the file for the answers of an evaluation.

        Args:
            prefix: prefix of the metrics, without the underscore.
            step: the optimizer step of the weights.
            own_data: the evaluation data of a training, whose answers those to other records do not replace.
        """
        others = own_data is not None and not is_own(self.records, own_data)
        kind = ".others" if others and prefix.startswith("eval") else ""
        return Path(self.args.output_dir) / "predictions" / f"{prefix}-step-{step}{kind}.jsonl"

    @contextmanager
    def subset(self, records: Any, *, training: bool, numbers: list[int] | None = None) -> Iterator[Any]:
        """Choose the records of an evaluation: `args.eval_subset` of them during training, else all of them.

        The subset has whole charts: see `chart_subset`.

        Args:
            records: the records of the evaluation.
            training: whether a training evaluates.
            numbers: the numbers of those that can be evaluated; `None` for all of them.
        """
        self.records = records
        if training and self.args.eval_subset is not None:
            whole = records if numbers is None else records.select(numbers)
            size = self.args.eval_subset
            sources = ["unknown" if source is None else source for source in column(whole, "source")]
            number = int(size) if size >= 1 else max(1, round(size * len(sources)))
            chosen = chart_subset(sources, hinted_chart_ids(whole), number, seed=self.args.seed)
            numbers = chosen if numbers is None else [numbers[row] for row in chosen]
        if numbers is None:
            yield records
            return
        self._row_numbers = numbers
        try:
            yield records.select(numbers) if hasattr(records, "select") else [records[row] for row in numbers]
        finally:
            self._row_numbers = None

    @contextmanager
    def beside_training(self, training: bool, control: Any = None) -> Iterator[None]:
        """Leave the random state of a training as it is, so that its weights do not depend on its evaluations.

        A data loader draws a seed, and sampling draws tokens. A run that was stopped in an evaluation, or before one,
        then goes on to the same weights as an unbroken one.

        Args:
            training: whether a training evaluates.
            control: the control of the trainer if a callback began the evaluation, which the callback handler takes
                for that of the training loop: the log and the evaluation that are due at this step stay due.
        """
        device = self.args.device
        due = (False, False) if control is None else (control.should_evaluate, control.should_log)
        with torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=training):
            yield
        if control is not None and training:
            control.should_evaluate, control.should_log = due

    @contextmanager
    def collecting(self, predictions: Path | None = None) -> Iterator[None]:
        """Collect the rows of the evaluation loop that runs in this context, and answer all of them by its end.

        Args:
            predictions: the predictions file of the evaluation. Answers are written beside it as they are generated
                (see `UnfinishedAnswers`), and if the evaluation fails, once more with their verdicts. `None` writes
                none.
        """
        self.kept = ""
        self.rows, self._scored = RowTable(), RowTable()  # the last rows would double the memory use
        self._queue = AnswerQueue(
            self.adapter,
            rows_per_call=self.args.eval_batch_size,
            window=self.args.eval_window,
            of_tasks=self.decoding_of_tasks(),
            **self.decoding(),
        )
        if predictions is not None:
            rank, processes = self.accelerator.process_index, self.accelerator.num_processes
            remove_unfinished(predictions, rank, processes)  # of an earlier evaluation
            self._so_far = UnfinishedAnswers(predictions, rank)
        try:
            with self._keeping_answers(predictions):
                yield
                with self.accelerator.autocast():
                    self._take(self._queue.flush())
        finally:
            self._queue = None
            self._close_file()

    @contextmanager
    def _keeping_answers(self, predictions: Path | None) -> Iterator[None]:
        """If an error is raised within this context, write the answers so far and add a note about them to it."""
        try:
            yield
        except EvaluationStopped:
            raise  # for a signal: there is little time
        except Exception as error:
            self._close_file()
            if predictions is not None:
                self.kept = self._save_unfinished(predictions)
                if self.kept:
                    error.add_note(printable(self.kept.rstrip()))
            raise

    def _close_file(self) -> None:
        if self._so_far is not None:
            self._so_far.close()
            self._so_far = None

    def _take(self, answers: Iterable[tuple[TableRow, str]]) -> None:
        """Take the answers of some rows, and write them to disk."""
        for row, answer in answers:
            row["prediction"] = answer
            if self._so_far is not None and row["index"] >= 0:  # no filler
                self._so_far.add({**row, "index": self._number_of(row)})

    def step(
        self, model: nn.Module, inputs: Mapping[str, Any], *, loss_only: bool, settings: Mapping[str, Any]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Compute the loss and the answers of one batch; each chart is encoded once for both.

        Args:
            model: the unwrapped model.
            inputs: a batch of the collator.
            loss_only: whether to leave out the answers, outside of an evaluation loop.
            settings: further generation settings, outside of an evaluation loop.

        Returns:
            Loss, answer ids and labels as `ChartQATrainer.prediction_step` returns them.
        """
        inputs = send_to_device(inputs, self.args.device)
        labels, loss, ids = inputs.get("labels"), None, None
        with torch.no_grad(), self.accelerator.autocast():
            encoder_outputs = self.adapter.encode_charts(model, inputs)
            if labels is not None:
                losses, _ = self.loss(model, inputs, encoder_outputs)
                loss = losses.sum() / max(losses.numel(), 1)
            if self._queue is None:
                if self.args.predict_with_generate and not loss_only:
                    ids = self._answer_ids(model, inputs, encoder_outputs, {**self._decoding_of(inputs), **settings})
                return loss, ids, labels
            if "rows" not in inputs:
                raise ValueError(
                    "the batch of an evaluation lacks its rows: let get_eval_dataloader return that of "
                    "super().get_eval_dataloader(...)"
                )
            rows = self.rows.extend(inputs["rows"])
            if labels is not None:
                mask = labels != -100
                for row, loss_sum, tokens in zip(
                    rows, sum_by_row(losses, mask).tolist(), mask.sum(dim=1).tolist(), strict=True
                ):
                    row["loss_sum"], row["tokens"] = loss_sum, tokens
            if self.args.predict_with_generate:
                tasks = [row.get("task") for row in rows]
                self._take(self._queue.add(model, inputs, rows, encoder_outputs, tasks))
        return None, None, None

    def _decoding_of(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings for one batch outside of a loop: with the longest answers of its tasks."""
        decoding, own = self.decoding(), self.decoding_of_tasks()
        ways = [{**decoding, **own.get(row.get("task", QA_NAME), {})} for row in inputs.get("rows", ())]
        return max([*ways, decoding][: max(len(ways), 1)], key=lambda way: way["max_new_tokens"])

    def _answer_ids(
        self, model: nn.Module, inputs: Mapping[str, Any], encoder_outputs: Any, decoding: Mapping[str, Any]
    ) -> torch.LongTensor:
        """Return the answer ids of one batch. Ranks that share the weights of the model must call it together."""
        lockstep = lockstep_for(self.adapter, model, num_beams=decoding["num_beams"])
        if lockstep is None:
            return self.adapter.generate(model, inputs, encoder_outputs=encoder_outputs, **decoding)
        ids = lockstep.generate(inputs, encoder_outputs=encoder_outputs, **decoding)
        lockstep.fill_up()
        return ids

    def _save_unfinished(self, predictions: Path) -> str:
        """Write the answers of an evaluation that failed, and return a sentence about them; "" if there are none."""
        path = unfinished_path(predictions, self.accelerator.process_index)
        n = sum("prediction" in row and row["index"] >= 0 for row in self.rows)
        if not n:
            return ""
        try:
            rows = [dict(row) for row in self.rows.in_order() if "prediction" in row]
            self._number(rows)
            self._scores(rows, None)
            write_predictions(rows, path)
        except Exception as error:  # the error that ended the evaluation says more
            if path.exists():
                return f"The {n} answers so far are in {path}, without verdicts ({error}). "
            return f"The {n} answers so far could not be written ({error}). "
        return f"The {n} answers so far are in {path}. "

    def scored(
        self, output: EvalLoopOutput, prefix: str, *, compute_metrics: Callable | None, predictions: Path | None
    ) -> EvalLoopOutput:
        """Return the output of the evaluation loop with the rows of all ranks and their metrics.

        Args:
            output: what upstream's loop returned.
            prefix: prefix of the metrics, without the underscore.
            compute_metrics: further metrics of answers and references, as lists of strings.
            predictions: where the first process writes the answers; `None` writes none.

        Raises:
            MetricsError: `compute_metrics` failed or returned something else than numbers, or the answers cannot be
                scored. They are written, in the second case to a file that ends in `.unscored.jsonl`.
        """
        with self._keeping_answers(predictions):  # another process may have been killed
            rows, self.rows = self._of_all_ranks(self.rows).in_order(), RowTable()
        self._number(rows)
        scores, failure = self._scores(rows, compute_metrics)
        start = f"{prefix}_"
        metrics = output.metrics | {key if key.startswith(start) else start + key: scores[key] for key in scores}
        said = ""
        if predictions is not None and rows and "correct" in rows[0]:
            unscored = failure is not None and any(map(_lacks_verdict, rows))
            path = predictions.with_suffix(".unscored.jsonl") if unscored else predictions
            main = {"relaxed_accuracy", *main_metrics(rows, self.adapter.bound_task)}
            shown = ", ".join(f"{key} {metrics[key]:.4g}" for key in metrics if key.removeprefix(start) in main)
            self._write(rows, predictions, path, shown)
            said = f". The answers are in {path}"
        if failure is not None:
            raise MetricsError(f"{failure}{said}") from failure
        self._scored = rows
        return EvalLoopOutput(
            predictions=np.array([row.get("prediction") for row in rows], dtype=object),
            label_ids=np.array([row["answer"] for row in rows], dtype=object),
            metrics=metrics,
            num_samples=len(rows),
        )

    def _write(self, rows: RowTable, predictions: Path, path: Path, shown: str) -> None:
        """Write the answers of all ranks on the first one, then delete the answers so far on each.

        Args:
            rows: the answered rows.
            predictions: the predictions file of the evaluation.
            path: the file to write, another one if the answers could not be scored.
            shown: the main metrics as text.

        Raises:
            OSError: the file cannot be written. `rows` then stay, as `self.rows`.
        """
        written = False
        so_far = unfinished_path(predictions)
        message = (
            f"{path} could not be written. The evaluation is complete ({shown}), and trainer.evaluator.rows holds its "
            "rows: free some space, then write_predictions(trainer.evaluator.rows, path), or evaluate with "
            "write_predictions=False"
        )
        if so_far.exists():
            message += f". The answers without verdicts are in {so_far}"
        try:
            if self.accelerator.is_main_process:
                self.rows = rows  # until they are written
                with naming_a_full_disk(message):
                    write_predictions(rows, path)
                self.rows = RowTable()
                remove_unfinished(predictions)  # of all processes, while they wait
                written = True
        finally:
            if self.accelerator.num_processes > 1:
                written = broadcast_object_list([written])[0]
        if written and not self.accelerator.is_main_process:
            remove_unfinished(predictions, self.accelerator.process_index)  # on a disk of its own

    def _of_all_ranks(self, rows: RowTable) -> RowTable:
        if self.accelerator.num_processes == 1:
            return rows
        gathered = RowTable()
        for table in gather_object([rows]):
            gathered.extend(table)
        return gathered

    def _number(self, rows: Rows) -> None:
        """Number the rows of a subset as in the records that it was chosen from."""
        if self._row_numbers is not None:
            for row in rows:
                row["index"] = self._number_of(row)

    def _number_of(self, row: Mapping[str, Any]) -> int:
        """Return the number of a row in the records that the subset was chosen from, if there is one."""
        index = row["index"]
        return index if self._row_numbers is None else self._row_numbers[index]

    def _scores(self, rows: Rows, compute_metrics: Callable | None) -> tuple[dict[str, float], MetricsError | None]:
        """Return the metrics of the rows, and what is wrong with those of `compute_metrics` on any rank."""
        score = partial(
            score_rows,
            rows,
            variant=self.args.metric_variant,
            extract=self.args.metric_extract,
            interval=self.args.metric_interval,
            task_of=self.adapter.bound_task,
            weights=as_dict(self.args.task_weights),
        )
        failure = None
        try:
            scores = score(compute_metrics=checked_metrics(compute_metrics))
        except MetricsError as error:
            scores, failure = {}, error
        except Exception as error:  # of metric_extract or a task, which may be the user's
            failure = MetricsError(f"the answers cannot be scored ({type(error).__name__}: {error})")
            scores, failure.__cause__ = {}, error
        if compute_metrics is not None and self.accelerator.num_processes > 1:
            # All ranks go on or stop together, and decide about the best checkpoint and early stopping by the same
            # numbers, whatever the function returned on each of them.
            failures = [error for error in gather_object([failure]) if error is not None]
            failure = failure or (failures[0] if failures else None)
            scores = broadcast_object_list([scores])[0]
        return scores, failure

    def keep(
        self,
        metrics: dict[str, float],
        prefix: str,
        *,
        step: int,
        records: Any,
        eval_dataset: Any,
        predictions: Path,
        training: bool = False,
    ) -> None:
        """Keep the scores of the evaluation that has just ended, if it scored any answers.

        A callback may evaluate other records during training, such as a part of the training data, or the same ones
        in another way. These are not the scores of the model if the trainer has its own evaluation data.

        Args:
            metrics: the metrics that `evaluate` returns.
            prefix: their prefix, without the underscore.
            step: the optimizer step of the weights.
            records: the evaluated records, from which `subset` chose.
            eval_dataset: the evaluation data of the trainer, to find the name of `records` in a dict.
            predictions: where the answers were written, if at all.
            training: whether a training evaluates.
        """
        own = is_own(records, eval_dataset)
        counts = (own or eval_dataset is None) and step not in self.results
        if training and not counts and not (own and prefix.startswith("eval")):
            return
        main = {"relaxed_accuracy", *main_metrics(self._scored, self.adapter.bound_task)}
        if not any(f"{prefix}_{name}" in metrics for name in main):
            return
        names = dict.fromkeys(row.get("task") or QA_NAME for row in self._scored)
        tasks = {name: self.adapter.bound_task(name) for name in names if name != QA_NAME}
        self.results[step] = EvaluationResult(
            step=step,
            prefix=f"{prefix}_",
            metrics=metrics,
            decoding=self.decoding(),
            rows=[dict(row) for row in self._scored[:SHOWN]],
            predictions=predictions if predictions.is_file() else None,
            records=records,
            part=part_of(records, eval_dataset),
            extract=extract_name(self.args.metric_extract),
            interval=self.args.metric_interval,
            tasks=list(tasks),
            signatures={key: text for task in tasks.values() for key, text in task.signatures().items()},
        )


def _lacks_verdict(row: Mapping[str, Any]) -> bool:
    return row.get("correct") is None and has_answer(row)
