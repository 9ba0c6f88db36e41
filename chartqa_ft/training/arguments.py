"""`ChartQATrainingArguments`: those of `Seq2SeqTrainer`, with the official UniChart recipe as defaults."""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments

from ..evaluation.answer_queue import WINDOW
from ..files import parse_json, write_whole
from ..hub.credentials import masked
from ..hub.public import as_json, public_values
from ..metrics.extraction import extract_name
from .checks.argument_types import make_plain
from .checks.argument_values import FOLLOWING_A_METRIC, WITHOUT_WARMUP, accelerator_refusals, refusals, schedule_name
from .checks.findings import raise_all
from .parts import as_rates

logger = logging.getLogger(__name__)

RECIPE_STEPS = 40_000
RECIPE_WARMUP = 100

_LOCAL = ("chart_cache", "chart_cache_gb")
"""Arguments that concern this machine only and change no result. They are left out of cards and pushed files."""


def _switch(text: str) -> dict:
    """Return the metadata of a flag that may be unset; `--flag` without a value turns it on."""
    return {"help": text, "nargs": "?", "const": True}


def as_dict(value: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """Return a dict that may be given as JSON; `None` for an empty one.

    Example:
        >>> as_dict('{"table": 0.5}'), as_dict(None)
        ({'table': 0.5}, None)
    """
    return (parse_json(value) if isinstance(value, str) else value) or None


def _trackers(report_to: Any) -> Any:
    """Return `report_to` as upstream reads it: `None` would be taken for a tracker, and a command line has no list."""
    if report_to is None:
        return "none"
    if isinstance(report_to, str) and "," in report_to:
        report_to = [name.strip() for name in report_to.split(",") if name.strip()]
    return list(report_to) if isinstance(report_to, tuple) else report_to


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
        ValueError: generation_max_length=20 counts the prompt, ...: use generation_max_new_tokens
    """

    num_train_epochs: float | None = field(
        default=None,
        metadata={"help": "Epochs to train. Without this and max_steps: the recipe's 40,000 steps."},
    )
    """Epochs over the training split. `None` without `max_steps`: the recipe's 40,000 steps."""

    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule (recipe: cosine)."})
    """Learning-rate schedule. Recipe: cosine, from 0 over the warm-up to `learning_rate` and back to 0."""

    warmup_steps: float | None = field(
        default=None, metadata={"help": "Warm-up steps (recipe: 100); below 1, a share of all steps."}
    )
    """Steps of linear warm-up; a number below 1 is a share of all steps. `None`: the recipe's 100, or a tenth of all
    steps if the run has no more than 100, and none where the schedule has no warm-up (`constant`,
    `reduce_lr_on_plateau`, `greedy`)."""

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

    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "Checkpoint to resume from; last: the newest complete one in output_dir."},
    )
    """Checkpoint that the scripts resume from; `"last"` is the newest complete one in `output_dir`. In Python, pass a
    path or `True` to `train()`."""

    hub_strategy: str = field(
        default="end",
        metadata={"help": "end: push at the end; every_save, checkpoint, all_checkpoints: also during training."},
    )
    """When to push: at the `"end"`, or during training every saved model (`"every_save"`), also with the states to
    resume from (`"checkpoint"` in the folder last-checkpoint, `"all_checkpoints"` in one folder each). These states of
    the optimizer, the schedule and the random generators are the only pickles that are pushed."""

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

    task_max_new_tokens: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Longest answers of other tasks than qa, in tokens, as JSON such as '{\"table\": 1024}'."},
    )
    """Longest answers of other tasks than `qa` in evaluations, in tokens, such as `{"table": 1024}`; JSON on the
    command line. Tasks that are missing have their own, and `qa` has `generation_max_new_tokens`."""

    task_weights: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Weights of tasks in the loss as JSON, such as '{\"table\": 0.5}'; others have 1."},
    )
    """Weights of tasks in the loss, such as `{"table": 0.5}`; JSON on the command line. The loss of each answer token
    of the task is multiplied by it, and the sum is still divided by the number of all answer tokens of the step. Tasks
    that are missing have the weight 1."""

    freeze: list[str] | None = field(
        default=None,
        metadata={"help": "Parts of the model that are not trained: vision, projector, language."},
    )
    """Parts of the model that are not trained: `"vision"`, `"projector"`, `"language"` (see
    `chartqa_ft.models.parts.model_parts`). PEFT weights in such a part are not trained either."""

    learning_rates: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Learning rates of parts as JSON, such as '{\"vision\": 1e-5}'; others have learning_rate."},
    )
    """Learning rates of parts of the model, such as `{"vision": 1e-5, "projector": 1e-3}`; JSON on the command line.
    Parts that are missing have `learning_rate`. All follow the same schedule. Each is logged as
    `learning_rate_<part>`."""

    metric_variant: str = field(
        default="pix2struct", metadata={"help": "Variant of relaxed accuracy; see examples/evaluation.md."}
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

    on_bad_text: str = field(
        default="raise",
        metadata={
            "help": "What to do with records whose question or answer the model cannot take (control tokens, too "
            "long, not text): raise, or skip to leave them out and log how many."
        },
    )
    """What to do with records whose question or answer the model cannot take, because it holds control tokens, is too
    long or is no text: `"raise"`, or `"skip"` to leave them out and log how many. They are found before the first
    step. `predict` always raises, since it owes an answer to every record."""

    eval_subset: float | None = field(
        default=None,
        metadata={
            "help": "Number of questions (below 1: share) in evaluations during training, on whole charts, stratified "
            "by source."
        },
    )
    """Number of questions (below 1: share) in evaluations during training, stratified by source. All questions on a
    chart are chosen or none, since a chart is encoded once for all of them; the number may therefore differ by less
    than a chart has. A script's own `evaluate()` uses the whole split, and so does a callback's of other records."""

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
    none. Entries are only used for the same image, settings and library versions, and only by the user who wrote
    them. No pixel changes."""

    chart_cache_gb: float = field(
        default=10.0, metadata={"help": "Maximum size of the chart cache in units of 10^9 bytes."}
    )
    """Maximum size of `chart_cache` in units of 10^9 bytes. The 18,317 charts of ChartQA's training split take about
    2.3 at 960 pixels, estimated from 24 charts of its test split."""

    max_bad_steps: int = field(
        default=0,
        metadata={"help": "Steps with gradients of NaN or infinity that are skipped before the run stops."},
    )
    """Number of optimizer steps with gradients that are NaN or infinite which are skipped, without changing the
    weights, before the run stops. 0 stops at the first. Overflows that fp16 loss scaling skips do not count."""

    allow_inexact_resume: bool = field(
        default=False,
        metadata={"help": "Resume also without the optimizer's, the schedule's or the random state."},
    )
    """Resume also from a checkpoint that lacks a state of the run, that another number of processes saved, or that was
    trained on other records or in another order. The result then differs from that of an unbroken run."""

    write_predictions: bool = field(
        default=True, metadata={"help": "Write a file of predictions for every evaluation."}
    )
    """Write `predictions/<prefix>-step-<n>.jsonl` to the output folder for every evaluation. While an evaluation runs,
    and after one that did not end, the answers so far are in `<prefix>-step-<n>.unfinished.jsonl`, those of other
    processes than the first in `...unfinished-<rank>.jsonl`. Other records of a callback with
    the prefix `eval` get `...others.jsonl`."""

    default_warmup = math.nan
    """What `warmup_steps` was set to because it was left unset; NaN if it was given (not an argument)."""

    default_mode = ""
    """The `mode` in `lr_scheduler_kwargs` if `choose_mode` has set it (not an argument)."""

    def __post_init__(self) -> None:
        make_plain(self)
        self.report_to = _trackers(self.report_to)  # type: ignore[has-type]
        raise_all(refusals(self))
        self.freeze = [self.freeze] if isinstance(self.freeze, str) else self.freeze
        self.learning_rates = as_rates(self.learning_rates)
        self.task_weights, self.task_max_new_tokens = as_dict(self.task_weights), as_dict(self.task_max_new_tokens)
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
        raise_all(accelerator_refusals(self.accelerator_config))  # it may have been JSON, or the name of a file
        self.choose_mode()
        if self.accelerator_config.dispatch_batches is None:
            # Every rank reads streams. Dispatched batches would be split by rows, which separates rows from charts.
            self.accelerator_config.dispatch_batches = False
        if self.n_gpu > 1:
            raise ValueError(
                f"{self.n_gpu} GPUs in one process would split every batch with nn.DataParallel, which separates "
                "charts from their questions. Start one process per GPU: accelerate launch --multi_gpu "
                f"--num_processes {self.n_gpu} your_script.py ..., or make one GPU visible: CUDA_VISIBLE_DEVICES=0"
            )
        if self.uses_fsdp and self.device.type == "cpu":
            raise ValueError(
                "FSDP shards models over GPUs, and on a CPU every process would hold the whole model: leave out fsdp "
                "(accelerate launch --use_fsdp)"
            )

    def _choose_schedule(self) -> None:
        if self.num_train_epochs is None:
            self.num_train_epochs = 3.0
            if self.max_steps <= 0:  # type: ignore[has-type]
                self.max_steps = RECIPE_STEPS
        if self.warmup_steps is None:
            self.set_default_warmup(self.max_steps)

    @property
    def warmup_is_default(self) -> bool:
        """Whether `warmup_steps` was left unset."""
        return self.warmup_steps == self.default_warmup

    def set_default_warmup(self, steps: int) -> None:
        """Set the warm-up of a run of so many steps for which none was given; -1 for an unknown number."""
        if schedule_name(self) in WITHOUT_WARMUP:
            self.warmup_steps = 0
        else:
            self.warmup_steps = steps // 10 if 0 < steps <= RECIPE_WARMUP else RECIPE_WARMUP
        self.default_warmup = self.warmup_steps

    def choose_mode(self) -> None:
        """Tell a schedule that follows `metric_for_best_model` whether a greater one is better: it expects a loss.

        Raises:
            ValueError: `lr_scheduler_kwargs` says otherwise.
        """
        settings: dict[str, Any] = dict(as_dict(self.lr_scheduler_kwargs) or {})  # type: ignore[has-type]
        if settings.get("mode") == self.default_mode:  # chosen before the schedule or the metric was changed
            del settings["mode"]
        self.default_mode = ""
        if schedule_name(self) in FOLLOWING_A_METRIC:
            mode = "max" if self.greater_is_better else "min"
            if "mode" not in settings:
                settings["mode"] = self.default_mode = mode
            elif settings["mode"] != mode:
                raise ValueError(
                    f"mode={settings['mode']!r} in lr_scheduler_kwargs would lower the learning rate while "
                    f"metric_for_best_model={self.metric_for_best_model!r} gets better: leave mode out"
                )
        self.lr_scheduler_kwargs = settings or None

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
    def uses_deepspeed(self) -> bool:
        """Whether DeepSpeed trains, by the argument `deepspeed` or by `accelerate launch --use_deepspeed`."""
        return getattr(self, "deepspeed_plugin", None) is not None

    @property
    def uses_fsdp(self) -> bool:
        """Whether FSDP trains, by the argument `fsdp` or by `accelerate launch --use_fsdp`."""
        launched = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true", "yes")
        return bool(self.fsdp) or launched

    @property
    def precision(self) -> str:
        """The precision of the forward pass: "bf16", "fp16" or "fp32"."""
        mixed = str(self.mixed_precision)
        return "fp32" if mixed == "no" else mixed

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as upstream does, with the name of a `metric_extract` that is a function.

        Loggers and cards show it: upstream removes `hub_token` alone, here all secrets are, at any depth.
        """
        return masked({**super().to_dict(), "metric_extract": extract_name(self.metric_extract)})

    def __str__(self) -> str:
        """Return the arguments as text, without secrets at any depth."""
        lines = [f"{key}={value},\n" for key, value in sorted(masked(asdict(self)).items())]
        return f"{type(self).__name__}(\n{''.join(lines)})"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):  # `dataclass` would add one that shows secrets in nested arguments
            cls.__repr__ = ChartQATrainingArguments.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        shown = masked({argument.name: getattr(self, argument.name) for argument in fields(self) if argument.repr})
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def save_json(self, path: str | Path) -> None:
        """Write the arguments as JSON without secrets. Upstream's `training_args.bin` is a pickle that holds them."""
        write_whole(path, json.dumps(self.to_sanitized_arguments(), indent=2, sort_keys=True) + "\n")

    def to_sanitized_arguments(self) -> dict:
        """Return the arguments as JSON types, fit to be published.

        Secrets are left out at any depth, and so are settings of this machine that change no result. Paths are
        relative to the working folder, or shortened to their last part.

        Example:
            >>> args = ChartQATrainingArguments(output_dir="/home/me/out", use_cpu=True, hub_token="hf_secret")
            >>> public = args.to_sanitized_arguments()
            >>> public["output_dir"], "hub_token" in public
            ('out', False)
        """
        arguments = json.loads(self.to_json_string())
        kept = {key: value for key, value in arguments.items() if key not in _LOCAL}
        return public_values(kept)

    @classmethod
    def default_arguments(cls) -> dict[str, Any]:
        """Return the default of every field as JSON types, before `__post_init__` sets those that depend on others."""
        defaults = {}
        for argument in fields(cls):
            factory = argument.default_factory
            defaults[argument.name] = as_json(argument.default if factory is MISSING else factory())
        return defaults
