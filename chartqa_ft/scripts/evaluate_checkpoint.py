"""Evaluate any checkpoint on any questions about charts: relaxed accuracy per source, with 95 % intervals.

    chartqa-ft evaluate --model_name_or_path out --eval_split test --output_dir scores
    accelerate launch --multi_gpu --num_processes 4 -m chartqa_ft.scripts.evaluate_checkpoint \\
        --model_name_or_path out --dataset_name questions.csv --split_file out/split.json --output_dir scores

It prints the table that papers quote ("mean of splits" is their average) and writes `predictions.jsonl` and
`metrics.json`. A file without splits is taken as it is. `chartqa-ft compare` tests whether two such runs differ by
more than chance.

A model behind a server (vLLM, llama.cpp and others) is scored with --base_url, which has arguments of its own:

    chartqa-ft evaluate --base_url http://localhost:8000/v1 --help
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from .arguments import CheckpointArguments, EvalDataArguments, ScoringArguments
from .help_text import MODEL
from .output_folder import output_folder
from .parsing import ScriptParser, parse_mapping
from .process import run_script, usage

OLD_NAMES = {
    "split": "eval_split",
    "max_samples": "max_eval_samples",
    "batch_size": "per_device_eval_batch_size",
    "num_beams": "generation_num_beams",
    "max_new_tokens": "generation_max_new_tokens",
    "variant": "metric_variant",
    "num_workers": "dataloader_num_workers",
}
FIRST = {
    "Model": (*MODEL, "model_revision"),
    "Data": ("dataset_name", "eval_split", "split_file", "image_dir", "column_map", "on_error", "max_eval_samples"),
    "Scores": ("output_dir", "metric_variant", "metric_extract", "run_programs", "metric_interval", "report"),
    "Answers": (
        "generation_num_beams",
        "generation_max_new_tokens",
        "per_device_eval_batch_size",
        "dataloader_num_workers",
        "use_cpu",
    ),
}


@dataclass(kw_only=True)
class EvaluationArguments(EvalDataArguments, CheckpointArguments, ScoringArguments):
    """Which checkpoint answers which questions, and how."""

    model_name_or_path: str = field(metadata={"help": "A checkpoint folder or a model on the Hub."})
    output_dir: str = field(metadata={"help": "Folder for predictions.jsonl and metrics.json."})
    eval_split: str = field(
        default="test",
        metadata={"help": "Split to evaluate on; 'test[:100]' selects a part. A file without splits is taken whole."},
    )
    generation_num_beams: int = field(default=4, metadata={"help": "Number of beams (recipe: 4; 1: greedy)."})
    generation_max_new_tokens: int = field(default=128, metadata={"help": "Maximum length of an answer in tokens."})
    metric_interval: str = field(
        default="wilson", metadata={"help": "Intervals: wilson, bootstrap, or clustered (by chart)."}
    )
    per_device_eval_batch_size: int = field(
        default=8, metadata={"help": "Questions per batch on each device; the answers do not depend on it."}
    )
    on_bad_text: str = field(
        default="raise",
        metadata={
            "help": "What to do with questions that the model cannot take (control tokens, too long): raise, or skip "
            "to leave them out. With --on_error skip: skip."
        },
    )
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that read and prepare charts."})
    seed: int = field(
        default=42, metadata={"help": "Seed of the draw of max_eval_samples, as in the training scripts."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Evaluate on the CPU."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.output_dir = output_folder(self.output_dir)


def main(
    arguments: list[str] | None = None, *, description: str | None = __doc__, program: str | None = None
) -> dict[str, float]:
    """Parse a command line (`None`: that of this process), then score a model; return its metrics."""
    parser = ScriptParser(
        EvaluationArguments,
        aliases=OLD_NAMES,
        first=FIRST,
        description=description,
        usage=usage("evaluate_checkpoint", program),
    )
    (script,) = parser.parse(arguments)
    return evaluate(script)


def evaluate(script: EvaluationArguments) -> dict[str, float]:
    """Score a model as the arguments say, and return its metrics."""
    from transformers.utils.logging import disable_progress_bar

    from ..evaluation.report import METRICS_NAME, PREDICTIONS_NAME, write_report
    from ..metrics.task_table import format_scores
    from ..models.load import load_checkpoint
    from ..training.arguments import ChartQATrainingArguments
    from ..training.trainer import ChartQATrainer
    from .errors import log_to_terminal, one_line_errors
    from .loading import load_eval_records, naming, skip_bad_texts
    from .pictures import write_pictures

    log_to_terminal("%(levelname)s %(name)s: %(message)s")
    disable_progress_bar()  # for loading, not for the evaluation
    with one_line_errors():
        args = ChartQATrainingArguments(
            output_dir=script.output_dir,
            per_device_eval_batch_size=script.per_device_eval_batch_size,
            generation_num_beams=script.generation_num_beams,
            generation_max_new_tokens=script.generation_max_new_tokens,
            metric_variant=str(script.metric_variant),
            metric_extract=script.metric_extract,
            metric_interval=script.metric_interval,
            on_bad_text=script.on_bad_text,
            dataloader_num_workers=script.dataloader_num_workers,
            seed=script.seed,
            use_cpu=script.use_cpu,
            report_to="none",
        )
        if args.should_log:
            logging.getLogger("chartqa_ft").setLevel(logging.INFO)
        skip_bad_texts(script, args)
        with args.main_process_first(desc="loading data"):
            records, asked = load_eval_records(script, seed=script.seed)
        with naming(script.model_name_or_path):
            model, processor, adapter = load_checkpoint(
                script.model_name_or_path,
                revision=script.model_revision,
                prompt=script.prompt,
                system_prompt=script.system_prompt,
                prompts=parse_mapping(script.prompts, "prompts"),
                compat=None if script.compat else False,
            )
        trainer = ChartQATrainer(model, args, processing_class=processor, adapter=adapter)
        trainer.check("evaluate", records).raise_errors()  # evaluate() raises the same ones with a traceback
    metrics = trainer.evaluate(records)
    if trainer.is_world_process_zero():
        write_report(script.output_dir, script, metrics, "eval-step-0.jsonl")
        beams = script.generation_num_beams
        print(
            f"{script.model_name_or_path} on {asked}: "
            f"{beams} beam{'s' * (beams != 1)}, variant {script.metric_variant}"
        )
        scores = format_scores(metrics, prefix="eval_")
        print(scores or f"none of the {len(records)} questions has an answer to compare with")
        print(f"{PREDICTIONS_NAME}, {METRICS_NAME}: {script.output_dir}")
        pictures = write_pictures(script, trainer, records)
        if pictures:
            print(f"to look at: {', '.join(map(str, pictures))}")
    return metrics


if __name__ == "__main__":
    run_script(main)
