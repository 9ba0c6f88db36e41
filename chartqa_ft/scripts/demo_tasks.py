"""Train one tiny model from scratch to answer questions, read tables and write summaries, on a CPU, without downloads.

Draws charts, each with questions, its data table and a sentence about it; builds a tiny model with UniChart's
architecture and the prompts of its tasks, trains it on all of them together, and scores it on charts that it has never
seen: relaxed accuracy of the questions, RMS F1 of the tables, BLEU of the summaries.

    python examples/demo_tasks.py [--output_dir demo_tasks_output] [--steps 1300] [--charts 6000]
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .process import run_script

__all__ = ["main"]

QUESTIONS = {"value": 2, "count": 1, "extreme": 1, "comparison": 1}
"""Questions per chart: few, since its table has all of its values."""
CHARTS_PER_STEP = 16
WEIGHTS = {"table": 0.3, "summary": 0.3}
"""A table has ten times the tokens of an answer."""
LENGTHS = {"table": 48, "summary": 32}
"""Longest answers in tokens."""
MAIN = ("relaxed_accuracy", "table_rms_f1", "summary_bleu")


def main(arguments: Sequence[str] | None = None, *, description: str | None = __doc__) -> dict[str, float]:
    """Train and score the model; return its three main scores on charts that it has never seen.

    Args:
        arguments: The command line without the name of the program. `None`: that of this process.
        description: Text that `--help` shows.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="demo_tasks_output", help="Folder for the model and its answers.")
    parser.add_argument("--steps", type=int, default=1300, help="Number of optimizer steps (default: 1300).")
    parser.add_argument("--charts", type=int, default=6000, help="Number of charts to train on (default: 6000).")
    parser.add_argument("--held_out_charts", type=int, default=150, help="Number of other charts to score.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    return run(Path(options.output_dir), options.steps, options.charts, options.held_out_charts)


def run(output: Path, steps: int, charts: int, held_out_charts: int) -> dict[str, float]:
    """Train and score the model; return its three main scores."""
    import torch

    from ..adapters import add_prompt_tokens
    from ..data import synthetic_chartqa
    from ..data.synthetic.tasks import TASK_WORDS, TASKS
    from ..metrics.task_table import format_scores
    from ..models.tiny import DEMO_TRAINING, tiny_unichart
    from ..reporting import write_report
    from ..training import ChartQATrainer, ChartQATrainingArguments

    print(f"Drawing {charts:,} charts to train on and {held_out_charts:,} others to score ...")
    train = synthetic_chartqa(charts, seed=0, questions_per_chart=QUESTIONS, tasks=TASKS)
    held_out = synthetic_chartqa(held_out_charts, seed=1, questions_per_chart=QUESTIONS, tasks=TASKS)
    model, processor = tiny_unichart("demo", extra_words=[TASK_WORDS])
    add_prompt_tokens(model, processor, tasks=["table", "summary"])
    settings: dict[str, Any] = {
        **DEMO_TRAINING,
        "max_steps": steps,
        "warmup_steps": min(DEMO_TRAINING["warmup_steps"], steps // 10),
    }
    args = ChartQATrainingArguments(
        output_dir=str(output),
        **settings,
        per_device_train_batch_size=round(CHARTS_PER_STEP * len(train) / charts),
        per_device_eval_batch_size=250,
        generation_num_beams=1,
        generation_max_new_tokens=8,
        task_max_new_tokens=LENGTHS,
        task_weights=WEIGHTS,
        random_padding=False,
        eval_strategy="steps",
        eval_steps=max(1, steps // 5),
        eval_subset=300,
        metric_for_best_model="table_rms_f1",
        logging_steps=max(1, steps // 10),
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    torch.set_num_threads(os.cpu_count() or 1)  # accelerate has just set it to the number of physical cores
    trainer = ChartQATrainer(model, args, train_dataset=train, eval_dataset=held_out, processing_class=processor)
    trainer.train()
    trainer.save_model(str(output / "model"))
    metrics = trainer.evaluate(metric_key_prefix="final")
    print(f"\nScores on charts that the model has never seen:\n\n{format_scores(metrics, prefix='final_')}\n")
    answers = output / "predictions" / f"final-step-{trainer.weights_step}.jsonl"
    print(f"report: {write_report(answers, output / 'report.html', images=held_out)}")
    found = {name: metrics[f"final_{name}"] for name in MAIN}
    print("; ".join(f"{name} {100 * value:.2f} %" for name, value in found.items()))
    return found


if __name__ == "__main__":
    run_script(main)
