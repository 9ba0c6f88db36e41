"""What tests of cards let a client process do: run the code of a card, and train as a script does."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def snippets(card: str) -> list[str]:
    """What the blocks of Python in a card print, each run alone as pasted."""
    printed = []
    for block in re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(block, {})
        printed.append(said.getvalue().strip())
    return printed


def train_as_script(folder: str, base: str, data: str, **changes: Any) -> None:
    """Train two steps on four questions of a data set of the Hub and push each save, with folders of this machine in
    the arguments."""
    from chartqa_ft import ChartQATrainer
    from chartqa_ft.hub.download import fetch_checkpoint
    from chartqa_ft.scripts import DataArguments, ModelArguments, load_model, load_records, train_and_score
    from tests.support.common import arguments

    @dataclass
    class Script(DataArguments, ModelArguments):
        pass

    where = Path(folder) / "base"
    where.symlink_to(fetch_checkpoint(base))
    script = Script(
        model_name_or_path=str(where),
        dataset_name=data,
        train_split="train[:4]",
        eval_split="val[:4]",
        image_dir=folder,
    )
    saves = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    pushing = {"push_to_hub": True, "hub_strategy": "every_save", "hub_always_push": True}
    args = arguments(folder, max_steps=2, **saves, **best, **pushing, **changes)
    train, evaluation = load_records(script, args)
    model, processor, adapter = load_model(script, args)
    made = ChartQATrainer(model, args, train, evaluation, processor, adapter)
    train_and_score(made, script)
