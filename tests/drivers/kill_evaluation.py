"""One or several processes evaluate a tiny model on drawn charts, and kill themselves (-9) after some batches.

    python kill_evaluation.py FOLDER BATCHES [TIMES]

With 0 batches the evaluation goes on to its end. After TIMES evaluations (1 unless given), the first process slow to
write, each process writes the names of the files that it saw in the second batch of the last one to
FOLDER/seen-<rank>.txt.
"""

import os
import signal
import sys
import time
from itertools import count
from pathlib import Path

from transformers import TrainerCallback

from chartqa_ft.scripts import run_script
from chartqa_ft.training import evaluating
from tests.support.common import drawn_charts, trainer

folder, batches = Path(sys.argv[1]), int(sys.argv[2])
times = int(sys.argv[3]) if len(sys.argv) > 3 else 1
write_predictions = evaluating.write_predictions


class Killed(TrainerCallback):
    def __init__(self) -> None:
        self.evaluated, self.seen = count(1), ""

    def on_prediction_step(self, args, state, control, **kwargs):
        number = next(self.evaluated)
        if number == batches:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2:
            self.seen = "\n".join(sorted(path.name for path in (folder / "predictions").iterdir()))

    def on_evaluate(self, args, state, control, **kwargs):
        self.evaluated = count(1)


def slowly(*given):
    time.sleep(1)
    return write_predictions(*given)


def main() -> None:
    sizes = {"per_device_eval_batch_size": 2, "eval_window": 1}
    killed = Killed()
    run = trainer(folder, eval_dataset=drawn_charts(), callbacks=[killed], **sizes)
    if times > 1:
        evaluating.write_predictions = slowly
    for _ in range(times):
        run.evaluate(min_new_tokens=1)
    (folder / f"seen-{run.args.process_index}.txt").write_text(killed.seen)


if __name__ == "__main__":
    run_script(main)
