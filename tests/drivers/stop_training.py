"""Two processes train a tiny model, and one of them alone meets what stops both.

    python stop_training.py FOLDER HOW

HOW is `signal` (rank 1 gets SIGTERM in step 3), `nan` (rank 1's chart of step 3 is NaN) or `resume`. In FOLDER every
process writes `<HOW>-<rank>.txt`: the number of processes, and the error or the last step.
"""

import math
import os
import signal
import sys
from pathlib import Path

from transformers import TrainerCallback

from tests.support.common import trainer

folder, how = Path(sys.argv[1]), sys.argv[2]


class Send(TrainerCallback):
    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step == 2 and args.process_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)


run = trainer(
    folder / "out",
    callbacks=[Send()] if how == "signal" else [],
    max_steps=5,
    per_device_train_batch_size=1,
    gradient_accumulation_steps=2,
    save_strategy="steps",
    save_steps=2,
)
if how == "nan" and run.args.process_index == 1:
    run._collators["train"].raw_charts = False
    collate, made = run._collators["train"], []

    def poisoned(records):
        made.append(records)
        batch = collate(records)
        if len(made) == 6:
            batch["pixel_values"] = batch["pixel_values"] * math.nan
        return batch

    poisoned.group_by_chart, poisoned.raw_charts = collate.group_by_chart, False
    run._collators["train"] = poisoned
try:
    run.train(resume_from_checkpoint=True if how == "resume" else None)
    told = f"ended at step {run.state.global_step}"
except ValueError as error:
    told = str(error)
(folder / f"{how}-{run.args.process_index}.txt").write_text(f"{run.accelerator.num_processes} {told}")
