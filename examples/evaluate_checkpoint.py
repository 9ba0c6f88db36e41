"""Score any checkpoint on any split of ChartQA: relaxed accuracy per source with 95 % intervals.

    accelerate launch examples/evaluate_checkpoint.py --model_name_or_path ahmed-masry/unichart-chartqa-960 \\
        --output_dir scores

    accelerate launch --multi_gpu --num_processes 4 examples/evaluate_checkpoint.py \\
        --model_name_or_path out --dataset_name "ChartQA Dataset" --split test --output_dir scores

    accelerate launch examples/evaluate_checkpoint.py --model_name_or_path out --split val --variant lenient \\
        --num_beams 1 --output_dir scores_lenient

It prints the table that papers quote ("mean of splits" is their average) and writes `predictions.jsonl` and
`metrics.json`. `chartqa_ft.compare_predictions` tells whether two such runs differ by more than chance.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from transformers.utils.logging import disable_progress_bar

from chartqa_ft import (
    ChartQATrainer,
    ChartQATrainingArguments,
    format_table,
    load_chartqa,
    load_checkpoint,
    stratified_subset,
)
from chartqa_ft.evaluation.report import write_report
from chartqa_ft.scripts import HelpFormatter, ScriptParser, naming, one_line_errors, parse_mapping, run_script


@dataclass
class EvaluationArguments:
    """Which checkpoint answers which questions, and how."""

    model_name_or_path: str = field(metadata={"help": "A checkpoint folder or a model on the Hub."})
    output_dir: str = field(metadata={"help": "Where predictions.jsonl and metrics.json go."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    dataset_name: str = field(
        default="HuggingFaceM4/ChartQA",
        metadata={"help": "A data set on the Hub, the folder of the original layout, or a JSON/CSV/Parquet file."},
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub data set."})
    image_dir: str | None = field(default=None, metadata={"help": "Folder of the images that records only name."})
    column_map: list[str] | None = field(
        default=None, metadata={"help": "Columns with names of their own, as in: image=file question=q answer=a"}
    )
    split: str = field(default="test", metadata={"help": "Split to answer; 'test[:100]' takes a part."})
    on_error: str = field(default="raise", metadata={"help": "What to do with bad records: raise or skip."})
    max_samples: int | None = field(default=None, metadata={"help": "Answer so many, in the split's mix of sources."})
    batch_size: int = field(default=8, metadata={"help": "Questions a batch on each device; changes no answer."})
    num_beams: int = field(default=4, metadata={"help": "Beams (official recipe: 4; 1 is greedy)."})
    max_new_tokens: int = field(default=128, metadata={"help": "Longest answer in tokens."})
    variant: str = field(default="pix2struct", metadata={"help": "Variant of relaxed accuracy; see the README."})
    prompt: str | None = field(
        default=None, metadata={"help": "How a question is put, with the field {question}. Unset: the model's own."}
    )
    compat: bool = field(
        default=True, metadata={"help": "Whether old checkpoints behave as in transformers 4.28.1, as authors demand."}
    )
    num_workers: int = field(default=0, metadata={"help": "Processes that read and prepare charts."})
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU."})


def main(arguments: list[str] | None = None) -> dict[str, float]:
    (script,) = ScriptParser(EvaluationArguments, description=__doc__, formatter_class=HelpFormatter).parse(arguments)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    disable_progress_bar()  # of loading, not of answering
    with one_line_errors():
        args = ChartQATrainingArguments(
            output_dir=script.output_dir,
            per_device_eval_batch_size=script.batch_size,
            generation_num_beams=script.num_beams,
            generation_max_new_tokens=script.max_new_tokens,
            metric_variant=script.variant,
            dataloader_num_workers=script.num_workers,
            use_cpu=script.use_cpu,
            report_to="none",
        )
        if args.should_log:
            logging.getLogger("chartqa_ft").setLevel(logging.INFO)
        with args.main_process_first(desc="loading data"):
            records = load_chartqa(
                script.dataset_name,
                split=script.split,
                image_dir=script.image_dir,
                column_map=parse_mapping(script.column_map),
                revision=script.dataset_revision,
                on_error=script.on_error,
            )
        with naming(script.model_name_or_path):
            model, processor, adapter = load_checkpoint(
                script.model_name_or_path,
                revision=script.model_revision,
                prompt=script.prompt,
                compat=None if script.compat else False,
            )
    if script.max_samples:
        records = stratified_subset(records, script.max_samples)
    trainer = ChartQATrainer(model, args, processing_class=processor, adapter=adapter)
    metrics = trainer.evaluate(records)
    if trainer.is_world_process_zero():
        write_report(script.output_dir, script, metrics, "eval-step-0.jsonl")
        print(
            f"{script.model_name_or_path} on {script.split} of {script.dataset_name}: "
            f"{script.num_beams} beam{'s' * (script.num_beams != 1)}, variant {script.variant}"
        )
        print(format_table(metrics, prefix="eval_"))
    return metrics


if __name__ == "__main__":
    run_script(main)
