"""Fine-tune a chart model on your own charts: a folder of images and a CSV with a question and an answer a row.

    charts/sales.png        questions.csv:   image,question,answer
    charts/visits.png                        sales.png,What was sold most?,Tea
                                             sales.png,How many cups of tea were sold?,120
                                             visits.png,"In 2023, how many visits?","1,204"

    accelerate launch examples/finetune_own_data.py --data questions.csv --image_dir charts --output_dir out

A fifth of the charts is held out to score the model: no chart is trained on and scored. Or name the questions that
score it; other column names; several GPUs:

    accelerate launch --multi_gpu --num_processes 4 examples/finetune_own_data.py --data train.csv \\
        --eval_data test.csv --image_dir charts --column_map image=file question=q answer=a --output_dir out

Any other model; with LoRA where the GPU is small for it; all arguments in one YAML file:

    accelerate launch examples/finetune_own_data.py --data questions.csv --image_dir charts --lora \\
        --model_name_or_path HuggingFaceTB/SmolVLM-256M-Instruct --output_dir out
    accelerate launch examples/finetune_own_data.py config.yaml

Rows may also say a `source`, human or augmented, to be scored apart. A bad row is named; `--on_error skip` leaves such
rows out and counts them. The score, `predictions.jsonl`, `metrics.json`, the model and `answers.png`, a picture of
some answers, are in the output folder; ask the model with

    model, processor, _ = chartqa_ft.load_checkpoint("out")
    chartqa_ft.answer_questions(model, processor, "charts/new.png", ["What was sold least?"])
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from chartqa_ft import ChartQATrainer, RecordError, default_lora_config, load_chartqa, read_predictions
from chartqa_ft.data import split_by_chart
from chartqa_ft.reporting import draw_answers
from chartqa_ft.scripts import (
    ModelArguments,
    checkpoint_to_resume,
    load_model,
    one_line_errors,
    parse,
    parse_mapping,
    run_script,
    set_up_logging,
    train_and_score,
    trainable_share,
)

logger = logging.getLogger("chartqa_ft.finetune")
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
DRAWN = 12


@dataclass
class ScriptArguments(ModelArguments):
    """Which model learns from which file of questions."""

    data: str = field(default="questions.csv", metadata={"help": "CSV (or JSON, JSON lines, Parquet) of questions."})
    image_dir: str | None = field(default=None, metadata={"help": "Folder of the charts. Unset: that of the CSV."})
    eval_data: str | None = field(default=None, metadata={"help": "Questions that score the model, as in --data."})
    held_out: float = field(default=0.2, metadata={"help": "Share of charts to score on where eval_data is unset."})
    split_seed: int = field(default=0, metadata={"help": "Which charts those are."})
    column_map: list[str] | None = field(
        default=None, metadata={"help": "Columns with names of their own, as in: image=file question=q answer=a"}
    )
    on_error: str = field(default="raise", metadata={"help": "What to do with bad rows: raise or skip."})
    lora: bool = field(default=False, metadata={"help": "Train a LoRA adapter; the learning rate is then 1e-4."})


def load(script: ScriptArguments, data: str) -> Dataset:
    """The questions of one file; a bad row ends the script and is named as a spreadsheet numbers it."""
    names: Mapping[str, str] | None = parse_mapping(script.column_map)
    try:
        loaded = load_chartqa(data, image_dir=script.image_dir, column_map=names, on_error=script.on_error)
    except RecordError as error:
        row = f"row {error.index + 2}" if data.endswith((".csv", ".tsv")) else f"record {error.index + 1}"
        advice = "Mend it (see --image_dir for charts), or leave such rows out: --on_error skip"
        raise ValueError(f"{data}, {row}: {error.reason}: {error.cause}. {advice}") from error
    if len(loaded) > 1:
        raise ValueError(f"{data} holds several splits ({', '.join(loaded)}): name one file with --data")
    return next(iter(loaded.values()))


def data_facts(script: ScriptArguments) -> dict[str, str]:
    """What the model's card says about the data: names of files, never the folders that they lie in."""
    scored = f"{script.held_out:.0%} of its charts, held out (split_seed {script.split_seed})"
    return {
        "dataset": Path(script.data).name,
        "eval_split": Path(script.eval_data).name if script.eval_data else scored,
    }


def main(arguments: list[str] | None = None) -> dict[str, float]:
    script, args = parse(
        sys.argv[1:] if arguments is None else arguments,
        ScriptArguments,
        description=__doc__,
        usage="accelerate launch examples/finetune_own_data.py [config.yaml] [--ARGUMENT VALUE ...]",
        defaults=DEFAULTS,
        defaults_with={"lora": {"learning_rate": 1e-4}},
    )
    set_up_logging(args)
    resume = checkpoint_to_resume(args)
    with one_line_errors():
        with args.main_process_first(desc="loading data"):
            train = load(script, script.data)
            if script.eval_data:
                evaluation = load(script, script.eval_data)
            else:
                train, evaluation = split_by_chart(train, script.held_out, seed=script.split_seed)
        model, processor, adapter = load_model(script, args, frozen=script.lora)
        peft_config = default_lora_config(model, revision=script.model_revision) if script.lora else None
        trainer = ChartQATrainer(model, args, train, evaluation, processor, adapter, peft_config)
    trainer.card_facts |= data_facts(script)
    logger.info("%s", trainable_share(trainer.model))
    metrics = train_and_score(trainer, script, resume)
    answers = Path(args.output_dir) / "predictions.jsonl"
    if trainer.is_world_process_zero() and args.write_predictions:
        rows = read_predictions(answers)
        rows = rows[:: max(1, len(rows) // DRAWN)][:DRAWN]
        pictures = [{**row, "image": evaluation[row["index"]]["image"]} for row in rows]
        print(f"some answers: {draw_answers(pictures, answers.with_name('answers.png'))}")
    return metrics


if __name__ == "__main__":
    run_script(main)
