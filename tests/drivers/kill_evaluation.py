"""One or several processes evaluate a tiny model on drawn charts, and kill themselves (-9) after some batches.

    python kill_evaluation.py FOLDER BATCHES

With 0 batches the evaluation goes on to its end.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

from transformers import TrainerCallback

from chartqa_ft.scripts import run_script
from tests.support.common import drawn_charts, trainer

folder, batches = Path(sys.argv[1]), int(sys.argv[2])


class Killed(TrainerCallback):
    def __init__(self) -> None:
        self.evaluated = count(1)

    def on_prediction_step(self, args, state, control, **kwargs):
        if next(self.evaluated) == batches:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    sizes = {"per_device_eval_batch_size": 2, "eval_window": 1}
    run = trainer(folder, eval_dataset=drawn_charts(), callbacks=[Killed()], **sizes)
    run.evaluate(min_new_tokens=1)


if __name__ == "__main__":
    run_script(main)
