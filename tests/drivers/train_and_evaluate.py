"""One or two processes train a tiny model on drawn charts and write what a test compares: gradients, losses, rows.

    python train_and_evaluate.py FOLDER JSON_ARGUMENTS
"""

import json
import logging
import sys
from pathlib import Path

import torch

from tests.common import Gradients, drawn_charts, trainer


def main() -> None:
    folder, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
    rows = changes.pop("rows", len(drawn_charts()))
    resume = changes.pop("resume", False)
    capture = Gradients()
    logging.basicConfig(level=logging.WARNING)
    records = drawn_charts().select(range(rows))
    run = trainer(folder, records=records, eval_dataset=records, callbacks=[capture], **changes)
    rank = run.args.process_index
    log = logging.FileHandler(folder / f"rows-{rank}.log")
    logging.getLogger("chartqa_ft.trainer").addHandler(log)
    output = run.train(resume_from_checkpoint=resume)
    metrics = run.evaluate()
    predicted = run.predict(records)
    if rank == 0:
        torch.save({"gradients": capture.vector, "weights": dict(run.model.state_dict())}, folder / "tensors.pt")
    result = {
        "num_processes": run.accelerator.num_processes,
        "history": run.state.log_history,
        "training_loss": output.training_loss,
        "metrics": metrics,
        "predictions": list(predicted.predictions),
        "references": list(predicted.label_ids),
    }
    (folder / f"result-{rank}.json").write_text(json.dumps(result))
    run.end()


if __name__ == "__main__":
    main()
