"""P8: how long it takes from the command to the end of the first optimizer step, and where that time goes.

python -m tests.benchmarks.startup [--quick] [--runs 5] [--records 28299]

A Parquet data set of the size and the columns of ChartQA's training split on the Hub, with 1.63 drawn questions on
each chart, and a tiny model on disk. Each run is a new Python process, which imports the packages, loads both, makes
the trainer and takes one step. The peer does the same with `datasets.load_dataset` and `Seq2SeqTrainer`, on the same
weights and the same batch size, and checks nothing. A first run of each side, whose time does not count, fills the
caches of `datasets`. The last row is our own code: what reads, checks and orders the records.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from .chart_files import questions_on
from .measure import Report, Row, Sample, arguments, ratio

RECORDS = 28_299
"""Questions of ChartQA's training split."""
QUICK_RECORDS = 40
PICTURE, DRAWN_SIZE = 64, 400
CHART_BYTES = 30_000
"""Bytes of a chart, about as many as those of ChartQA have on average."""
BATCH_SIZE = 4
ROWS_PER_SHARD = 10_000
PHASES = ("imports", "data set", "model", "trainer, checks and index", "first step")
OWN = ("data set", "trainer, checks and index")
"""The phases that grow with the data set."""
ROOT = Path(__file__).resolve().parents[2]


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--records", type=int, help=f"questions of the data set ({RECORDS:,})")
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "FOLDER", "FILE"), help="one run, for internal use")
    args = parser.parse_args(argv)
    if args.child:
        side, folder, file = args.child
        Path(file).write_text(json.dumps(SIDES[side](Path(folder))), encoding="utf-8")
        return
    records = args.records or (QUICK_RECORDS if args.quick else RECORDS)
    report = Report("P8", args.out, args.quick)
    with tempfile.TemporaryDirectory() as folder:
        charts = write_data(Path(folder), records)
        write_model(Path(folder) / "model")
        report.note(f"{records:,} questions on {charts:,} charts")
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for number in range(-1, args.runs):
            for side in SIDES if number % 2 == 0 else reversed(SIDES):
                spent = run(side, Path(folder))
                if number >= 0:
                    runs[side].append(spent)
    for row in rows(runs, records):
        report.add(row)


def rows(runs: dict[str, list[dict[str, float]]], records: int) -> Iterator[Row]:
    """Yield the rows of the table: the whole, then its parts."""
    whole = {side: Sample(tuple(sum(spent.values()) for spent in some)) for side, some in runs.items()}
    name = f"P8 start to first step, {records:,} records"
    yield Row(name, whole["ours"], records, whole["peer"], ratio(whole["peer"], whole["ours"]), goal="< 15 s")
    for phase in PHASES:
        parts = {side: Sample(tuple(spent[phase] for spent in some)) for side, some in runs.items()}
        yield Row(f"{name}: {phase}", parts["ours"], records, parts["peer"], ratio(parts["peer"], parts["ours"]))
    own = Sample(tuple(sum(spent[phase] for phase in OWN) for spent in runs["ours"]))
    yield Row(f"{name}: {' and '.join(OWN)}", own, records, goal="< 5 s")


def run(side: str, folder: Path) -> dict[str, float]:
    """Return the seconds of each phase of a new process, from its start on."""
    file = folder / "seconds.json"
    environment = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    start = time.time()
    subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.startup", "--child", side, str(folder), str(file)],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return seconds(json.loads(file.read_text(encoding="utf-8")), start)


def seconds(ended: Mapping[str, float], start: float) -> dict[str, float]:
    """Return how long each phase took, of the times at which they ended."""
    return {phase: ended[phase] - before for phase, before in zip(PHASES, [start, *ended.values()], strict=False)}


def write_data(folder: Path, records: int) -> int:
    """Write the data set as Parquet files into `folder/data`; return the number of charts, all of them different."""
    (folder / "data").mkdir()
    numbered = _numbered(drawn_pictures(), records)
    last, shards = 0, iter(lambda: list(itertools.islice(numbered, ROWS_PER_SHARD)), [])
    for shard, part in enumerate(shards):
        write_shard(part, folder / "data" / f"train-{shard:05d}.parquet")
        last = part[-1]["chart"]
    return last + 1


