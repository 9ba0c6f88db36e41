"""Two processes with two workers each train on a stream, unbroken and resumed within its second epoch.

    python resume_stream.py FOLDER

FOLDER/data gets the records as three Parquet files. From every process, `<run>-<rank>.json` says for each run
(`unbroken`, `resumed`) which rows it trained on, which charts each process decoded and what its weights are;
`refused-<rank>.json` holds the messages about streams that the processes would read in different orders.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import torch
from accelerate import PartialState
from datasets.distributed import split_dataset_by_node
from PIL import ImageFile

from chartqa_ft import load_chartqa
from chartqa_ft.scripts import run_script
from tests.support.common import drawn_charts, tiny, trainer

SETTINGS = {
    "max_steps": 9,
    "per_device_train_batch_size": 2,
    "dataloader_num_workers": 2,
    "save_strategy": "steps",
    "save_steps": 3,
    "random_padding": True,
}


class KeepText(logging.Handler):
    """The messages at level debug."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def counting_decoded(log: Path) -> Iterator[None]:
    """Have each process write down every image file that is decoded in it."""
    load = ImageFile.ImageFile.load

    def counted(self):
        decodes = bool(self.tile)
        result = load(self)
        if decodes:
            with open(log, "a") as file:
                file.write(f"{os.getpid()} {hashlib.sha1(self.tobytes()).hexdigest()}\n")
        return result

    ImageFile.ImageFile.load = counted
    try:
        yield
    finally:
        ImageFile.ImageFile.load = load


def stream(folder: Path) -> datasets.IterableDataset:
    return load_chartqa(folder / "data", split="train", streaming=True).shuffle(seed=1, buffer_size=5)


def run_training(folder: Path, name: str, rank: int, checkpoint: str | None = None) -> None:
    kept, logger = KeepText(), logging.getLogger("chartqa_ft")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(kept)
    decoded = folder / f"{name}-{rank}.decoded"
    decoded.touch()
    run = trainer(
        folder / name,
        model=tiny(dropout=0.1, drop_path_rate=0.1)[0],
        records=stream(folder),
        eval_dataset=load_chartqa(folder / "data", split="train", streaming=True),
        **SETTINGS,
    )
    with counting_decoded(decoded):
        run.train(resume_from_checkpoint=checkpoint)
    logger.removeHandler(kept)
    rows = [re.search(r"step (\d+) rank \d+ rows \[(.*)\]", text) for text in kept.texts]
    weights = hashlib.sha1(b"".join(w.numpy().tobytes() for w in run.model.state_dict().values())).hexdigest()
    metrics = run.evaluate(min_new_tokens=1)
    result = {
        "num_processes": run.accelerator.num_processes,
        "process": os.getpid(),
        "rows": [[int(match[1]), [int(row) for row in match[2].split(",")]] for match in rows if match],
        "decoded": [line.split() for line in decoded.read_text().splitlines()],
        "weights": weights,
        "n": metrics["eval_n_human"] + metrics["eval_n_augmented"],
        "told": [text for text in kept.texts if "shuffle" in text],
    }
    (folder / f"{name}-{rank}.json").write_text(json.dumps(result))


class ByRank(torch.utils.data.IterableDataset):
    """Records in an order that depends on the process."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __iter__(self):
        return iter(list(drawn_charts())[:: 1 - 2 * self.rank])


def refusals(folder: Path, rank: int) -> list[str]:
    plain = drawn_charts().to_iterable_dataset()
    found = []
    for records in (plain.shuffle(buffer_size=5), split_dataset_by_node(plain, rank, 2), ByRank(rank)):
        run = trainer(folder / "refused", records=records, max_steps=2)
        try:
            run.train()
        except ValueError as error:
            found.append(str(error))
        assert run.state.global_step == 0
    return found


def main(folder: Path) -> None:
    state = PartialState(cpu=True)
    if state.is_main_process:
        charts = drawn_charts()
        (folder / "data").mkdir(parents=True)
        for number, part in enumerate((range(3), range(3, 13), range(13, len(charts)))):
            charts.select(part).to_parquet(folder / "data" / f"train-{number}.parquet")
    state.wait_for_everyone()
    rank = state.process_index
    run_training(folder, "unbroken", rank)
    if state.is_main_process:
        shutil.copytree(folder / "unbroken" / "checkpoint-6", folder / "resumed" / "checkpoint-6")
    state.wait_for_everyone()
    run_training(folder, "resumed", rank, str(folder / "resumed" / "checkpoint-6"))
    (folder / f"refused-{rank}.json").write_text(json.dumps(refusals(folder, rank)))


if __name__ == "__main__":
    run_script(main, folder=Path(sys.argv[1]))
