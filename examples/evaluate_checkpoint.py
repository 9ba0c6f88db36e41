"""Evaluate any checkpoint on any split of ChartQA: relaxed accuracy per source, with 95 % intervals.

    accelerate launch examples/evaluate_checkpoint.py --model_name_or_path ahmed-masry/unichart-chartqa-960 \\
        --output_dir scores

    accelerate launch --multi_gpu --num_processes 4 examples/evaluate_checkpoint.py \\
        --model_name_or_path out --dataset_name "ChartQA Dataset" --eval_split test --output_dir scores

    accelerate launch examples/evaluate_checkpoint.py --model_name_or_path out --eval_split val \\
        --metric_variant lenient --generation_num_beams 1 --output_dir scores_lenient

All arguments may also be in one YAML file:

    accelerate launch examples/evaluate_checkpoint.py config.yaml

It prints the table that papers quote ("mean of splits" is their average) and writes `predictions.jsonl`,
`metrics.json` and `answers.png`; with `--report` also `report.html`, which shows every answer with its chart.
`chartqa_ft.compare_predictions` tests whether two such runs differ by more than chance.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from transformers.utils.logging import disable_progress_bar

from chartqa_ft import ChartQATrainer, ChartQATrainingArguments, format_table, load_checkpoint
from chartqa_ft.scripts import (
    CheckpointArguments,
    EvalDataArguments,
    ResultArguments,
    ScriptParser,
    load_split,
    naming,
    one_line_errors,
    run_script,
    write_pictures,
    write_report,
)

OLD_NAMES = {
    "split": "eval_split",
    "max_samples": "max_eval_samples",
    "batch_size": "per_device_eval_batch_size",
    "num_beams": "generation_num_beams",
    "max_new_tokens": "generation_max_new_tokens",
    "variant": "metric_variant",
    "num_workers": "dataloader_num_workers",
}


@dataclass(kw_only=True)
class EvaluationArguments(EvalDataArguments, CheckpointArguments, ResultArguments):
    """Which checkpoint answers which questions, and how."""

    model_name_or_path: str = field(metadata={"help": "A checkpoint folder or a model on the Hub."})
    output_dir: str = field(metadata={"help": "Folder for predictions.jsonl and metrics.json."})
    eval_split: str = field(
        default="test", metadata={"help": "Split to evaluate on; 'test[:100]' selects a part of it."}
    )
    generation_num_beams: int = field(default=4, metadata={"help": "Number of beams (recipe: 4; 1: greedy)."})
    generation_max_new_tokens: int = field(default=128, metadata={"help": "Maximum length of an answer in tokens."})
    metric_variant: str = field(
        default="pix2struct", metadata={"help": "Variant of relaxed accuracy, see examples/evaluation.md."}
    )
    metric_extract: str | None = field(
        default=None,
        metadata={
            "help": "Step that finds the final answer in a generated text, such as answer_line, boxed or after_think."
        },
    )
    metric_interval: str = field(
        default="wilson", metadata={"help": "Intervals: wilson, bootstrap, or clustered (by chart)."}
    )
    per_device_eval_batch_size: int = field(
        default=8, metadata={"help": "Questions per batch on each device; the answers do not depend on it."}
    )
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that read and prepare charts."})
    seed: int = field(
        default=42, metadata={"help": "Seed of the draw of max_eval_samples, as in the training scripts."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Evaluate on the CPU."})


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = ScriptParser(
        EvaluationArguments,
        description=__doc__,
        usage="accelerate launch examples/evaluate_checkpoint.py [config.yaml] [--ARGUMENT VALUE ...]",
        aliases=OLD_NAMES,
    )
    (script,) = parser.parse(arguments)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    disable_progress_bar()  # for loading, not for the evaluation
    with one_line_errors():
        args = ChartQATrainingArguments(
            output_dir=script.output_dir,
            per_device_eval_batch_size=script.per_device_eval_batch_size,
            generation_num_beams=script.generation_num_beams,
            generation_max_new_tokens=script.generation_max_new_tokens,
            metric_variant=script.metric_variant,
            metric_extract=script.metric_extract,
            metric_interval=script.metric_interval,
            dataloader_num_workers=script.dataloader_num_workers,
            seed=script.seed,
            use_cpu=script.use_cpu,
            report_to="none",
        )
        if args.should_log:
            logging.getLogger("chartqa_ft").setLevel(logging.INFO)
        with args.main_process_first(desc="loading data"):
            records = load_split(script, script.eval_split, max_samples=script.max_eval_samples, seed=script.seed)
        with naming(script.model_name_or_path):
            model, processor, adapter = load_checkpoint(
                script.model_name_or_path,
                revision=script.model_revision,
                prompt=script.prompt,
                compat=None if script.compat else False,
            )
    trainer = ChartQATrainer(model, args, processing_class=processor, adapter=adapter)
    metrics = trainer.evaluate(records)
    if trainer.is_world_process_zero():
        write_report(script.output_dir, script, metrics, "eval-step-0.jsonl")
        beams = script.generation_num_beams
        print(
            f"{script.model_name_or_path} on {script.eval_split} of {script.dataset_name}: "
            f"{beams} beam{'s' * (beams != 1)}, variant {script.metric_variant}"
        )
        print(format_table(metrics, prefix="eval_"))
        pictures = write_pictures(script, trainer, records)
        if pictures:
            print(f"to look at: {', '.join(map(str, pictures))}")
    return metrics


if __name__ == "__main__":
    run_script(main)
