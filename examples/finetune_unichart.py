"""Fine-tune UniChart, or any Donut-like model, on ChartQA with the official recipe, and score it by generated answers.

One GPU (24 GB), the published model and data:

    accelerate launch examples/finetune_unichart.py \
        --model_name_or_path ahmed-masry/unichart-base-960 --dataset_name HuggingFaceM4/ChartQA \
        --output_dir out --gradient_accumulation_steps 2 --per_device_train_batch_size 4

Eight GPUs, and cheap evaluations on the way (greedy, 400 questions), the whole split with 4 beams at the end:

    accelerate launch --multi_gpu --num_processes 8 examples/finetune_unichart.py \
        --model_name_or_path ahmed-masry/unichart-base-960 --output_dir out --per_device_train_batch_size 1 \
        --generation_num_beams 1 --eval_subset 400 --final_num_beams 4

The original folder layout, a short run, going on after an interruption; all arguments may stand in one YAML file:

    accelerate launch examples/finetune_unichart.py --dataset_name "ChartQA Dataset" --output_dir out \
        --num_train_epochs 1 --resume_from_checkpoint last
    accelerate launch examples/finetune_unichart.py config.yaml

It keeps the best checkpoint by relaxed accuracy, and writes `predictions.jsonl` and `metrics.json` beside the model.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from chartqa_ft import (
    ChartQATrainer,
    ChartQATrainingArguments,
    adapter_for,
    format_table,
    load_chartqa,
    load_checkpoint,
    stratified_subset,
)
from chartqa_ft.running_loss import last_checkpoint

DEFAULTS = {
    "eval_strategy": "steps",
    "eval_steps": 1000,
    "save_steps": 1000,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
}


@dataclass
class ScriptArguments:
    """Which model learns from which charts."""

    model_name_or_path: str = field(
        default="ahmed-masry/unichart-base-960", metadata={"help": "A checkpoint folder or a model on the Hub."}
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    dataset_name: str = field(
        default="HuggingFaceM4/ChartQA",
        metadata={"help": "A data set on the Hub, the folder of the original layout, or a JSON/CSV/Parquet file."},
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub data set."})
    image_dir: str | None = field(
        default=None, metadata={"help": "Folder of the images where records only name them."}
    )
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str = field(default="val", metadata={"help": "Split to evaluate on."})
    on_error: str = field(default="raise", metadata={"help": "What to do with bad records: raise or skip."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use so many questions, both sources kept."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use so many questions, both sources kept."})
    prompt: str | None = field(default=None, metadata={"help": "How a question is put, with the field {question}."})
    max_length: int | None = field(
        default=512, metadata={"help": "Longest prompt + answer in tokens (recipe: 512); questions are cut to fit."}
    )
    on_long_answer: str = field(default="raise", metadata={"help": "raise, or warn and cut answers that do not fit."})
    compat: bool = field(
        default=True,
        metadata={"help": "Old checkpoints behave as in transformers 4.28.1, which their authors demand."},
    )
    final_num_beams: int | None = field(
        default=None,
        metadata={"help": "Beams of the last evaluation, on the whole split. Unset: generation_num_beams."},
    )


def parse(arguments: list[str]) -> tuple[ScriptArguments, ChartQATrainingArguments]:
    """The command line, or one YAML file with the same names."""
    parser = HfArgumentParser((ScriptArguments, ChartQATrainingArguments), description=__doc__)
    if len(arguments) == 1 and arguments[0].endswith((".yaml", ".yml")):
        values = yaml.safe_load(Path(arguments[0]).read_text(encoding="utf-8")) or {}
        return parser.parse_dict({**DEFAULTS, **values})
    parser.set_defaults(**DEFAULTS)
    return parser.parse_args_into_dataclasses(arguments)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    script, args = parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        level=args.get_process_log_level() if args.should_log else logging.WARNING,
    )
    logging.getLogger("chartqa_ft").setLevel(
        logging.DEBUG if args.log_level == "debug" else logging.INFO if args.should_log else logging.WARNING
    )
    found = last_checkpoint(args.output_dir)
    if found and not args.resume_from_checkpoint:
        raise SystemExit(f"{found} exists: go on with --resume_from_checkpoint last, or take another --output_dir")

    with args.main_process_first(desc="loading data"):
        data = load_chartqa(
            script.dataset_name, image_dir=script.image_dir, revision=script.dataset_revision, on_error=script.on_error
        )
    train, evaluation = data[script.train_split], data[script.eval_split]
    if script.max_train_samples:
        train = stratified_subset(train, script.max_train_samples, seed=args.seed)
    if script.max_eval_samples:
        evaluation = stratified_subset(evaluation, script.max_eval_samples, seed=args.seed)

    model, processor, _ = load_checkpoint(
        script.model_name_or_path, revision=script.model_revision, compat=None if script.compat else False
    )
    adapter = adapter_for(
        model, processor, prompt=script.prompt, max_length=script.max_length, on_long_answer=script.on_long_answer
    )
    trainer = ChartQATrainer(
        model,
        args,
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
        adapter=adapter,
    )
    resume = args.resume_from_checkpoint
    result = trainer.train(resume_from_checkpoint=found if resume in ("last", "true", "True") else resume)
    trainer.save_model()
    metrics = trainer.evaluate(num_beams=script.final_num_beams or args.generation_num_beams)
    if trainer.is_world_process_zero():
        output = Path(args.output_dir)
        last = output / "predictions" / f"eval-step-{trainer.state.global_step}.jsonl"
        (output / "predictions.jsonl").write_bytes(last.read_bytes())
        report = {"train": result.metrics, "eval": metrics, "best_checkpoint": trainer.state.best_model_checkpoint}
        (output / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(format_table(metrics, prefix="eval_"))
    return metrics


if __name__ == "__main__":
    main()
