"""One or several processes train a tiny model on drawn charts and write what a test compares.

    python train_and_evaluate.py FOLDER JOB [JOB ...]

Each JOB is a JSON object: `name`, `rows` (how many questions), `wide` (charts are cut to half their height, so that
random padding has something to draw), `stream` (read them as one), `family` (the model, in
place of the tiny UniChart), `own_metric` (a metric that falls on the first process and rises on others, and a training
that stops as soon as it falls), and arguments of the training. FOLDER/<name> gets `tensors.pt` (the gradient of every
optimizer step, weights at the end) and, from every process, `result-<rank>.json`.
"""

import json
import os
import sys
from itertools import count
from pathlib import Path

import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback, TrainerCallback

from chartqa_ft.scripts import run_script
from tests.support import families
from tests.support.common import Gradients, drawn_charts, trainer
from tests.support.family_cases import ready


class AllGradients(TrainerCallback):
    """The gradient of every optimizer step as a float64 vector."""

    def __init__(self) -> None:
        self.last, self.vectors = Gradients(), []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.last.on_pre_optimizer_step(args, state, control, model=model, **kwargs)
        self.vectors.append(self.last.vector)


def run_job(folder: Path, job: dict) -> None:
    rows, family = job.pop("rows"), job.pop("family", None)
    own = {}
    if family is None:
        records = drawn_charts().select(range(rows))
        if job.pop("wide", False):
            records = Dataset.from_list([{**row, "image": row["image"].crop((0, 24, 96, 72))} for row in records])
    else:
        records = families.records(rows)
        own["model"], own["adapter"] = ready(family)
    if job.pop("stream", False):
        records = records.to_iterable_dataset()
    folder = folder / job.pop("name")
    capture = AllGradients()
    callbacks: list[TrainerCallback] = [capture]
    if job.pop("own_metric", False):
        evaluations, sign = count(1), -1.0 if int(os.environ.get("RANK", "0")) == 0 else 1.0
        own["compute_metrics"] = lambda _: {"own": sign * next(evaluations)}
        callbacks.append(EarlyStoppingCallback(1))
    run = trainer(folder, records=records, eval_dataset=records, callbacks=callbacks, **own, **job)
    output = run.train()
    # A model after a few steps ends every answer at once: what is compared should say something.
    metrics = run.evaluate(min_new_tokens=1)
    predicted = run.predict(records, min_new_tokens=1)
    if run.is_world_process_zero():
        torch.save({"gradients": capture.vectors, "weights": dict(run.model.state_dict())}, folder / "tensors.pt")
    result = {
        "num_processes": run.accelerator.num_processes,
        "history": run.state.log_history,
        "training_loss": output.training_loss,
        "best": {"metric": run.state.best_metric, "step": run.state.best_global_step, "last": run.state.global_step},
        "metrics": metrics,
        "predictions": list(predicted.predictions),
        "references": list(predicted.label_ids),
    }
    (folder / f"result-{run.args.process_index}.json").write_text(json.dumps(result))


def main() -> None:
    for text in sys.argv[2:]:
        run_job(Path(sys.argv[1]), json.loads(text))


if __name__ == "__main__":
    run_script(main)
