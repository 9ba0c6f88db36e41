"""The arguments of `ChartQATrainer`: those of `Seq2SeqTrainer`, with the official UniChart recipe as defaults."""

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
from ..hub.public import as_json, public_values
from ..metrics.correctness import variant_name

logger = logging.getLogger(__name__)

RECIPE_STEPS = 40_000

_LOCAL = ("chart_cache", "chart_cache_gb")
"""Arguments of this machine alone, which change no result: they are in no card and no pushed file."""


def _switch(text: str) -> dict:
    """Metadata of a flag that may be unset: `--flag` alone turns it on, as every plain flag does."""
    return {"help": text, "nargs": "?", "const": True}


@dataclass
class ChartQATrainingArguments(Seq2SeqTrainingArguments):
    """Everything `Seq2SeqTrainingArguments` takes, and what reading charts needs beside it.

    The defaults are those of the official ChartQA fine-tuning of UniChart (vis-nlp/UniChart): Adam (AdamW without
    weight decay is the same), learning rate 5e-5, cosine schedule with 100 warm-up steps, gradient norm clipped at
    1.0, batches of 8, 40,000 steps, random padding of training charts, validation by search with 4 beams. The recipe's
    fp16 becomes the best precision of the device.

    Raises:
        ValueError: a combination that would silently do something else than asked; the message says what to do.
    """

    num_train_epochs: float | None = field(
        default=None,
        metadata={"help": "Epochs to train. Without this and max_steps, the recipe's 40,000 steps are taken."},
    )
    """Epochs over the training split; `None` and no `max_steps`: the recipe's 40,000 steps."""

    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule (recipe: cosine)."})
    """Learning-rate schedule. Recipe: cosine, from 0 over the warm-up to `learning_rate` and back to 0."""

    warmup_steps: float = field(default=100, metadata={"help": "Warm-up steps, or a share of all steps below 1."})
    """Steps of linear warm-up (recipe: 100), or a share of all steps if below 1."""

    bf16: bool | None = field(
        default=None,
        metadata=_switch("bfloat16 mixed precision. Unset with fp16 unset: the best that the device has."),
    )
    """bfloat16 mixed precision. `None` with `fp16=None`: bf16 on GPUs that support it, fp16 on others, else fp32."""

    fp16: bool | None = field(default=None, metadata=_switch("float16 mixed precision (GPU only). See bf16."))
    """float16 mixed precision, for GPUs alone: on a CPU it would be accepted upstream and do nothing."""

    activation_checkpointing: bool | None = field(
        default=None, metadata=_switch("Compute activations again in the backward pass: less memory, more time.")
    )
    """Compute activations again in the backward pass: less memory, more time. Upstream's own name from 5.23 on."""

    activation_checkpointing_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Its settings as JSON, such as every_n_layers."}
    )
    """Its settings, such as `{"every_n_layers": 2}`; on the command line as JSON. Upstream's name from 5.23 on."""

    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Must stay off: a run that went wrong shows NaN in its log."}
    )
    """Must stay `False`: the log shows what was computed, so that a run that went wrong says so."""

    hub_strategy: str = field(
        default="end",
        metadata={"help": "end: push at the end; every_save, checkpoint, all_checkpoints: also while training."},
    )
    """When to push: `"end"`, or while training every saved model (`"every_save"`), also with the states to resume from
    (`"checkpoint"` in the folder last-checkpoint, `"all_checkpoints"` in one each)."""

    hub_token: str | None = field(
        default=None,
        repr=False,
        metadata={"help": "Token to push with. Unset: the one of hf auth login, or HF_TOKEN."},
    )
    """Token of the Hub to push with; `None`: the one that is logged in. No representation shows it, here nor in a
    dataclass that is derived from this one."""

    hub_create_pr: bool = field(
        default=False, metadata={"help": "Push as a pull request to somebody else's hub_model_id."}
    )
    """Push as a pull request to the repository `hub_model_id`, which need not be one's own."""

    push_merged: bool = field(default=False, metadata={"help": "Push a PEFT adapter merged into its base model."})
    """Push a PEFT adapter merged into its base model."""

    push_predictions: bool = field(default=False, metadata={"help": "Push predictions.jsonl with the model."})
    """Push the answers of the last evaluation, `predictions.jsonl`, with the model."""

    push_images: bool = field(
        default=False,
        metadata={"help": "Show three charts of the evaluation on the card. Only if you may publish them."},
    )
    """Show three evaluated charts on the model's card. Only if you may publish them: ChartQA's own are not yours."""

    logging_steps: float = field(default=50, metadata={"help": "Log the loss every so many steps."})
    """Steps between two lines of the log; each reports the token-exact loss of the steps since the last one."""

    predict_with_generate: bool = field(
        default=True, metadata={"help": "Evaluate by generated answers and relaxed accuracy, not by the loss alone."}
    )
    """Evaluate by generating answers and scoring them with relaxed accuracy; `False`: the loss alone."""

    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay off: the collator reads the columns."}
    )
    """Must stay `False`: the collator reads the records' own columns."""

    generation_num_beams: int | None = field(
        default=4, metadata={"help": "Beams of evaluations (recipe: 4; 1: greedy)."}
    )
    """Beams at evaluation. Recipe: 4; 1 is greedy and much cheaper while training."""

    generation_max_new_tokens: int = field(default=128, metadata={"help": "Longest answer in tokens at evaluation."})
    """Longest answer in tokens. (`generation_max_length` counts the prompt as well and is refused.)"""

    metric_variant: str = field(
        default="pix2struct", metadata={"help": "Variant of relaxed accuracy, see the README."}
    )
    """Which relaxed accuracy `eval_relaxed_accuracy` is; see `chartqa_ft.relaxed_correctness`."""

    eval_subset: float | None = field(
        default=None,
        metadata={
            "help": "Evaluations while training use this many questions (or share below 1), stratified by source."
        },
    )
    """Questions (or share, below 1) of each evaluation while training, stratified by source. `evaluate()` called by a
    script always takes the whole split."""

    eval_window: int = field(
        default=WINDOW,
        metadata={"help": "Batches of an evaluation whose questions may wait for others of the same length."},
    )
    """Batches of an evaluation whose questions may wait for others of the same length, to be answered together, where
    the model needs that (UniChart, Donut). More take fewer calls and memory for the encoded charts of so many batches
    (at 960 pixels 900 x 1024 numbers each); 1 answers every batch by itself. It changes no answer."""

    group_by_chart: bool | None = field(
        default=None,
        metadata=_switch("Encode each chart once for all its questions in a batch. Unset: where possible."),
    )
    """Batch the questions of a chart together and encode it once. `None`: where the model's adapter can. Such rows
    share the encoder's dropout mask and a batch holds fewer distinct charts than the recipe's; `False` restores it."""

    pack_questions: bool | None = field(
        default=None,
        metadata=_switch("Train all questions of a chart in a batch as one sequence. Unset: where it is exact."),
    )
    """Train the questions of a chart as one sequence that holds it once, where none sees another: the same losses for
    less time. `None`: with `group_by_chart`, for LLaVA 1.5, LLaVA-Next, Idefics3, SmolVLM and InternVL, whose losses
    tests compare, without `torch_compile`. `True`: for any decoder-only model with causal attention to all tokens and
    rotary positions of one dimension. Evaluations have a row per question always."""

    chunk_encoder: bool = field(
        default=True,
        metadata={"help": "Compute a Donut encoder's blocks a few windows at a time on a CPU: less memory and time."},
    )
    """Compute each block of a Donut encoder (UniChart) a few windows at a time where it runs on a CPU in 32 bits: half
    the memory and less time for the same values and gradients to float precision. Second derivatives and `torch.func`
    need `False`, upstream's own way."""

    random_padding: bool | None = field(
        default=None,
        metadata=_switch("Place training charts at random on their canvas. Unset: where the processor pads."),
    )
    """The recipe's training augmentation. `None`: on for processors that pad charts to a fixed canvas (Donut)."""

    chart_cache: str = field(
        default="auto",
        metadata={"help": "Folder that keeps resized charts. auto: beneath HF_HOME where it pays; off: none."},
    )
    """Folder that keeps resized charts from one epoch or run to the next. `"auto"`: `chartqa_ft/charts` beneath
    `HF_HOME`, for models with a plain processor (UniChart, Donut) and pictures of more than 200 x 200 pixels; `"off"`:
    none. Another image, other settings and other versions of the libraries find no old chart. It changes no pixel."""

    chart_cache_gb: float = field(default=10.0, metadata={"help": "Bound of the chart cache in units of 10^9 bytes."})
    """Bound of `chart_cache` in units of 10^9 bytes. 18,317 charts, as ChartQA's training split has, take 2.3 at 960
    pixels if they are like the 24 of its test split that were measured."""

    write_predictions: bool = field(default=True, metadata={"help": "Write a predictions file for every evaluation."})
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
        if wants_best and self.metric_for_best_model is None:
            self.metric_for_best_model = "relaxed_accuracy" if self.predict_with_generate else "loss"
        super().__post_init__()
        if self.accelerator_config.dispatch_batches is None:
            # Streams are read by every rank: dispatched batches would be cut and glued by rows, charts torn off.
            self.accelerator_config.dispatch_batches = False
        if self.n_gpu > 1:
            raise ValueError(
                f"{self.n_gpu} GPUs in one process would split every batch with nn.DataParallel, which tears charts "
                "from their questions. Start one process per GPU: accelerate launch --multi_gpu --num_processes "
                f"{self.n_gpu} your_script.py ..., or show one GPU alone: CUDA_VISIBLE_DEVICES=0"
            )
        if self.eval_strategy == IntervalStrategy.NO and self.load_best_model_at_end:
            raise ValueError("load_best_model_at_end needs evaluations: set eval_strategy to 'steps' or 'epoch'")

    def _refuse(self) -> None:
        variant_name(self.metric_variant)
        """Combinations that would silently do something else than asked."""
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
                "average_tokens_across_devices=False lets the update depend on the number of ranks: leave it True",
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
                "prediction_loss_only=True: use predict_with_generate=False, which evaluates the loss alone",
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
            if self.max_steps <= 0:
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
        return {"no": "fp32"}.get(self.mixed_precision, self.mixed_precision)

    def save_json(self, path: str | Path) -> None:
        """Write the arguments as JSON without tokens, in place of upstream's pickle that holds them."""
        Path(path).write_text(
            json.dumps(self.to_sanitized_arguments(), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )

    def to_sanitized_arguments(self) -> dict:
        """The arguments as JSON types, as they may be published: without any token, without where charts are kept,
        which changes nothing, and of paths on this machine what lies in the working folder, or the last part."""
        arguments = json.loads(self.to_json_string())
        kept = {key: value for key, value in arguments.items() if not key.endswith("token") and key not in _LOCAL}
        return public_values(kept)

    @classmethod
    def default_arguments(cls) -> dict[str, Any]:
        """Return the default of every field as JSON types, before `__post_init__` fills in what depends on others."""
        defaults = {}
        for argument in fields(cls):
            has_factory = argument.default_factory is not MISSING
            defaults[argument.name] = as_json(argument.default_factory() if has_factory else argument.default)
        return defaults
