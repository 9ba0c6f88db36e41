"""Ranks of DeepSpeed train, evaluate, save and resume a tiny model, and write what a test compares.

    python driver.py FOLDER JOB

JOB is a JSON object: `stage` (of ZeRO; 0 trains without DeepSpeed), `lora`, `resume` (go on from the last checkpoint),
and arguments of the training. FOLDER gets `out`, the folder of the run, and from every rank `result-<rank>.json`.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path

from chartqa_ft import default_lora_config
from chartqa_ft.scripts import run_script
from chartqa_ft.training import pushing
from tests.support.common import drawn_charts, tiny, trainer

ROWS = 13


def config(stage: int) -> dict:
    """A configuration of DeepSpeed under which a tiny model is sharded, and not kept whole between two passes."""
    zero = {"stage": stage}
    if stage == 3:
        zero |= {
            "stage3_param_persistence_threshold": 0,
            "stage3_max_live_parameters": 0,
            "stage3_max_reuse_distance": 0,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return {
        "zero_optimization": zero,
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }


def run(folder: Path, job: dict) -> None:
    stage, lora, resume = job.pop("stage"), job.pop("lora", False), job.pop("resume", False)
    records = drawn_charts().select(range(ROWS))
    own = {}
    if lora:
        own["model"] = tiny()[0]
        own["peft_config"] = default_lora_config(own["model"], lora_dropout=0.0)  # random per process
    if stage:
        job["deepspeed"] = config(stage)
    pushes: list[list[str]] = []
    pushing.push_checkpoint = lambda folder, *_, **__: pushes.append(sorted(p.name for p in Path(folder).iterdir()))
    run = trainer(folder / "out", records=records, eval_dataset=records, **own, **job)
    run.train(resume_from_checkpoint=resume or None)
    metrics = run.evaluate(min_new_tokens=1)
    predicted = run.predict(records, min_new_tokens=1)
    run.pusher.make_repository = lambda *_: "me/model"
    run.push_to_hub()
    result = {
        "processes": run.accelerator.num_processes,
        "metrics": metrics,
        "losses": [entry["loss"] for entry in run.state.log_history if "loss" in entry],
        "pushes": pushes,
        "predictions": list(predicted.predictions),
    }
    (folder / f"result-{run.args.process_index}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    faulthandler.dump_traceback_later(250, exit=True)  # a rank that waits for another one says where
    run_script(run, folder=Path(sys.argv[1]), job=json.loads(sys.argv[2]))
