"""`ChartQATrainingArguments`: those of `Seq2SeqTrainer`, with the official UniChart recipe as defaults."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..evaluation.answer_queue import WINDOW
from ..files import write_whole
from ..hub.public import as_json, public_values
from ..metrics.accuracy import INTERVALS
from ..metrics.correctness import variant_name
from ..metrics.extraction import extract_name, extractor_of

logger = logging.getLogger(__name__)

RECIPE_STEPS = 40_000

_LOCAL = ("chart_cache", "chart_cache_gb")
"""Arguments that concern this machine only and change no result. They are left out of cards and pushed files."""


def _switch(text: str) -> dict:
    """Return the metadata of a flag that may be unset; `--flag` without a value turns it on."""
    return {"help": text, "nargs": "?", "const": True}


@dataclass
class ChartQATrainingArguments(Seq2SeqTrainingArguments):
    """The arguments of `Seq2SeqTrainingArguments`, and those for models that read charts.

    The defaults are those of the official ChartQA fine-tuning of UniChart (vis-nlp/UniChart): Adam (AdamW without
    weight decay is the same), learning rate 5e-5, cosine schedule with 100 warm-up steps, gradient norm clipped at
    1.0, batches of 8, 40,000 steps, random padding of training charts, validation by beam search with 4 beams. In
    place of the recipe's fp16, the best precision of the device is used.

    Raises:
        ValueError: a combination that would silently do something else than asked; the message says what to do.

    Example:
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
        >>> args.max_steps, args.learning_rate, args.generation_num_beams, args.precision
        (40000, 5e-05, 4, 'fp32')
        >>> ChartQATrainingArguments(output_dir="out", use_cpu=True, generation_max_length=20)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: generation_max_length counts the prompt, ...: use generation_max_new_tokens
    """

    num_train_epochs: float | None = field(
        default=None,
        metadata={"help": "Epochs to train. Without this and max_steps: the recipe's 40,000 steps."},
    )
    """Epochs over the training split. `None` without `max_steps`: the recipe's 40,000 steps."""

    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule (recipe: cosine)."})
    """Learning-rate schedule. Recipe: cosine, from 0 over the warm-up to `learning_rate` and back to 0."""

    warmup_steps: float = field(default=100, metadata={"help": "Warm-up steps; below 1, a share of all steps."})
    """Steps of linear warm-up (recipe: 100); a number below 1 is a share of all steps."""

    bf16: bool | None = field(
        default=None,
        metadata=_switch("bfloat16 mixed precision. If fp16 is unset too: the best that the device has."),
    )
    """bfloat16 mixed precision. `None` with `fp16=None`: bf16 on GPUs that support it, fp16 on other GPUs, else
    fp32."""

    fp16: bool | None = field(default=None, metadata=_switch("float16 mixed precision (GPU only). See bf16."))
    """float16 mixed precision. Refused on a CPU, where upstream accepts it and it has no effect."""

    activation_checkpointing: bool | None = field(
        default=None, metadata=_switch("Recompute activations in the backward pass: less memory, more time.")
    )
    """Recompute activations in the backward pass: less memory, more time. The name in transformers since 5.23."""

    activation_checkpointing_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Settings of activation checkpointing as JSON, such as every_n_layers."}
    )
    """Settings of `activation_checkpointing`, such as `{"every_n_layers": 2}`; JSON on the command line."""

    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Must stay off, so that the log of a failing run shows NaN."}
    )
    """Must stay `False`, so that the log of a failing run shows NaN."""

    hub_strategy: str = field(
        default="end",
        metadata={"help": "end: push at the end; every_save, checkpoint, all_checkpoints: also during training."},
    )
    """When to push: at the `"end"`, or during training every saved model (`"every_save"`), also with the states to
    resume from (`"checkpoint"` in the folder last-checkpoint, `"all_checkpoints"` in one folder each)."""

    hub_token: str | None = field(
        default=None,
        repr=False,
        metadata={"help": "Token to push with. Unset: that of hf auth login, or HF_TOKEN."},
    )
    """Hub token to push with; `None` uses the login. It is left out of the `repr` of this dataclass and its
    subclasses."""

    hub_create_pr: bool = field(
        default=False, metadata={"help": "Push as a pull request to hub_model_id, which may be somebody else's."}
    )
    """Push as a pull request to the repository `hub_model_id`, which may be somebody else's."""

    push_merged: bool = field(
        default=False, metadata={"help": "Merge PEFT weights into the base model and push the result."}
    )
    """Merge PEFT weights into the base model and push the result."""

    push_predictions: bool = field(default=False, metadata={"help": "Push predictions.jsonl with the model."})
    """Push the answers of the last evaluation with the model, as `predictions.jsonl`."""

    push_images: bool = field(
        default=False,
        metadata={"help": "Show three charts of the evaluation on the card. Only if you may publish them."},
    )
    """Show three evaluated charts on the model's card. Only if you may publish them; ChartQA's are not yours."""

    logging_steps: float = field(default=50, metadata={"help": "Steps between two logs of the loss."})
    """Steps between two logs. Each reports the loss since the last one, exact to the token."""

    predict_with_generate: bool = field(
        default=True, metadata={"help": "Evaluate by generated answers and relaxed accuracy, not only by the loss."}
    )
    """Evaluate by generating answers and scoring them with relaxed accuracy. `False` computes only the loss."""

    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay off: the collator needs the columns."}
    )
    """Must stay `False`: the collator needs the columns of the records."""

    generation_num_beams: int | None = field(
        default=4, metadata={"help": "Beams in evaluations (recipe: 4; 1: greedy)."}
    )
    """Number of beams in evaluations. Recipe: 4; 1 is greedy search, which is much faster during training."""

    generation_max_new_tokens: int = field(default=128, metadata={"help": "Longest answer in evaluations, in tokens."})
    """Longest answer in tokens. (`generation_max_length`, which counts the prompt as well, is refused.)"""

    metric_variant: str = field(
        default="pix2struct", metadata={"help": "Variant of relaxed accuracy; see the README."}
    )
    """The variant of `eval_relaxed_accuracy`; see `chartqa_ft.relaxed_correctness`."""

    metric_extract: str | None = field(
        default=None,
        metadata={
            "help": "Step that finds the final answer in a generated text before it is scored, such as answer_line, "
            "boxed or after_think. Unset: the whole text is the answer."
        },
    )
    """Step that finds the final answer in a generated text before it is scored: a name from
    `chartqa_ft.metrics.EXTRACTORS`, or a function that takes the text and returns the answer or `None`. `None` scores
    the whole text."""

    metric_interval: str = field(
        default="wilson",
        metadata={"help": "Intervals of relaxed accuracy: wilson, bootstrap, or clustered (by chart_id)."},
    )
    """Intervals of relaxed accuracy: `"wilson"`, `"bootstrap"`, or `"clustered"` for questions that share charts."""

    eval_subset: float | None = field(
        default=None,
        metadata={
            "help": "Number of questions (below 1: share) in evaluations during training, stratified by source."
        },
    )
    """Number of questions (below 1: share) in evaluations during training, stratified by source. A script's own call
    of `evaluate()` always uses the whole split."""

    eval_window: int = field(
        default=WINDOW,
        metadata={"help": "Evaluation batches whose questions may wait for others of the same length."},
    )
    """Evaluation batches whose questions may wait for others of the same length, to be answered together, for models
    that need it (UniChart, Donut). More batches mean fewer calls, and more memory for their encoded charts (900 x 1024
    numbers per chart at 960 pixels); 1 answers every batch by itself. The answers are the same."""

    group_by_chart: bool | None = field(
        default=None,
        metadata=_switch("Encode each chart once for all its questions in a batch. Unset: where possible."),
    )
    """Batch the questions of a chart together and encode it once. `None`: if the model's adapter supports it. Such
    rows share the encoder's dropout mask, and a batch holds fewer distinct charts than the recipe's; `False` is
    exactly the recipe."""

    pack_questions: bool | None = field(
        default=None,
        metadata=_switch("Train all questions of a chart in a batch as one sequence. Unset: where that is exact."),
    )
    """Train the questions of a chart as one sequence that holds the chart once, and in which no question sees another:
    the same losses in less time. `None`: with `group_by_chart` and without `torch_compile`, for LLaVA 1.5, LLaVA-Next,
    Idefics3, SmolVLM and InternVL, whose losses are compared in tests. `True`: for any decoder-only model with causal
    attention to all tokens and rotary positions of one dimension. Evaluations always have one row per question."""

    chunk_encoder: bool = field(
        default=True,
        metadata={"help": "On a CPU, compute a Donut encoder's blocks a few windows at a time: less memory and time."},
    )
    """On a CPU in 32 bits, compute each block of a Donut encoder (UniChart) a few windows at a time: half the memory
    and less time, for the same values and gradients to float precision. Second derivatives and `torch.func` need
    `False`, which computes as transformers does."""

    random_padding: bool | None = field(
        default=None,
        metadata=_switch("Place training charts at random on their canvas. Unset: if the processor pads."),
    )
    """Place training charts at random on their canvas, as the recipe does. `None`: if the processor pads charts to a
    fixed canvas (Donut)."""

    chart_cache: str = field(
        default="auto",
        metadata={"help": "Folder for resized charts. auto: below HF_HOME where it saves time; off: none."},
    )
    """Folder that keeps resized charts from one epoch or run to the next. `"auto"`: `chartqa_ft/charts` below
    `HF_HOME`, for models with a plain processor (UniChart, Donut) and images of more than 200 x 200 pixels; `"off"`:
    none. Entries are only used for the same image, settings and library versions. No pixel changes."""

    chart_cache_gb: float = field(
        default=10.0, metadata={"help": "Maximum size of the chart cache in units of 10^9 bytes."}
    )
    """Maximum size of `chart_cache` in units of 10^9 bytes. The 18,317 charts of ChartQA's training split take about
    2.3 at 960 pixels, estimated from 24 charts of its test split."""

    write_predictions: bool = field(
        default=True, metadata={"help": "Write a file of predictions for every evaluation."}
    )
    """Write `predictions/<prefix>-step-<n>.jsonl` to the output folder for every evaluation."""

    def __post_init__(self) -> None:
        self._refuse()
        if not hasattr(Seq2SeqTrainingArguments, "activation_checkpointing"):
            # Their only names before transformers 5.23.
            if self.activation_checkpointing:
                self.gradient_checkpointing = True
            if self.activation_checkpointing_kwargs is not None:
                self.gradient_checkpointing_kwargs = self.activation_checkpointing_kwargs
        self._choose_schedule()
        self._choose_precision()
        wants_best = self.load_best_model_at_end or self.save_strategy == "best"
        if wants_best and self.metric_for_best_model is None:  # type: ignore[has-type]
            self.metric_for_best_model = "relaxed_accuracy" if self.predict_with_generate else "loss"
        super().__post_init__()
        if self.accelerator_config.dispatch_batches is None:
            # Every rank reads streams. Dispatched batches would be split by rows, which separates rows from charts.
            self.accelerator_config.dispatch_batches = False
        if self.n_gpu > 1:
            raise ValueError(
                f"{self.n_gpu} GPUs in one process would split every batch with nn.DataParallel, which separates "
                "charts from their questions. Start one process per GPU: accelerate launch --multi_gpu "
                f"--num_processes {self.n_gpu} your_script.py ..., or make one GPU visible: CUDA_VISIBLE_DEVICES=0"
            )
        if self.eval_strategy == IntervalStrategy.NO and self.load_best_model_at_end:
            raise ValueError("load_best_model_at_end needs evaluations: set eval_strategy to 'steps' or 'epoch'")

    def _refuse(self) -> None:
        """Refuse combinations that would silently do something else than asked."""
        variant_name(self.metric_variant)
        extractor_of(self.metric_extract)
        for refused, message in (
            (
                self.remove_unused_columns,
                "remove_unused_columns=True would drop the chart and its question: leave it False",
            ),
            (
                self.generation_max_length is not None,
                "generation_max_length counts the prompt, so that long questions get no answer: use "
                "generation_max_new_tokens",
            ),
            (
                not self.average_tokens_across_devices,
                "average_tokens_across_devices=False makes the update depend on the number of ranks: leave it True",
            ),
            (self.batch_eval_metrics, "batch_eval_metrics=True cannot score over all ranks: leave it False"),
            (self.sortish_sampler, "sortish_sampler=True is not supported: use train_sampling_strategy"),
            (
                self.train_sampling_strategy not in ("random", "sequential"),
                f"train_sampling_strategy={self.train_sampling_strategy!r} is not supported: use random or sequential",
            ),
            (
                "relaxed_accuracy" in (self.metric_for_best_model or "") and not self.predict_with_generate,
                f"metric_for_best_model={self.metric_for_best_model!r} needs predict_with_generate=True",
            ),
            (
                self.generation_max_new_tokens < 1,
                f"generation_max_new_tokens must be at least 1, got {self.generation_max_new_tokens}",
            ),
            (
                self.metric_interval not in INTERVALS,
                f"metric_interval must be one of {', '.join(INTERVALS)}, got {self.metric_interval!r}",
            ),
            (self.eval_window < 1, f"eval_window must be at least 1 batch, got {self.eval_window}"),
            (
                self.eval_subset is not None
                and not (0 < self.eval_subset < 1 or self.eval_subset == int(self.eval_subset) > 0),
                f"eval_subset must be a number of questions or a share between 0 and 1, got {self.eval_subset}",
            ),
            (not self.chart_cache, "chart_cache must be a folder, 'auto' or 'off'"),
            (
                not self.chart_cache_gb > 0,
                f"chart_cache_gb must be above 0, got {self.chart_cache_gb}: to keep no charts, use chart_cache='off'",
            ),
            (
                self.logging_nan_inf_filter,
                "logging_nan_inf_filter=True would have to change the exact losses of the log: leave it False",
            ),
            (
                self.prediction_loss_only,
                "prediction_loss_only=True: use predict_with_generate=False, which computes only the loss",
            ),
            (
                self.save_total_limit == 1,
                "save_total_limit=1 deletes the last whole checkpoint before the next is known to be whole: use 2",
            ),
            (bool(self.include_for_metrics), "include_for_metrics is not supported: compute_metrics gets the texts"),
            (
                self.hub_create_pr and self.hub_strategy != "end",
                f"hub_create_pr=True with hub_strategy={self.hub_strategy!r} would open a pull request for every "
                "save: use hub_strategy='end'",
            ),
            (
                self.hub_create_pr and "/" not in (self.hub_model_id or ""),
                "hub_create_pr=True needs hub_model_id='owner/name', the repository to propose the model to",
            ),
            (self.fp16 and self.bf16, "fp16=True and bf16=True exclude each other: choose one"),
        ):
            if refused:
                raise ValueError(message)

    def _choose_schedule(self) -> None:
        if self.num_train_epochs is None:
            self.num_train_epochs = 3.0
            if self.max_steps <= 0:  # type: ignore[has-type]
                self.max_steps = RECIPE_STEPS

    def _choose_precision(self) -> None:
        on_gpu = torch.cuda.is_available() and not self.use_cpu
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if not on_gpu and (self.fp16 or (launched == "fp16" and not self.bf16)):
            raise ValueError("fp16 does nothing on this device: leave it out (fp32), or use bf16=True")
        if self.fp16 is None and self.bf16 is None:
            best = "no" if not on_gpu else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
            chosen = best if launched == "no" else launched
            self.fp16, self.bf16 = chosen == "fp16", chosen == "bf16"
        elif not (self.fp16 or self.bf16) and launched in ("fp16", "bf16"):
            raise ValueError(
                f"accelerate was started with --mixed_precision {launched}, and {launched} is set to False"
            )
        self.fp16, self.bf16 = bool(self.fp16), bool(self.bf16)

    @property
    def precision(self) -> str:
        """The precision of the forward pass: "bf16", "fp16" or "fp32"."""
        mixed = str(self.mixed_precision)
        return "fp32" if mixed == "no" else mixed

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as upstream does, with the name of a `metric_extract` that is a function."""
        return {**super().to_dict(), "metric_extract": extract_name(self.metric_extract)}

    def save_json(self, path: str | Path) -> None:
        """Write the arguments as JSON without tokens. Upstream's `training_args.bin` is a pickle that holds them."""
        write_whole(path, json.dumps(self.to_sanitized_arguments(), indent=2, sort_keys=True) + "\n")

    def to_sanitized_arguments(self) -> dict:
        """Return the arguments as JSON types, fit to be published.

        Tokens are left out, and so are settings of this machine that change no result. Paths are relative to the
        working folder, or shortened to their last part.

        Example:
            >>> args = ChartQATrainingArguments(output_dir="/home/me/out", use_cpu=True, hub_token="hf_secret")
            >>> public = args.to_sanitized_arguments()
            >>> public["output_dir"], "hub_token" in public
            ('out', False)
        """
        arguments = json.loads(self.to_json_string())
        kept = {key: value for key, value in arguments.items() if not key.endswith("token") and key not in _LOCAL}
        return public_values(kept)

    @classmethod
    def default_arguments(cls) -> dict[str, Any]:
        """Return the default of every field as JSON types, before `__post_init__` sets those that depend on others."""
        defaults = {}
        for argument in fields(cls):
            factory = argument.default_factory
            defaults[argument.name] = as_json(argument.default if factory is MISSING else factory())
        return defaults
