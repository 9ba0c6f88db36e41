"""Fine-tune a chart model on your own charts: a folder of images and a CSV with one question and answer per row.

    charts/sales.png        questions.csv:   image,question,answer
    charts/visits.png                        sales.png,What was sold most?,Tea
                                             sales.png,How many cups of tea were sold?,120
                                             visits.png,"In 2023, how many visits?","1,204"

    accelerate launch examples/finetune_own_data.py --dataset_name questions.csv --image_dir charts --output_dir out

A fifth of the charts is held out to score the model; no chart is used for both training and scoring. With a separate
file of questions to score the model on, other column names, and several GPUs:

    accelerate launch --multi_gpu --num_processes 4 examples/finetune_own_data.py --dataset_name train.csv \\
        --eval_data test.csv --image_dir charts --column_map image=file question=q answer=a --output_dir out

Another model, with LoRA to need less GPU memory; all arguments in one YAML file:

    accelerate launch examples/finetune_own_data.py --dataset_name questions.csv --image_dir charts --lora \\
        --model_name_or_path HuggingFaceTB/SmolVLM-256M-Instruct --output_dir out
    accelerate launch examples/finetune_own_data.py config.yaml

Rows may also have a `source`, human or augmented; the two are then scored separately too. An error message gives the
number of an invalid row; `--on_error skip` drops such rows and reports how many. The output folder contains the model,
`predictions.jsonl`, `metrics.json`, `curves.png` with losses and accuracies, and `answers.png` with some answers,
mistakes first; with `--report` also `report.html`, which shows every answer with its chart. To ask the model:

    model, processor, _ = chartqa_ft.load_checkpoint("out")
    chartqa_ft.answer_questions(model, processor, "charts/new.png", ["What was sold least?"])
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from chartqa_ft import ChartQATrainer, RecordError, default_lora_config, load_chartqa
from chartqa_ft.data import split_by_chart
from chartqa_ft.scripts import (
    DatasetArguments,
    ModelArguments,
    checkpoint_to_resume,
    load_model,
    one_line_errors,
    parse,
    parse_mapping,
    run_script,
    set_up_logging,
    train_and_score,
)

logger = logging.getLogger("chartqa_ft.finetune")
OLD_NAMES = {"data": "dataset_name"}
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


@dataclass
class ScriptArguments(DatasetArguments, ModelArguments):
    """Which model to train, on which file of questions."""

    dataset_name: str = field(
        default="questions.csv",
        metadata={"help": "CSV, JSON, JSONL or Parquet file with questions, or a data set on the Hub."},
    )
    eval_data: str | None = field(
        default=None, metadata={"help": "Questions to score the model on, in the same format as dataset_name."}
    )
    held_out: float = field(default=0.2, metadata={"help": "Share of the charts to score on if eval_data is unset."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the draw of these charts."})
    lora: bool = field(default=False, metadata={"help": "Train LoRA weights; the default learning rate is then 1e-4."})


def load(script: ScriptArguments, data: str, revision: str | None = None) -> Dataset:
    """Load the questions of one file. Errors number an invalid row as a spreadsheet does."""
    try:
        loaded = load_chartqa(
            data,
            image_dir=script.image_dir,
            column_map=parse_mapping(script.column_map),
            on_error=script.on_error,
            revision=revision,
        )
    except RecordError as error:
        row = f"row {error.index + 2}" if data.endswith((".csv", ".tsv")) else f"record {error.index + 1}"
        advice = "Fix it (see --image_dir for charts), or skip such rows with --on_error skip"
        raise ValueError(f"{data}, {row}: {error.reason}: {error.cause}. {advice}") from error
    if len(loaded) > 1:
        raise ValueError(f"{data} has several splits ({', '.join(loaded)}): use --dataset_name with a single file")
    return next(iter(loaded.values()))


def data_facts(script: ScriptArguments) -> dict[str, str]:
    """Return what the model card says about the data: file names without their folders, or a name on the Hub."""
    data = Path(script.dataset_name)
    scored = f"{script.held_out:.0%} of its charts, held out (split_seed {script.split_seed})"
    return {
        "dataset": data.name if data.suffix else script.dataset_name,
        "eval_split": Path(script.eval_data).name if script.eval_data else scored,
    }


def main(arguments: list[str] | None = None) -> dict[str, float]:
    script, args = parse(
        arguments,
        ScriptArguments,
        description=__doc__,
        usage="accelerate launch examples/finetune_own_data.py [config.yaml] [--ARGUMENT VALUE ...]",
        defaults=DEFAULTS,
        defaults_with={"lora": {True: {"learning_rate": 1e-4}}},
        aliases=OLD_NAMES,
    )
    set_up_logging(args)
    resume = checkpoint_to_resume(args)
    with one_line_errors():
        with args.main_process_first(desc="loading data"):
            train = load(script, script.dataset_name, script.dataset_revision)
            if script.eval_data:
                evaluation = load(script, script.eval_data)
            else:
                train, evaluation = split_by_chart(train, script.held_out, seed=script.split_seed)
        model, processor, adapter = load_model(script, args, frozen=script.lora)
        peft_config = None
        if script.lora and not hasattr(model, "peft_config"):  # LoRA weights of a checkpoint are trained further
            peft_config = default_lora_config(model, revision=script.model_revision)
        trainer = ChartQATrainer(model, args, train, evaluation, processor, adapter, peft_config)
    trainer.card_facts |= data_facts(script)
    return train_and_score(trainer, script, resume)


if __name__ == "__main__":
    run_script(main)