def drawn_pictures() -> list[tuple[bytes, list[tuple[str, str]]]]:
    """Return drawn charts as PNG, with the questions and answers about each."""
    from chartqa_ft.data.synthetic.questions import synthetic_chartqa

    drawn = synthetic_chartqa(60, seed=0, image_size=DRAWN_SIZE, questions_per_chart={"value": 2, "count": 1})
    pictures: dict[str, tuple[bytes, list[tuple[str, str]]]] = {}
    for row in drawn:
        if row["chart_id"] not in pictures:
            buffer = io.BytesIO()
            row["image"].save(buffer, "PNG")
            pictures[row["chart_id"]] = buffer.getvalue(), []
        pictures[row["chart_id"]][1].append((row["question"], row["answer"]))
    return list(pictures.values())


def _numbered(pictures: list[tuple[bytes, list[tuple[str, str]]]], records: int) -> Iterator[dict[str, Any]]:
    """Yield rows as they are stored; what follows the end of a PNG makes each chart another one."""
    left = records
    for chart in itertools.count():
        content, questions = pictures[chart % len(pictures)]
        more = max(CHART_BYTES - len(content), 8)
        for number, (question, answer) in enumerate(questions[: min(questions_on(chart), left)]):
            yield {
                "image": {"bytes": content + Random(chart).randbytes(more), "path": f"{chart}.png"},
                "query": f"{question} ({chart})",
                "label": [answer],
                "human_or_machine": number,
                "chart": chart,
            }
            left -= 1
        if not left:
            return


def write_shard(part: list[dict[str, Any]], path: Path) -> None:
    """Write rows as a Parquet file with the columns that ChartQA has on the Hub."""
    from datasets import ClassLabel, Dataset, Features, Image, List, Value

    kinds = ClassLabel(names=["human", "machine"])
    features = Features({"image": Image(), "query": Value("string"), "label": List(Value("string"))})
    columns = {name: [row[name] for row in part] for name in (*features, "human_or_machine")}
    Dataset.from_dict(columns, features=Features({**features, "human_or_machine": kinds})).to_parquet(str(path))


def write_model(folder: Path) -> None:
    from chartqa_ft.models.tiny import tiny_unichart

    model, processor = tiny_unichart("test", image_size=PICTURE, window_size=4)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": BATCH_SIZE,
        "max_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }


def _stamped(ended: dict[str, float]) -> Any:
    """Return a callback that notes when the first step begins."""
    from transformers import TrainerCallback

    class Stamp(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ended.setdefault(PHASES[3], time.time())

    return Stamp()


def ours(folder: Path) -> dict[str, float]:
    """Return when each phase of our way ended, in seconds since the epoch."""
    from chartqa_ft import ChartQATrainer, ChartQATrainingArguments, load_chartqa, load_checkpoint

    ended = {PHASES[0]: time.time()}
    records = load_chartqa(folder / "data", split="train")
    ended[PHASES[1]] = time.time()
    model, processor, adapter = load_checkpoint(folder / "model", trainable=True)
    ended[PHASES[2]] = time.time()
    trainer = ChartQATrainer(
        model,
        ChartQATrainingArguments(**_arguments(folder)),
        train_dataset=records,
        adapter=adapter,
        processing_class=processor,
        callbacks=[_stamped(ended)],
    )
    trainer.train()
    return {**ended, PHASES[4]: time.time()}


def peer(folder: Path) -> dict[str, float]:
    """The same with `datasets` and `Seq2SeqTrainer`."""
    import torch
    from datasets import load_dataset
    from transformers import AutoProcessor, Seq2SeqTrainer, Seq2SeqTrainingArguments, VisionEncoderDecoderModel

    ended = {PHASES[0]: time.time()}
    records = load_dataset("parquet", data_dir=str(folder / "data"), split="train")
    ended[PHASES[1]] = time.time()
    model = VisionEncoderDecoderModel.from_pretrained(folder / "model").train()
    processor = AutoProcessor.from_pretrained(folder / "model")
    ended[PHASES[2]] = time.time()

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pixels = processor.image_processor([row["image"].convert("RGB") for row in batch], return_tensors="pt")
        prompts = [f"<chartqa> {row['query']} <s_answer> {row['label'][0]}</s>" for row in batch]
        ids = processor.tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False)["input_ids"]
        labels = ids[:, 1:].clone()
        labels[labels == processor.tokenizer.pad_token_id] = -100
        return {"pixel_values": pixels["pixel_values"], "decoder_input_ids": ids[:, :-1], "labels": labels}

    Seq2SeqTrainer(
        model,
        Seq2SeqTrainingArguments(**_arguments(folder), remove_unused_columns=False),
        train_dataset=records,
        data_collator=collate,
        callbacks=[_stamped(ended)],
    ).train()
    return {**ended, PHASES[4]: time.time()}


SIDES: dict[str, Callable[[Path], dict[str, float]]] = {"peer": peer, "ours": ours}

if __name__ == "__main__":
    main()
