"""Loads saved checkpoints where torchvision cannot be imported, and answers: what a user does after training.

In `make families-torchvision` it can be imported.

    python -m tests.drivers.answer_again RESULT FOLDER [FOLDER ...]

RESULT, a file of torch.save, gets for each folder's name `ids` and `answers` (list of str) that were generated, and
`logits` (those of the tokens of the right answers, float32 of shape (tokens, vocabulary)).
"""

import os
import sys
from pathlib import Path

WITH_TORCHVISION = os.environ.get("CHARTQA_FAMILIES") == "torchvision"  # for the families that need it
if not WITH_TORCHVISION:
    sys.modules["torchvision"] = None  # an import raises ModuleNotFoundError, installed or not

import tests.support.torchvision_operators  # noqa: E402, F401, I001  # before transformers looks for torchvision
import torch  # noqa: E402
from transformers.utils import is_torchvision_available  # noqa: E402

from chartqa_ft import load_checkpoint  # noqa: E402
from tests.support.families import records  # noqa: E402
from tests.support.family_cases import answer_logits  # noqa: E402


@torch.no_grad()
def main(result: Path, folders: list[Path]) -> None:
    assert is_torchvision_available() is WITH_TORCHVISION
    found = {}
    for folder in folders:
        model, _, adapter = load_checkpoint(folder)
        adapter.attach(model)
        batch = adapter.encode(records(6))
        ids = adapter.generate(model, batch, max_new_tokens=8, min_new_tokens=2, num_beams=2)
        logits = answer_logits(model, adapter, batch)
        found[folder.name] = {"ids": ids, "answers": adapter.decode(ids), "logits": logits}
    assert WITH_TORCHVISION or not [name for name in sys.modules if name.startswith("torchvision.")]
    torch.save(found, result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
