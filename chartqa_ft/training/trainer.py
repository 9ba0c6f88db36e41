"""`ChartQATrainer`, as the table of contents of what differs from `Seq2SeqTrainer`.

Each overridden method hands over to an object that does the work: `AnswerLoss`, `RunningLoss`, `Evaluator`,
`CheckpointSaver` and `HubPusher`. Private methods of transformers are overridden in this file only, each with its
reason; `tests/training/test_upstream_signatures.py` compares their signatures with those of transformers.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from torch import nn
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, TrainOutput

from ..adapters import Adapter, base_model
from ..adapters.pixels import unchanged
from ..batching.collator import ChartQACollator
from ..batching.records import as_records, has_answers, is_stream
from ..evaluation.report import find_predictions
from ..evaluation.results import EvaluationResult, is_own, write_scores
from ..models.restoring import restore_weights
from ..printable import printable_errors
from ..reporting.curve import draw_curves
from ..resources import explaining_memory, naming_a_full_disk
from .arguments import ChartQATrainingArguments, as_dict
from .bad_steps import BadSteps, never_best, spoil_gradients
from .batches import collator_arguments, make_collators, make_loader
from .callbacks import (
    AfterSave,
    CheckUnusedLora,
    CompareStreams,
    CountBatches,
    EndOfEpoch,
    FindBestCheckpoint,
    SetEpoch,
    keep_own_best,
    resume_states,
)
from .checkpoints import begin_checkpoint, step_of
from .checks import changed_arguments, image_files, schedule, streams, tasks, text_arguments  # noqa: F401  (they register checks)
from .checks.data_sets import check_data_sets, named_part
from .checks.findings import CALLS, Call, CheckContext, CheckResult, Finding, raise_all, run_checks
from .checks.function_code import uses_argument
from .checks.hooks import (
    CONSTRUCTED_HOOKS,
    CONSTRUCTED_PARTS,
    changes_loss,
    ignored_hooks,
    replaces_loss,
    replaces_step,
)
from .checks.metric_function import MetricsError
from .checks.model import explaining_dtypes
from .checks.optimizer import explaining_optimizer, optimizer_findings
from .checks.optimizer_arguments import optimizer_settings
from .checks.trainer_arguments import check_trainer
from .copying import own_copy
from .data_order import order_of
from .describing import describe_model
from .evaluating import Evaluator
from .failed_evaluation import FailedEvaluations
from .generation import chosen_settings, merged_config
from .losses import AnswerLoss, loss_of_batch, weighted_by_task
from .memory import MemoryAdvice
from .parts import as_rates, check_rates, logged_rates, set_rates
from .preflight.facts import preflight
from .preflight.unchanged import kept_random_states
from .preparing import first_model, prepare_model
from .progress import SHORT
from .pushing import HubPusher
from .resumed_settings import keeping_settings
from .resuming import CheckpointChooser, as_choice, naming_checkpoint, naming_weights, resume_prompt
from .rotating import delete_old_checkpoints, keeping_all
from .running_loss import RunningLoss
from .sample_logging import LogSamples
from .saving import CheckpointSaver, checkpoint_folder
from .schedule import settle_warmup
from .search import forget_num_steps, search_objective, set_trial
from .signals import StopOnSignal
from .summary import summary
from .text_scan import TextScan
from .trackers import public_command_line

logger = logging.getLogger(__name__)

__all__ = ["ChartQATrainer"]


class ChartQATrainer(Seq2SeqTrainer):
    """Trains and evaluates a chart-reading model on records with `image`, `question`, `answer` (see `load_chartqa`).

    It differs from `Seq2SeqTrainer` where that is silently wrong for these models:

    - The loss is the sum over the answer tokens of a whole optimizer step on all ranks, divided by their number
      (huggingface/transformers#47688). `loss`, `train_loss` and `eval_loss` are exact to the token.
    - Evaluations generate with the question in the prompt. Batched answers equal those of single rows.
    - Every row is scored once on any number of ranks. `predictions/<prefix>-step-<n>.jsonl` holds each answer.
    - Questions on one chart share a batch and one encoder pass (`group_by_chart`).

    Args:
        model: a loaded model, or a path or Hub id for `load_checkpoint`, which also loads processor and adapter.
        args: the training arguments. The trainer has a copy of them, `trainer.args`.
        train_dataset: records to train on: a `datasets.Dataset`, a list, or a stream (which needs `max_steps`).
        eval_dataset: records to evaluate on, or a dict of them. The metrics of a dict are `eval_<name>_...`.
        processing_class: the processor of the model, which is saved with every checkpoint.
        adapter: turns records into tensors; `None` uses `adapter_for(model, processing_class)`.
        peft_config: a PEFT configuration, such as `default_lora_config(model)`. Only the PEFT weights are then trained
            and saved; `load_checkpoint(folder, merge=True)` merges them into their base model.
        kwargs: `callbacks`, `optimizers`, `optimizer_cls_and_kwargs`, `model_init` (in place of `model`) and
            `compute_metrics`, as for `Trainer`. `compute_metrics` is called in addition to relaxed accuracy, with
            answers and references as lists of strings.

    Raises:
        TypeError: an argument that the trainer does not have.
        ValueError: an argument that the trainer would have to ignore, or a model that could not be saved.

    Example:
        >>> import tempfile
        >>> from chartqa_ft import synthetic_chartqa, tiny_unichart
        >>> model, processor = tiny_unichart("test")  # random weights
        >>> records = synthetic_chartqa(2, seed=0)
        >>> args = ChartQATrainingArguments(
        ...     output_dir=tempfile.mkdtemp(), max_steps=1, save_strategy="no", use_cpu=True, report_to="none"
        ... )
        >>> trainer = ChartQATrainer(model, args, train_dataset=records, processing_class=processor)
        >>> trainer.train().global_step  # doctest: +ELLIPSIS
        18 questions on 2 charts to train on; 1 step ...
        1
        >>> trainer.save_model()
        >>> sorted(path.name for path in Path(args.output_dir).glob("*.safetensors"))
        ['model.safetensors']
    """

    optimizer: Any
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module | str | Path | None = None,
        args: ChartQATrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        adapter: Adapter | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ):
        args = ChartQATrainingArguments(output_dir="chartqa_out") if args is None else args
        check_trainer(args, model, train_dataset, eval_dataset, kwargs)
        check_data_sets(train_dataset, eval_dataset)
        raise_all(ignored_hooks(self))
        args = own_copy(args)
        model_init, own_optimizer = kwargs.pop("model_init", None), kwargs.pop("optimizer_cls_and_kwargs", None)
        if model_init is not None:
            self.model_init, model = model_init, first_model(model_init, args)
        model, processing_class, self.adapter = prepare_model(model, args, processing_class, adapter, peft_config)
        settings = chosen_settings(model, args)
        args.generation_config = merged_config(model, args, settings)  # upstream makes it the model's
        optimizers = kwargs.get("optimizers", (None, None))
        CheckResult(list(optimizer_findings(model, *optimizers))).raise_errors()
        check_rates(model, args, optimizers[0])
        self._peft_config, self._output_dir = peft_config, args.output_dir
        self.own_loss, self._changes_loss = replaces_loss(self), changes_loss(self)
        self._collators, self._collated_with = self._make_collators(args, model), collator_arguments(args)
        self.pusher = HubPusher(args)  # upstream's __init__ calls init_hf_repo
        super().__init__(
            model=model,
            args=args,
            data_collator=self._collators["train"],
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **{**kwargs, "callbacks": list(kwargs.get("callbacks") or [])},
        )
        forget_num_steps(args)
        self.model_init, self.optimizer_cls_and_kwargs = model_init, own_optimizer
        # Trainer then counts the answer tokens of a step on all ranks and passes their number to compute_loss. A
        # subclass's loss that does not use their number is the mean of a batch, to be averaged over the batches.
        counts = not self.own_loss or uses_argument(type(self).compute_loss, "num_items_in_batch")
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = counts
        self._optimizer_settings: dict[str, Any] | None = None
        self._said: set[Finding] = set()
        self.failures = FailedEvaluations(self)
        self.texts = TextScan(self.adapter, args)
        self.answer_loss = AnswerLoss(self.adapter, args)
        self.running_loss = RunningLoss(self.accelerator, (lambda: self._tr_loss) if self._changes_loss else None)
        self.evaluator = Evaluator(self.adapter, args, self.accelerator, self.answer_loss, settings)
        self.saver = CheckpointSaver(self.adapter, args, self.accelerator)
        self.chooser = CheckpointChooser(args, self.accelerator)
        self.bad_steps = BadSteps(args, self.accelerator, self.running_loss)
        self.stop_on_signal = StopOnSignal(args, self.accelerator)
        self.memory = MemoryAdvice(self)
        self.own_parts = {
            "args": args,
            "data_collator": self._collators["train"],
            "model": base_model(model),
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
            **{name: getattr(self, name) for name in CONSTRUCTED_PARTS},
            **{name: vars(self).get(name) for name in CONSTRUCTED_HOOKS},
        }
        """The parts that other parts depend on: to replace one later has no effect, and is refused."""
        self.made_with = own_copy(args)
        """The arguments as they were then: to change those that are read only once is refused too."""
        self.card_facts: dict[str, Any] = {}
        """What the trainer cannot know about its card: fields of `CardFacts`, such as `dataset` and `command`."""
        self.was_shown = False
        """Whether the result of `check()` was shown before the training, whose summary then does not repeat it."""
        self.best_weights_step: int | None = None
        """The step whose weights were loaded at the end of training (`load_best_model_at_end`)."""
        self._add_callbacks()
        facts = args.device.type, args.precision, self.adapter.name, self.adapter.prompt
        logger.info("device: %s; precision: %s; adapter: %s; prompt: %s", *facts)

    def _add_callbacks(self) -> None:
        self._set_epoch, self._compare_streams = SetEpoch(lambda: self.running_loss.epoch), CompareStreams()
        self._find_best = FindBestCheckpoint()
        for callback in (
            CountBatches(self.running_loss.count_batch),
            self._find_best,
            EndOfEpoch(self.running_loss.end_epoch),
            self.stop_on_signal,
            self.bad_steps,  # after all that decides about a step
            AfterSave(self._push_saved),
            self._set_epoch,
            self._compare_streams,
            *([CheckUnusedLora()] if self._kind == "lora" else []),
            LogSamples(self.evaluator, lambda: self.callback_handler.callbacks),
        ):
            self.add_callback(callback)
        for callback in [callback for callback in self.callback_handler.callbacks if type(callback) in SHORT]:
            self.remove_callback(callback)
            self.add_callback(SHORT[type(callback)])
        for callback in list(self.callback_handler.callbacks):
            if type(callback).__name__ == "JITCheckpointCallback":  # enable_jit_checkpoint: StopOnSignal does that
                callback.on_train_end(self.args, self.state, self.control)  # restores the handler of SIGTERM
                self.remove_callback(callback)

    # ------------------------------------------------------------------ checks
    def check(
        self, call: Call | None = None, records: Any = None, *, leakage: bool = True, measure: bool = False
    ) -> CheckResult:
        """Return what a call would do otherwise than asked. Each call runs its own checks and raises their errors.

        Without `call`, the result also tells what a training would do: the size of the data, steps and effective
        batch, a batch read back as text with the tokens that carry loss, image tokens, and charts that are in the
        training and in the evaluation data. Print it. It changes neither the model nor any random state.

        Args:
            call: `"train"`, `"evaluate"` or `"predict"`; `None` checks training and evaluation, as far as there is
                data for them.
            records: the records of the call; `None` uses those of the trainer.
            leakage: compare the charts of training and evaluation data, also with those that are nearly the same. Each
                chart is decoded once, in some 6 ms, and remembered in `chart_cache`.
            measure: measure the time and the memory of one step, and estimate when the training would end.

        Raises:
            ValueError: `measure` with a `call`.
        """
        if call is None:
            given = {"train": self.train_dataset, "evaluate": self.eval_dataset, "predict": None}
            with kept_random_states():  # a transform of the records may draw
                results = [self.check(name) for name in CALLS if given[name] is not None]
                found = [finding for result in results for finding in result.findings]
                if not any(finding.level == "error" for finding in found):
                    found += preflight(self, leakage=leakage, measure=measure)
            return CheckResult(list(dict.fromkeys(found)))
        if measure:
            raise ValueError(f"measure=True measures a step of the training: leave out {call!r}")
        if records is None:
            records = self.train_dataset if call == "train" else self.eval_dataset
        return run_checks(CheckContext(self, call, records))

    def _checked(self, call: Call, records: Any = None) -> None:
        """Run the checks of a call: raise one error for all errors, and log each warning once."""
        result = self.check(call, records)
        result.raise_errors()
        for finding in result.findings:
            if finding not in self._said and self.is_world_process_zero():
                logger.log(logging.WARNING if finding.level == "warning" else logging.INFO, "%s", finding)
            self._said.add(finding)

    def plot(self, path: str | Path | None = None, *, font_path: str | Path | None = None) -> Path | None:
        """Write the curves of the run as a PNG: losses, and accuracies with their intervals, over optimizer steps.

        Args:
            path: the file to write; `None`: `curves.png` in `args.output_dir`.
            font_path: a font file for the names of data sets in other scripts, as in `draw_answers`.

        Returns:
            The path; `None` on processes other than the main one, which write nothing.

        Raises:
            ValueError: neither a loss nor an accuracy has been logged yet.
        """
        if not self.is_world_process_zero():
            return None
        target = Path(self.args.output_dir) / "curves.png" if path is None else path
        return draw_curves(self.state.log_history, target, font_path=font_path)

    # ------------------------------------------------------------------ state
    @property
    def scores(self) -> dict[int, EvaluationResult]:
        """Step of the weights -> their last evaluation. Checkpoints keep it."""
        return self.evaluator.results

    @property
    def weights_step(self) -> int:
        """The optimizer step of the weights in memory."""
        return self.state.global_step if self.best_weights_step is None else self.best_weights_step

    @property
    def _kind(self) -> str:
        return "lora" if hasattr(self.model, "peft_config") else "full"

    # ------------------------------------------------------------------ data
    def get_train_dataloader(self) -> DataLoader:
        """Return the loader of training batches, with questions on one chart together."""
        if self.train_dataset is None:
            raise ValueError("training needs a train_dataset")
        loader = self._loader(as_records(self.train_dataset, "train_dataset", answers=True), "train", training=True)
        order = order_of(loader.sampler, self._collators["train"])
        self.running_loss.follow(loader.sampler, order, strict=not self.args.allow_inexact_resume)
        self._set_epoch.source, self._compare_streams.sampler = loader.sampler, self.running_loss.stream
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the loader of evaluation batches, also of records without answers."""
        records = self._eval_records(eval_dataset)
        if records is None:
            raise ValueError("evaluation needs an eval_dataset")
        records = as_records(records, "eval_dataset")
        name = "eval" if has_answers(records) else "test"
        return self.accelerator.prepare(self._loader(records, name, training=False))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Return the loader of `predict`, the same as that of evaluations."""
        return self.get_eval_dataloader(test_dataset)

    def _make_collators(self, args: ChartQATrainingArguments, model: nn.Module) -> dict[str, ChartQACollator]:
        return make_collators(
            self.adapter,
            args,
            model,
            own_loss=not self.own_loss,
            own_steps=unchanged(self, ("compute_loss", "prediction_step")),
            own_evaluation=not replaces_step(self),
        )

    def _renew_collators(self) -> None:
        """Make the collators anew if arguments that they depend on were changed since they were made."""
        settings = collator_arguments(self.args)
        if settings != self._collated_with:
            self._use_collators(self._make_collators(self.args, self.model), settings)

    def _use_collators(self, collators: dict[str, ChartQACollator], settings: dict[str, Any]) -> None:
        self._collators, self._collated_with = collators, settings
        self.data_collator = self.own_parts["data_collator"] = collators["train"]

    def _loader(self, records: Any, name: str, *, training: bool) -> DataLoader:
        self._renew_collators()
        processes = self.accelerator.num_processes
        find_bad, collate = self.texts.finder() if training else None, self._collators[name]
        return make_loader(records, collate, self.args, num_processes=processes, training=training, find_bad=find_bad)

    def _eval_records(self, records: Any) -> Any:
        if isinstance(records, str):
            return named_part(self.eval_dataset, records)
        return self.eval_dataset if records is None else records

    # ------------------------------------------------------------------ loss
    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Return the cross-entropy of the answer tokens in nats, summed and divided by `num_items_in_batch`.

        That is the number of answer tokens of the whole optimizer step on all ranks, or if `None`, of this batch. The
        tokens of a task count as `task_weights` says.
        Label smoothing applies to answer tokens. The outputs hold the logits of answer tokens only, shape (answer
        tokens, vocabulary).
        """
        with explaining_dtypes(model):
            losses, outputs = self.answer_loss(model, inputs)
        losses = weighted_by_task(losses, inputs, as_dict(self.args.task_weights))
        if model.training:
            self.running_loss.add(losses.sum(), torch.tensor(losses.numel(), device=losses.device))
            self.bad_steps.add(inputs.get("rows", ()), losses.sum())
            if logger.isEnabledFor(logging.DEBUG) and "rows" in inputs:
                rows = [row["index"] for row in inputs["rows"]]
                logger.debug("step %d rank %d rows %s", self.state.global_step, self.args.process_index, rows)
        loss = loss_of_batch(losses, num_items_in_batch, self.accelerator.num_processes)
        if model.training:
            loss = spoil_gradients(loss)
        return (loss, outputs) if return_outputs else loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch after its backward pass, as `Trainer` does."""
        self.memory.see(inputs)
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log `logs`, with the losses exact to the token over all ranks.

        A subclass's own `compute_loss` or `training_step` may add to the loss: of these, means over steps are logged.
        """
        if self.is_in_train and "loss" in logs and not self._changes_loss:
            logs["loss"] = self.running_loss.since_last_log()
        if self.is_in_train and "learning_rate" in logs:
            logs |= logged_rates(self.optimizer)
        if "train_loss" in logs and not self._changes_loss:
            logs["train_loss"] = self.running_loss.since_start()
        message = (
            f"the log of step {self.state.global_step} could not be written (standard output, or "
            f"report_to={self.args.report_to}). Checkpoints in {self.args.output_dir} are untouched: free some space, "
            "then resume from the last one: train(resume_from_checkpoint=True), --resume_from_checkpoint last"
        )
        with naming_a_full_disk(message), public_command_line():
            super().log(logs, start_time)

    # ------------------------------------------------------------------ training
    @printable_errors()
    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as `Trainer.train` does; `resume_from_checkpoint=True` uses the newest complete checkpoint.

        `scores` become those of the checkpoint, or empty. SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 end the training after
        its current step, with a checkpoint of it (see `StopOnSignal`); `enable_jit_checkpoint` adds nothing to that.

        Raises:
            ValueError: there is no complete checkpoint to resume from, it is damaged or lacks a state of the run (see
                `allow_inexact_resume`), no weight is trainable, or a record cannot be
                encoded (see `on_bad_text`).
            DivergedError: the loss or the gradients are NaN or infinite (see `max_bad_steps`).
            MetricsError: `compute_metrics` failed or returned no numbers, or the metric of the best model is missing.
                The step and the answers are saved.
        """
        if resume_from_checkpoint is None and not (args or kwargs.get("trial")):
            resume_from_checkpoint = as_choice(self.args.resume_from_checkpoint)
        if (trial := kwargs.get("trial")) is not None and self.hp_search_backend is not None:
            # Before upstream creates the model with the seed and other arguments.
            set_trial(self.args, self._before_search, self._trial_values(trial), self.optimizer_cls_and_kwargs)
        checkpoint = self.chooser.choose(resume_from_checkpoint)
        resume_prompt(self.adapter, self.model, checkpoint)
        if self.model_init is None:
            self._check_training()
        if self.train_dataset is not None and self.is_world_process_zero():
            say = partial(logger.info, "%s") if self.args.disable_tqdm else print
            for line in summary(self, checked=self.was_shown):
                say(line)
        if self._optimizer_settings not in (None, optimizer_settings(self.args)):
            logger.info("the optimizer is created anew, since its arguments were changed after the last training")
            self.optimizer = None
        self._find_best.resumed = checkpoint
        self.running_loss.restore(checkpoint)
        if self.args.ignore_data_skip:
            self.running_loss.restart_epoch()
        self.evaluator.restore(checkpoint, self.eval_dataset)
        self.best_weights_step = None
        try:
            with (
                self.stop_on_signal.handled(),
                public_command_line(),
                self.failures.saving_step(self._save_step),
                explaining_memory("training", self.memory.of_training),
            ):
                output = super().train(checkpoint, *args, **kwargs)
        finally:
            self.is_in_train = False  # also after an error
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self.best_weights_step = step_of(Path(self.state.best_model_checkpoint))
        return output._replace(training_loss=output.metrics["train_loss"])

    def _save_step(self) -> None:
        self._save_checkpoint(self.model_wrapped, None)
        self.callback_handler.on_save(self.args, self.state, self.control)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        # An error here, also of on_evaluate or of a tracker, says nothing about the step, which upstream loses.
        with self.failures.in_loop():
            return super()._evaluate(*args, **kwargs)

    def _check_training(self) -> None:
        """Run the checks of a training, of the model and the arguments that it begins with."""
        self._checked("train")
        settle_warmup(self.args, self.train_dataset, self.args.world_size)
        self.args.choose_mode()
        self._check_texts()

    def _check_texts(self) -> None:
        """Scan the texts of all data sets of a training; with `on_bad_text="skip"`, leave out the bad ones."""
        self.train_dataset: Any = self.texts.usable(self.train_dataset, "train_dataset", training=True)
        if self.args.eval_strategy != "no":
            parts = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
            for name, part in parts.items():
                self.texts.kept_rows(part, f"eval_dataset[{name!r}]" if name else "eval_dataset")

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        # Returns the epochs, and the batches of the current epoch, that are done. Upstream assumes that one epoch of a
        # stream has max_steps steps, and resumes at the wrong record of a stream that was read more than once. It
        # cannot save a resumed run with a new EarlyStoppingCallback, and lets that of the first run count from zero.
        done = super()._init_training_state(*args, **kwargs)
        self.running_loss.run = self.chooser.begin_run(self._find_best.resumed)  # its data are the same
        restored = self.args.restore_callback_states_from_checkpoint
        resume_states(self.callback_handler.callbacks, self.control, self.state, restore=not restored)
        if not is_stream(self.train_dataset) or not self.state.global_step:
            return done
        return self.running_loss.epoch, self.running_loss.batches

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # Upstream saves a new best model with save_strategy="best" alone. With load_best_model_at_end and evaluations
        # between two saves it loads other weights than those of the best evaluation, or none.
        is_best = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= is_best and self.args.load_best_model_at_end
        return is_best

    def _run_epoch(self, **kwargs: Any) -> None:
        # Upstream trains one step too many when a run that has reached max_steps is resumed.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**kwargs)
        else:
            self.control.should_training_stop = True

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # Upstream ignores weights whose names in the file are not those of the model. save_pretrained writes LLaVA,
        # Qwen2.5-VL, TrOCR and others under older names: a resumed run would start from the base model's weights.
        with naming_weights(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._restore(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        # As in _load_from_checkpoint: the last weights would be taken for the best.
        super()._load_best_model()
        self._restore(self.state.best_model_checkpoint)

    def _restore(self, checkpoint: str | None) -> None:
        if checkpoint is not None and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            restore_weights(self.model, checkpoint)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        # No callback gets the gradient norm, which says before the optimizer's step whether all is finite.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.bad_steps.gradient_norm(norm, model, self.state)
        return norm

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Upstream's errors about damaged files do not say in which checkpoint they are. Its states bring the learning
        # rate and the weight decay of the run that wrote them, whatever the arguments say.
        with naming_checkpoint(checkpoint), keeping_settings(self.optimizer, self.lr_scheduler):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Upstream warns of weights that are tied, and of those that _restore loads.
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._issue_warnings_after_load(load_result)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return the optimizer as `Trainer` creates it, with `learning_rates` for the parts of the model.

        Errors name the arguments that it is created with.
        """
        is_new, rates = self.optimizer is None, as_rates(self.args.learning_rates)
        if is_new:
            self._optimizer_settings = optimizer_settings(self.args)
            check_rates(self.model, self.args)  # a trial of a search may have other rates
        with explaining_optimizer(self):
            optimizer = super().create_optimizer(model)
        if is_new and rates:
            set_rates(optimizer, self.model if model is None else model, rates)
        return optimizer

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """Return a new model of `model_init`, prepared as the first one was; `train` calls it at its beginning."""
        model = super().call_model_init(trial)
        prepared, _, _ = prepare_model(model, self.args, self.processing_class, self.adapter, self._peft_config)
        return prepared

    def hyperparameter_search(
        self, hp_space: Any = None, compute_objective: Any = None, n_trials: int = 20, **kwargs: Any
    ) -> Any:
        """Search for the best arguments as `Trainer.hyperparameter_search` does; it needs `model_init`.

        Each trial has a folder of its own in `output_dir`. Afterwards the arguments are as before.

        Args:
            hp_space: returns the arguments of a trial, by name.
            compute_objective: returns a number for the metrics of an evaluation. `None` uses `metric_for_best_model`,
                or relaxed accuracy, and the direction that belongs to it. Upstream adds up all metrics.
            n_trials: number of trials.
            kwargs: `direction`, `backend`, `hp_name` and arguments of the backend.

        Raises:
            ValueError: an argument of a trial that does not exist, or would not be used.
        """
        if self.model_init is None:
            raise ValueError("hyperparameter_search trains a new model in each trial: pass model_init, not model")
        compute_objective, kwargs = search_objective(
            self.args,
            compute_objective,
            kwargs,
            eval_dataset=self.eval_dataset,
            own_metrics=self.compute_metrics is not None,
        )
        self._before_search = own_copy(self.args)
        collators = self._collators, self._collated_with
        try:
            return super().hyperparameter_search(hp_space, compute_objective, n_trials, **kwargs)
        finally:
            self.args.__dict__.update(vars(self._before_search))
            self._use_collators(*collators)

    def _trial_values(self, trial: Any) -> dict[str, Any]:
        """Return what a trial of a search changes."""
        values = trial if isinstance(trial, dict) else self.hp_space(trial)
        return {name: values[name] for name in values if name != "wandb"}  # a setting of that backend

    def _hp_search_setup(self, trial: Any) -> None:
        # Upstream warns of names that are no arguments, and does not know what else depends on arguments. It calls
        # this at the beginning of every training, after it has created the model of model_init.
        values = {} if trial is None or self.hp_search_backend is None else self._trial_values(trial)
        if trial is not None:
            self.args.output_dir = self._output_dir
            # Upstream converts values to the types of the old ones, if there are any.
            self.args.__dict__.update({name: None for name in values if hasattr(self.args, name)})
        super()._hp_search_setup(trial)
        if self.hp_search_backend is not None and trial is not None:
            set_trial(self.args, self._before_search, values, self.optimizer_cls_and_kwargs)
            self.args.output_dir = super()._get_output_dir(trial)
            self._renew_collators()
            for part in (
                self.running_loss,
                self.evaluator,
                self.saver,
                self.chooser,
                self.bad_steps,
                self.stop_on_signal,
            ):
                part.accelerator = self.accelerator
        if self.model_init is not None:  # the model and the arguments of a run are known only here
            self._check_training()

    def _get_output_dir(self, trial: Any) -> str:
        # In a trial, args.output_dir is the folder of the trial, for all files and not for checkpoints alone.
        return self.args.output_dir

    # ------------------------------------------------------------------ evaluation
    def decoding(self) -> dict[str, Any]:
        """Return the generation settings of the arguments, and within an evaluation also those that it was given."""
        return self.evaluator.decoding()

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **generation_settings: Any,
    ) -> dict[str, float]:
        """Answer and score a data set; return the loss, the keys of `relaxed_accuracy` and the times, with a prefix.

        Evaluations of the trainer's data sets during training use `args.eval_subset`; others use all records. `scores`
        keep the last evaluation of each step; during training, only those of the trainer's data sets, if it has any.

        Args:
            eval_dataset: records, the name of a data set in a dict, or a dict; `None` uses those of the trainer.
            ignore_keys: unused, kept for the signature.
            metric_key_prefix: prefix of the metrics and of the predictions file.
            generation_settings: `num_beams`, `max_new_tokens` and others for this evaluation only.
        """
        records = self._eval_records(eval_dataset)
        if not self.is_in_train:
            self._checked("evaluate", records)
        if isinstance(records, dict):
            check_data_sets(None, records)
            metrics: dict[str, float] = {}
            for name, part in records.items():
                metrics.update(self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}", **generation_settings))
            return self._best_checked(metrics, whole=eval_dataset is None) if self.is_in_train else metrics
        numbers = self.texts.kept_rows(records, "eval_dataset")
        use_subset = self.is_in_train and is_own(records, self.eval_dataset)
        with self.evaluator.using(generation_settings):
            with (
                self.evaluator.subset(records, training=use_subset, numbers=numbers) as chosen,
                self.evaluator.beside_training(self.is_in_train, None if self.failures.looping else self.control),
            ):
                metrics = super().evaluate(chosen, ignore_keys, metric_key_prefix)
            self.evaluator.keep(
                metrics,
                metric_key_prefix,
                step=self.weights_step,
                records=records,
                eval_dataset=self.eval_dataset,
                predictions=self._predictions_file(metric_key_prefix),
                training=self.is_in_train,
            )
        return self._best_checked(metrics, whole=eval_dataset is None) if self.is_in_train else metrics

    def _best_checked(self, metrics: dict[str, float], *, whole: bool) -> dict[str, float]:
        """Return the metrics of an evaluation during training; that of the best model is NaN after a bad loss."""
        best = self.args.metric_for_best_model
        name = "" if best is None else best if best.startswith("eval_") else f"eval_{best}"
        if whole and name and name not in metrics:
            raise MetricsError(
                f"the evaluation has no metric_for_best_model={best!r}, but {', '.join(metrics)}: choose one of these"
            )
        return never_best(metrics, self.args)

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        **generation_settings: Any,
    ) -> PredictionOutput:
        """Answer a data set, with or without answers of its own; `predictions` and `label_ids` are arrays of str.

        Raises:
            TypeError: `test_dataset` is no data set, but a path, a record or a number.
            ValueError: it is a dict of data sets, it is empty, or a record cannot be encoded.
        """
        if test_dataset is None:
            raise ValueError("predict needs a test_dataset; to score the evaluation data, call evaluate()")
        as_records(test_dataset, "test_dataset")
        self._checked("predict", test_dataset)
        self.texts.kept_rows(test_dataset, "test_dataset", keep_all=True)
        with self.evaluator.using(generation_settings), public_command_line():
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run upstream's loop over `prediction_step`, then gather the rows by number and score each once."""
        predictions = self._predictions_file(metric_key_prefix) if self.args.write_predictions else None
        explaining = explaining_memory("evaluating", self.memory.of_evaluation)
        stopping = self.stop_on_signal.evaluating(dataloader, self.is_in_train)
        with self.failures.in_batches():
            with explaining, stopping, self.evaluator.collecting(predictions):
                output = super().evaluation_loop(dataloader, description, None, ignore_keys, metric_key_prefix)
            return self.evaluator.scored(
                output, metric_key_prefix, compute_metrics=self.compute_metrics, predictions=predictions
            )

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **generation_settings: Any,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Return loss, answer ids and labels of one batch. Charts are encoded once for loss and generation.

        The loss is the mean per answer token (0-d, nats), the ids are int64 of shape (rows, max_new_tokens) and hold
        the answers alone. Within an evaluation all three are `None`: rows are collected by the `Evaluator`, and some
        of them wait for their answers.
        """
        self.memory.see(inputs)
        inputs = self._prepare_inputs(inputs)  # a subclass may change them here
        with explaining_dtypes(model):
            return self.evaluator.step(
                base_model(model), inputs, loss_only=prediction_loss_only, settings=generation_settings
            )

    def _predictions_file(self, prefix: str) -> Path:
        own_data = self.eval_dataset if self.is_in_train else None
        return self.evaluator.predictions_file(prefix, self.weights_step, own_data)

    # ------------------------------------------------------------------ saving
    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, its processor, the adapter's settings, and the training arguments as JSON.

        The files are replaced all together: if the disk is full, the folder keeps what it held. Upstream's
        `training_args.bin`, a pickle that holds `hub_token` in plain text, is never written, and peft's own card is
        not kept.

        Args:
            output_dir: the folder; `None` uses `args.output_dir`.

        Raises:
            ValueError: the folder is that of the base model of the PEFT weights.
            OSError: the disk is full.
        """
        write = partial(super().save_model, _internal_call=True)
        self.saver.save(self.model, output_dir or self.args.output_dir, write)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save")

    def save_merged(self, folder: str | Path | None = None, *, token: str | None = None) -> Path:
        """Merge the PEFT weights saved in `output_dir` into their base model and save a checkpoint without PEFT.

        The base model is loaded a second time, on the CPU and not quantized.

        Args:
            folder: the folder to save into; `None` uses `output_dir/merged`.
            token: a token to read the base model with; `None` uses `args.hub_token` or the login.

        Returns:
            The folder.

        Raises:
            ValueError: `folder` is `output_dir`, whose PEFT weights the merged model would replace.
            OSError: the disk is full.
        """
        return self.saver.save_merged(self.model, folder, token=token)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Upstream pickles the arguments with hub_token in plain text, and has no way to tell PEFT whether the
        # embeddings have to be saved; PEFT's guess asks the Hub.
        write = self.saver.write_peft if self._kind == "lora" else self.saver.write_full
        write(self.model, self.processing_class, output_dir or self.args.output_dir, state_dict)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Upstream marks no checkpoint as complete, also when it saves without on_save, deletes old ones too early, and
        # saves weights of NaN. Its error on a full disk does not say that this one is incomplete and others are not.
        step, best = self.state.global_step, self.state.best_model_checkpoint
        folder = checkpoint_folder(self._get_output_dir(trial), step)
        self.bad_steps.check_weights(self.model, step)
        with self.stop_on_signal.timed_save(), self.saver.writing_checkpoint(step):
            if self.args.should_save:
                begin_checkpoint(folder)
            with keeping_all(self):  # upstream would delete old checkpoints before this one has its mark
                super()._save_checkpoint(model, trial)
            keep_own_best(self.state, folder, best, self.running_loss.run, write=self.args.should_save)
            if self.args.should_save:
                write_scores(self.scores, folder, self.args.output_dir)
            self.running_loss.on_save(self.args, self.state, self.control, folder=folder)
        if self.args.should_save:
            delete_old_checkpoints(folder, self.args.save_total_limit, self.state.best_model_checkpoint)

    # ------------------------------------------------------------------ pushing
    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository before training begins, so that a token without write permission is refused at once.

        Args:
            token: a token with write permission; `None` uses `args.hub_token` or the login.
            private: whether a new repository is private; `None` uses `args.hub_private_repo`.
        """
        self.push_in_progress = None
        if self.is_world_process_zero():
            self.hub_model_id = self.pusher.make_repository(token, private)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        *,
        merge: bool | None = None,
        predictions: bool | None = None,
        include_images: bool | None = None,
        **facts: Any,
    ) -> CommitInfo | Future | None:
        """Save the model to `output_dir` and push it, with a card and scores of exactly these weights, in one commit.

        The push is put together in `output_dir/.push`, so that it changes and deletes no other local file. The card,
        its pictures and `metrics.json` are added to `output_dir` after a push that succeeds, each only where there is
        no such file yet. The generated card is pushed also if `output_dir` has a `README.md` of yours; to push your
        own, use `push_checkpoint(output_dir, ...)`.

        Args:
            commit_message: first line of the commit.
            blocking: `False` pushes in the background and returns a `Future`.
            token: a token with write permission; `None` uses `args.hub_token` or the login.
            revision: the branch; `None` uses `args.hub_revision`.
            private: whether a new repository is private; `None` uses `args.hub_private_repo`.
            merge: merge PEFT weights into the base model and push the result; `None` uses `args.push_merged`.
            predictions: also push the answers as `predictions.jsonl`; `None` uses `args.push_predictions`.
            include_images: show three charts of the evaluation, or those of `samples`, on the card, even if they are
                not marked as `allowed`. Only if you may publish them; `None` uses `args.push_images`.
            facts: further fields of the card (`dataset`, `command`, `samples`, ...); see `CardFacts`.

        Returns:
            The commit, or a `Future` of it; `None` on all processes but the first.

        Raises:
            HubError: the Hub did not accept the push. The message says why, what to do, and which folder holds all
                that was to be pushed.
            ValueError: `predictions` without an evaluation of these weights, or a file that holds a token.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        folder, kind = Path(self.args.output_dir), self._kind
        if kind == "lora" and (self.args.push_merged if merge is None else merge):
            folder, kind = self.save_merged(token=token), "merged"
        if not self.is_world_process_zero():
            return None
        return self.pusher.push(
            folder,
            partial(self._describe, kind=kind, **facts),
            partial(find_predictions, self.scores.get(self.weights_step), self.args.output_dir),
            repo_id=self.hub_model_id,
            message=commit_message,
            blocking=blocking,
            token=token,
            revision=revision,
            private=private,
            predictions=predictions,
            include_images=include_images,
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Upstream's pushes training_args.bin, a pickle that holds hub_token in plain text, and pushes before the
        # checkpoint is complete: ours are pushed by the last callback of on_save.
        self.pusher.saved(checkpoint_folder)

    def _push_saved(self) -> None:
        if self.is_world_process_zero():
            begin = partial(self.callback_handler.on_push_begin, self.args, self.state, self.control)
            describe = partial(self._describe, kind=self._kind)
            self.pusher.push_saved(describe, repo_id=self.hub_model_id, step=self.state.global_step, begin=begin)

    def _finish_current_push(self) -> None:
        # Upstream waits for its own kind of push; training ends and the next push begins after ours.
        self.pusher.finish()

    def _describe(
        self,
        folder: Path,
        *,
        kind: str,
        token: str | None,
        include_images: bool,
        report: Path | None = None,
        **facts: Any,
    ) -> None:
        """Write the card and `metrics.json` of the weights in memory into `folder`."""
        describe_model(
            folder,
            model=self.model,
            adapter=self.adapter,
            args=self.args,
            result=self.scores.get(self.weights_step),
            step=self.weights_step,
            log_history=self.state.log_history,
            name=self.hub_model_id or Path(self.args.output_dir).absolute().name,
            kind=kind,
            token=token,
            include_images=include_images,
            report=report,
            own_optimizer=(
                self.own_parts["optimizer"],
                self.optimizer_cls_and_kwargs,
                self.own_parts["lr_scheduler"],
            ),
            facts={**{key: value for key, value in self.card_facts.items() if value is not None}, **facts},
        )
