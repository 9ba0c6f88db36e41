"""Fine-tune a chart model on your own charts: a folder of images and a CSV with one question and answer per row.

    accelerate launch -q -m chartqa_ft.scripts.finetune_own_data --dataset_name questions.csv --image_dir charts \\
        --output_dir out --baseline

A fifth of the charts is held out to score the model; no chart is used for both training and scoring. The output
folder contains the model, `predictions.jsonl`, `metrics.json`, `curves.png`, `answers.png` with some answers, and
`split.json`, the held-out charts, for `--split_file` of later commands.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import MixedDataArguments, ModelArguments
from .help_text import EVALUATION, HUB, MODEL, TRAINING
from .parsing import parse
from .process import run_script, usage

if TYPE_CHECKING:
    from datasets import Dataset

    from ..training.arguments import ChartQATrainingArguments

logger = logging.getLogger("chartqa_ft.finetune")
OLD_NAMES = {"data": "dataset_name"}
DRAWN_BY = {"held_out": 0.2, "split_seed": 0}
"""Arguments of the draw of charts to score on, with what they are if they are unset."""
DEFAULTS = {
    "output_dir": "out",
    "num_train_epochs": 10,
    "warmup_steps": 0.1,
    "generation_num_beams": 1,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "logging_steps": 10,
}
FIRST = {
    "Model": (*MODEL, "lora"),
    "Data": ("dataset_name", "image_dir", "column_map", "on_error", "eval_data", "held_out", "split_file"),
    "Training": TRAINING,
    "Evaluation": EVALUATION,
    "Hub and logs": HUB,
}


@dataclass
class ScriptArguments(MixedDataArguments, ModelArguments):
    """Which model to train, on which file of questions."""

    dataset_name: str = field(
        default="questions.csv",
        metadata={
            "help": "CSV, JSON, JSONL or Parquet file with questions, or a data set on the Hub. Several are mixed; "
            "the model is scored on held-out charts of the first.",
            "nargs": "+",
        },
    )
    eval_data: str | None = field(
        default=None, metadata={"help": "Questions to score the model on, in the same format as dataset_name."}
    )
    held_out: float | None = field(
        default=None,
        metadata={"help": "Share of the charts to score on without --eval_data and --split_file. Unset: 0.2."},
    )
    split_seed: int | None = field(default=None, metadata={"help": "Seed of the draw of these charts. Unset: 0."})
    lora: bool = field(default=False, metadata={"help": "Train LoRA weights; the default learning rate is then 1e-4."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eval_data and self.split_file:
            raise ValueError("--eval_data and --split_file both say what to score the model on: leave out one of them")
        chosen_by = "eval_data" if self.eval_data else "split_file" if self.split_file else None
        drawn_by = [f"--{name}" for name in DRAWN_BY if getattr(self, name) is not None]
        if chosen_by and drawn_by:
            raise ValueError(
                f"--{chosen_by} says what to score the model on, so that no charts are drawn: leave out "
                f"{' and '.join(drawn_by)}"
            )


def load(
    script: ScriptArguments, args: ChartQATrainingArguments, resume: str | None = None
) -> tuple[Dataset, Dataset]:
    """Return the records to train on and the records to score, and write `split.json` if a split was drawn.

    Args:
        script: Which file of questions, and how to hold charts out. Its `held_out` and `split_seed` are set to those
            that were used.
        args: `output_dir` gets `split.json`, from the main process. With `on_error="skip"` of `script`, `on_bad_text`
            becomes "skip" too.
        resume: A checkpoint to resume from, whose training holds out the same charts as before.

    Raises:
        ValueError: See `load_chartqa`, which raises errors of other types too.
    """
    from ..data import split_by_chart
    from ..data.stored_columns import column_values
    from .held_out import SPLIT_NAME, read_drawn, resumed_split, split_by_file, write_split
    from .loading import load_single_split, mixed, skip_bad_texts

    skip_bad_texts(script, args)
    with args.main_process_first(desc="loading data"):
        given = {name: getattr(script, name) for name in DRAWN_BY}
        held_out = None
        if resume is not None and not script.eval_data:
            held_out = resumed_split(resume, given, script.split_file)
        records = load_single_split(script, script.dataset_name, script.dataset_revision)
        drawn = None
        if script.eval_data:
            train, evaluation = records, load_single_split(script, script.eval_data)
        elif script.split_file or held_out:
            if not script.split_file:
                drawn = read_drawn(str(held_out))
                script.split_file = None if drawn else str(held_out)
            train, evaluation = split_by_file(records, script.split_file or str(held_out), script.dataset_name)
        else:
            drawn = {name: default if given[name] is None else given[name] for name, default in DRAWN_BY.items()}
            train, evaluation = split_by_chart(records, drawn["held_out"], seed=int(drawn["split_seed"]))
        for name, value in (drawn or {}).items():
            setattr(script, name, value)
        if script.other_datasets:
            others = {name: load_single_split(script, name) for name in script.other_datasets}
            train = mixed(script, train, others, without=evaluation, seed=args.seed)
        path = Path(args.output_dir) / SPLIT_NAME
        is_there = held_out is not None and path.exists() and path.samefile(held_out)
        if args.should_save and script.check != "True" and not script.eval_data and not is_there:
            write_split(path, column_values(evaluation, "chart_id"), drawn)
            logger.info("held-out charts, for --split_file of later commands: %s", path)
    return train, evaluation


def data_facts(script: ScriptArguments) -> dict[str, str]:
    """Return what the model card says about the data: file names without their folders, or a name on the Hub."""
    from ..hub.card.training_data import evaluation_data

    data = Path(script.dataset_name)
    return {
        "dataset": data.name if data.suffix else script.dataset_name,
        "eval_split": evaluation_data(vars(script)) or "",
    }


def main(
    arguments: list[str] | None = None, *, description: str | None = __doc__, program: str | None = None
) -> dict[str, float]:
    """Parse a command line (`None`: that of this process), then train and score a model; return its metrics."""
    return train(
        *parse(
            arguments,
            ScriptArguments,
            description=description,
            usage=usage("finetune_own_data", program),
            defaults=DEFAULTS,
            defaults_with={
                "lora": {True: {"learning_rate": 1e-4}},
                # These have no warm-up.
                "lr_scheduler_type": {
                    name: {"warmup_steps": None} for name in ("constant", "reduce_lr_on_plateau", "greedy")
                },
            },
            aliases=OLD_NAMES,
            first=FIRST,
        )
    )


def train(script: ScriptArguments, args: ChartQATrainingArguments) -> dict[str, float]:
    """Train and score a model as the arguments say, and return its metrics."""
    from ..models.lora import default_lora_config
    from ..training.trainer import ChartQATrainer
    from .loading import load_model
    from .running import checkpoint_to_resume, one_line_errors, set_up_logging, train_and_score

    set_up_logging(args)
    resume = checkpoint_to_resume(args, script.check)
    with one_line_errors():
        records, evaluation = load(script, args, resume)
        model, processor, adapter = load_model(script, args, frozen=script.lora)
        peft_config = None
        if script.lora and not hasattr(model, "peft_config"):  # LoRA weights of a checkpoint are trained further
            peft_config = default_lora_config(model, revision=script.model_revision)
        trainer = ChartQATrainer(model, args, records, evaluation, processor, adapter, peft_config)
    trainer.card_facts |= data_facts(script)
    return train_and_score(trainer, script, resume)


if __name__ == "__main__":
    run_script(main)
