"""Fine-tune UniChart, or any Donut-like model, on ChartQA with the official recipe, and score it by generated answers.

One GPU (24 GB), the published model and data:

    accelerate launch examples/finetune_unichart.py \\
        --model_name_or_path ahmed-masry/unichart-base-960 --dataset_name HuggingFaceM4/ChartQA \\
        --output_dir out --gradient_accumulation_steps 2 --per_device_train_batch_size 4

Eight GPUs, and cheap evaluations on the way (greedy, 400 questions), the whole split with 4 beams at the end:

    accelerate launch --multi_gpu --num_processes 8 examples/finetune_unichart.py \\
        --model_name_or_path ahmed-masry/unichart-base-960 --output_dir out --per_device_train_batch_size 1 \\
        --generation_num_beams 1 --eval_subset 400 --final_num_beams 4

The original folder layout, a short run; going on after an interruption; all arguments in one YAML file:

    accelerate launch examples/finetune_unichart.py --dataset_name "ChartQA Dataset" --num_train_epochs 1
    accelerate launch examples/finetune_unichart.py --dataset_name "ChartQA Dataset" --num_train_epochs 1 \\
        --resume_from_checkpoint last
    accelerate launch examples/finetune_unichart.py config.yaml

It keeps the best checkpoint by relaxed accuracy and writes the model, `predictions.jsonl` and `metrics.json`.
"""

from __future__ import annotations

import json
import logging
import sys
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser
from transformers.utils.logging import disable_progress_bar

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

logger = logging.getLogger("chartqa_ft.finetune")
DEFAULTS = {
    "output_dir": "out",
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
    image_dir: str | None = field(default=None, metadata={"help": "Folder of the images that records only name."})
    train_split: str = field(default="train", metadata={"help": "Split to train on; 'train[:1000]' takes a part."})
    eval_split: str = field(default="val", metadata={"help": "Split to evaluate on."})
    on_error: str = field(default="raise", metadata={"help": "What to do with bad records: raise or skip."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many questions of the split."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate so many, in the split's mix."})
    prompt: str | None = field(
        default=None, metadata={"help": "How a question is put, with the field {question}. Unset: the model's own."}
    )
    max_length: int | None = field(
        default=512, metadata={"help": "Longest prompt + answer in tokens (recipe: 512); questions are cut to fit."}
    )
    on_long_answer: str = field(default="raise", metadata={"help": "raise, or warn and cut answers that do not fit."})
    compat: bool = field(
        default=True, metadata={"help": "Whether old checkpoints behave as in transformers 4.28.1, as authors demand."}
    )
    final_num_beams: int | None = field(
        default=None,
        metadata={"help": "Beams of the last evaluation, on the whole split. Unset: generation_num_beams."},
    )


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the lines of the text above, and shows the default of every argument."""


def as_arguments(name: str, value: Any) -> list[str]:
    """One entry of a YAML file as the command line has it, so that both mean the same (YAML takes 5e-5 for text)."""
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [] if value is None else [f"--{name}={json.dumps(value) if isinstance(value, dict) else value}"]


def parse(arguments: list[str]) -> tuple[ScriptArguments, ChartQATrainingArguments]:
    """The command line. It may begin with a YAML file of the same names; what follows the file wins over it."""
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        values = yaml.safe_load(Path(arguments[0]).read_text(encoding="utf-8")) or {}
        arguments = [part for key, value in values.items() for part in as_arguments(key, value)] + arguments[1:]
    parser = HfArgumentParser(
        (ScriptArguments, ChartQATrainingArguments),
        description=__doc__,
        usage="accelerate launch examples/finetune_unichart.py [config.yaml] [--ARGUMENT VALUE ...]",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(**DEFAULTS)
    try:
        return parser.parse_args_into_dataclasses(arguments)
    except ValueError as error:
        parser.error(str(error))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    script, args = parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    level = logging.INFO if args.should_log else logging.WARNING
    logging.getLogger("chartqa_ft").setLevel(logging.DEBUG if args.log_level == "debug" else level)
    disable_progress_bar()  # of loading and saving, not of training

    found = last_checkpoint(args.output_dir)
    resume = args.resume_from_checkpoint
    if found and not resume:
        raise SystemExit(f"{found} exists: go on with --resume_from_checkpoint last, or take another --output_dir")
    if resume in ("last", "true", "True"):
        resume = found
        if not found:
            logger.warning("%s holds no complete checkpoint: starting from the beginning", args.output_dir)

    def load(split: str, limit: int | None):
        records = load_chartqa(
            script.dataset_name,
            split=split,
            image_dir=script.image_dir,
            revision=script.dataset_revision,
            on_error=script.on_error,
        )
        return stratified_subset(records, limit, seed=args.seed) if limit else records

    try:
        with args.main_process_first(desc="loading data"):
            train = load(script.train_split, script.max_train_samples)
            evaluation = load(script.eval_split, script.max_eval_samples)
        model, processor, adapter = load_checkpoint(
            script.model_name_or_path,
            revision=script.model_revision,
            prompt=script.prompt,
            compat=None if script.compat else False,
        )
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    logger.info("%d questions to train on, %d to evaluate; from %s", len(train), len(evaluation), resume or "step 0")
    trainer = ChartQATrainer(
        model,
        args,
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=processor,
        adapter=adapter_for(
            model,
            processor,
            prompt=adapter.prompt,
            max_length=script.max_length,
            on_long_answer=script.on_long_answer,
        ),
    )
    result = trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()
    final = trainer.evaluate(
        metric_key_prefix="final", num_beams=script.final_num_beams or args.generation_num_beams or 1
    )
    metrics = {key.replace("final_", "eval_", 1): value for key, value in final.items()}
    if trainer.is_world_process_zero():
        output = Path(args.output_dir)
        answers = output / "predictions" / f"final-step-{trainer.state.global_step}.jsonl"
        if args.write_predictions:
            answers.replace(output / "predictions.jsonl")
        best = trainer.state.best_model_checkpoint
        report = {"arguments": asdict(script), **result.metrics, **metrics, "best_checkpoint": best}
        (output / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(format_table(metrics, prefix="eval_"))
        print(f"model, predictions.jsonl, metrics.json: {output}; best checkpoint: {best}")
    return metrics


if __name__ == "__main__":
    main()
