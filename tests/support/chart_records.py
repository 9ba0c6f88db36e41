"""Files and datasets of charts in the layouts that `load_chartqa` reads."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    IterableDataset,
    List,
    Value,
)
from PIL import Image

from chartqa_ft.data.load import load_chartqa

COLUMNS = ["image", "question", "answer", "source", "chart_id"]


def chart(shade: int, format: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(buffer, format)
    return buffer.getvalue()


def undecodable(size: tuple[int, int] = (8, 6)) -> bytes:
    """A PNG whose structure is whole and whose pixels are not: a proof that nothing decodes it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"no zlib stream at all") + chunk(b"IEND", b"")


def plain(dataset) -> list[dict]:
    """All rows, images as (width, height, red of the first pixel)."""
    return [{**row, "image": (*row["image"].size, row["image"].getpixel((0, 0))[0])} for row in dataset]


def row(shade, question, answer, source, chart_id) -> dict:
    return {"image": (8, 6, shade), "question": question, "answer": answer, "source": source, "chart_id": chart_id}


def texts(dataset, column: str) -> list[str]:
    return list(dataset[column])


def write_images(folder: Path, **shades: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, shade in shades.items():
        (folder / f"{name}.png").write_bytes(chart(shade))


RECORDS = [
    {"imgname": "a.png", "query": "What is most?", "label": "Tea"},
    {"imgname": "a.png", "query": "How many?", "label": "12"},
    {"imgname": "b.png", "query": "Which years?", "label": "[2017, 2023]"},
]
EXPECTED = [
    row(10, "What is most?", "Tea", "unknown", "a.png"),
    row(10, "How many?", "12", "unknown", "a.png"),
    row(20, "Which years?", "[2017, 2023]", "unknown", "b.png"),
]


def original(folder: Path, tables: bool) -> Path:
    """The original layout: test has both sources, val only human questions."""
    for split, names in (("test", {"one": 10, "two": 20}), ("val", {"three": 30, "four": 40})):
        write_images(folder / split / "png", **names)
        if tables:
            (folder / split / "tables").mkdir()
            (folder / split / "tables" / "one.csv").write_text("Year,Share\n2017,5\n")
            (folder / split / "annotations").mkdir()
            (folder / split / "annotations" / "one.json").write_text('{"models": []}')
        human = [{"imgname": f"{list(names)[1]}.png", "query": f"{split} human?", "label": "[Germany, France]"}]
        (folder / split / f"{split}_human.json").write_text(json.dumps(human))
    augmented = [{"imgname": name, "query": f"augmented {name}?", "label": "5.5"} for name in ("one.png", "two.png")]
    (folder / "test" / "test_augmented.json").write_text(json.dumps(augmented))
    return folder


def parquet(folder: Path, split: str, features: Features, rows: list[dict]) -> None:
    """A file as `push_to_hub` writes it: images inside, the features in the metadata."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


def rows_of(source, split: str, streaming: bool, **options) -> list[dict]:
    loaded = load_chartqa(source, split=split, streaming=streaming, **options)
    assert isinstance(loaded, IterableDataset if streaming else Dataset)
    return plain(loaded)


def write_records(path: Path, records: list[dict]) -> Path:
    suffix = path.suffix
    if suffix == ".json":
        path.write_text(json.dumps(records), encoding="utf-8")
    elif suffix in (".jsonl", ".ndjson"):
        path.write_text("\n".join(map(json.dumps, records)) + "\n\n", encoding="utf-8")
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    return path


M4 = Features(
    {
        "image": datasets.Image(),
        "query": Value("string"),
        "label": List(Value("string")),
        "human_or_machine": ClassLabel(names=["human", "machine"]),
    }
)


def m4_rows(shade: int) -> list[dict]:
    inside = {"bytes": chart(shade), "path": None}
    return [
        {"image": inside, "query": "Human?", "label": ["14"], "human_or_machine": 0},
        {"image": inside, "query": "Machine?", "label": ["[2017, 2023]"], "human_or_machine": 1},
        {"image": {"bytes": chart(99), "path": None}, "query": "Other?", "label": ["Yes"], "human_or_machine": 1},
    ]


def mark(shade: int) -> str:
    return f"#{hashlib.blake2b(chart(shade), digest_size=16).hexdigest()[:16]}"


def ids_of(dataset) -> list[str]:
    """Read one by one, so that streams too give them."""
    return [record["chart_id"] for record in dataset]


RED, BLUE = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))


def charts_dataset(images, ids, **features):
    columns = {"image": images, "chart_id": ids, "question": [f"question {i}" for i in range(len(ids))]}
    return Dataset.from_dict(columns).cast_column("image", datasets.Image(**features))
