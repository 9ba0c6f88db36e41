"""The training of the demo: a tiny model on drawn charts, with a table and a picture of its answers."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback

from ..data import synthetic_chartqa
from ..metrics import read_predictions, relaxed_accuracy
from ..models.tiny import DEMO_CHARTS_PER_STEP, DEMO_TRAINING, tiny_unichart
from ..reporting import draw_answers, write_report
from ..training import ChartQATrainer, ChartQATrainingArguments

TRAIN_SEED, HELD_OUT_SEED = 0, 1


class LiveAccuracy(TrainerCallback):
    """Progress bar with the loss and the latest accuracy on held-out charts."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(total=state.max_steps, desc="training", unit="step", disable=None)
        self.shown: dict[str, str] = {}

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.shown["loss"] = f"{logs['loss']:.3f}"
        self.bar.set_postfix(self.shown, refresh=False)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if "eval_relaxed_accuracy" in metrics:
            self.shown["held-out"] = f"{100 * metrics['eval_relaxed_accuracy']:.1f} %"
            loss = self.shown.get("loss", "-")
            self.bar.write(
                f"step {state.global_step:>5}: loss {loss}, {self.shown['held-out']} of held-out questions right"
            )

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


def majority_answers(train: Dataset, held_out: Dataset) -> list[str]:
    """Return for each held-out question the most frequent training answer for its question type and chart type."""
    counts: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for chart, kind, answer in zip(train["chart_type"], train["question_type"], train["answer"], strict=True):
        counts[chart, kind][answer] += 1
    return [
        counts[chart, kind].most_common(1)[0][0]
        for chart, kind in zip(held_out["chart_type"], held_out["question_type"], strict=True)
    ]


def table(held_out: Dataset, answers: list[str], baseline: list[str]) -> tuple[str, float]:
    """Return a table by source, question type and chart type, with the baseline; and the pooled accuracy."""

    def scores(predictions: list[str], types: str) -> dict[str, float]:
        return relaxed_accuracy(
            predictions=predictions,
            references=held_out["answer"],
            sources=held_out["source"],
            question_types=held_out[types],
        )

    by_kind, kind_base = scores(answers, "question_type"), scores(baseline, "question_type")
    by_chart, chart_base = scores(answers, "chart_type"), scores(baseline, "chart_type")
    lines = [f"{'questions':<18}{'n':>7}{'share':>8}{'accuracy':>11}{'95 % interval':>17}{'majority':>11}"]
    sections = [
        (by_kind, kind_base, ["human", "augmented"]),
        (by_kind, kind_base, sorted(key[2:] for key in by_kind if key.startswith("n_type_"))),
        (by_chart, chart_base, sorted(key[2:] for key in by_chart if key.startswith("n_type_"))),
        (by_kind, kind_base, [""]),
    ]
    for metrics, base, names in sections:
        lines.append("-" * len(lines[0]))
        for name in names:
            suffix = f"_{name}" if name else ""
            key, n = f"relaxed_accuracy{suffix}", metrics[f"n{suffix}"]
            interval = f"{100 * metrics[key + '_ci_low']:.2f} - {100 * metrics[key + '_ci_high']:.2f}"
            title = name.removeprefix("type_") or "all"
            lines.append(
                f"{title:<18}{n:>7,}{100 * n / len(held_out):>7.1f}%{100 * metrics[key]:>11.2f}{interval:>17}"
                f"{100 * base[key]:>11.2f}"
            )
    return "\n".join(lines), by_kind["relaxed_accuracy"]


def run(output_dir: str, *, steps: int, charts: int, held_out_charts: int) -> float:
    """Train and score the model; return its relaxed accuracy on charts that it has never seen.

    Args:
        output_dir: Folder for the model, its answers and the picture.
        steps: Number of optimizer steps.
        charts: Number of charts to train on.
        held_out_charts: Number of other charts to score.
    """
    output, start = Path(output_dir), time.perf_counter()

    print(f"Drawing {charts:,} charts to train on and {held_out_charts:,} others to score ...")
    train = synthetic_chartqa(charts, seed=TRAIN_SEED)
    held_out = synthetic_chartqa(held_out_charts, seed=HELD_OUT_SEED)
    model, processor = tiny_unichart("demo")
    rows_per_step = round(DEMO_CHARTS_PER_STEP * len(train) / charts)
    print(f"{len(train):,} questions; a model with {model.num_parameters() / 1e6:.1f} million parameters, untrained")
    warmup_steps = min(DEMO_TRAINING["warmup_steps"], steps // 10)
    settings: dict[str, Any] = {**DEMO_TRAINING, "max_steps": steps, "warmup_steps": warmup_steps}
    args = ChartQATrainingArguments(
        output_dir=str(output),
        **settings,
        per_device_train_batch_size=rows_per_step,
        per_device_eval_batch_size=250,
        generation_num_beams=1,
        generation_max_new_tokens=8,
        random_padding=False,
        eval_strategy="steps",
        eval_steps=max(1, steps // 10),
        eval_subset=500,
        logging_steps=max(1, steps // 50),
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    torch.set_num_threads(os.cpu_count() or 1)  # accelerate has just set it to the number of physical cores
    trainer = ChartQATrainer(
        model,
        args,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=processor,
        callbacks=[LiveAccuracy()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(output / "model"))
    trainer.evaluate(metric_key_prefix="final")

    answers = output / "predictions" / f"final-step-{trainer.weights_step}.jsonl"
    rows = read_predictions(answers)
    text, accuracy = table(held_out, [row["prediction"] for row in rows], majority_answers(train, held_out))
    print(f"\nRelaxed accuracy in percent on charts that the model has never seen:\n{text}\n")
    chosen = [rows[i] for i in range(0, len(rows), max(1, len(rows) // 12))][:12]
    picture = draw_answers(
        [{**row, "image": held_out[row["index"]]["image"]} for row in chosen], output / "charts.png"
    )
    minutes = (time.perf_counter() - start) / 60
    print(f"{100 * accuracy:.2f} % after {minutes:.1f} minutes. Model: {output / 'model'}; picture: {picture}")
    print(f"curves: {trainer.plot()}")
    print(f"report: {write_report(answers, output / 'report.html', images=held_out)}")
    return accuracy
