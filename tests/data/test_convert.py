"""Images stay undecoded and in their file; streams check while they are read, resume and reach workers."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import (
    Dataset,
    Features,
    Value,
)
from PIL import Image

from chartqa_ft.data import RecordError
from chartqa_ft.data.load import load_chartqa

from ..support.chart_records import (
    EXPECTED,
    RECORDS,
    chart,
    parquet,
    plain,
    texts,
    undecodable,
    write_records,
)


@pytest.mark.parametrize("inside", [True, False], ids=["images inside", "image files"])
def test_no_image_is_decoded_before_its_row_is_read(tmp_path, folder, inside, streaming):
    records = [{**RECORDS[0], "imgname": name} for name in ("a.png", "bad.png")]
    if inside:
        features = Features({**{name: Value("string") for name in RECORDS[0]}, "image": datasets.Image()})
        images = [{"bytes": data, "path": None} for data in (chart(10), undecodable())]
        parquet(folder, "train", features, [{**r, "image": image} for r, image in zip(records, images, strict=True)])
    else:
        (folder / "images" / "bad.png").write_bytes(undecodable())
        write_records(folder / "charts.json", records)
    loaded = load_chartqa(folder, split="train", streaming=streaming)
    if streaming:
        assert [r["chart_id"] for r in loaded.decode(False)] == ["a.png", "bad.png"]
        rows = iter(loaded)
        assert next(rows)["image"].getpixel((0, 0)) == (10, 0, 0)
        with pytest.raises(OSError, match="broken data"):
            next(rows)
    else:
        assert texts(loaded, "chart_id") == ["a.png", "bad.png"]
        assert loaded[0]["image"].getpixel((0, 0)) == (10, 0, 0)
        with pytest.raises(OSError, match="broken data"):
            loaded[1]


def test_images_inside_a_file_are_mapped_not_copied(tmp_path):
    features = Features({"image": datasets.Image(), "query": Value("string"), "label": Value("string")})
    noise = np.random.default_rng(0).integers(0, 256, (20, 90, 90, 3), dtype=np.uint8)
    rows = [{"image": Image.fromarray(pixels), "query": "Q?", "label": "A"} for pixels in noise]
    parquet(tmp_path / "big", "train", features, rows)
    before = pa.total_allocated_bytes()
    loaded = load_chartqa(tmp_path / "big", split="train")
    stored = sum(len(r["image"]["bytes"]) for r in loaded.cast_column("image", datasets.Image(decode=False)))
    assert stored > 400_000
    assert pa.total_allocated_bytes() - before < stored / 10
    files = [Path(file["filename"]) for file in loaded.cache_files]
    assert len(files) == 1  # the one that `datasets` made of the Parquet file
    assert files[0].stat().st_size < 2 * stored


def test_a_stream_checks_while_it_is_read(folder, caplog):
    path = write_records(folder / "charts.jsonl", [RECORDS[0], {**RECORDS[0], "label": ""}, RECORDS[2]])
    stream = load_chartqa(path, split="train", streaming=True)  # says nothing yet
    rows = iter(stream)
    assert next(rows)["answer"] == "Tea"
    with pytest.raises(RecordError, match="record 1 of split 'train'"):
        next(rows)
    stream = load_chartqa(path, split="train", streaming=True, on_error="skip")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # each pass reports
            assert [r["answer"] for r in stream] == ["Tea", "[2017, 2023]"]
    assert [message[:44] for message in caplog.messages] == ["Dropped 1 of 3 records of split 'train' (1 n"] * 2


def test_a_stream_keeps_its_shards_and_resumes(folder):
    for name in ("train_human", "train_augmented"):
        write_records(folder / f"{name}.jsonl", RECORDS)
    stream = load_chartqa(folder, split="train", streaming=True)
    assert stream.num_shards == 2
    assert [r["source"] for r in stream] == ["human"] * 3 + ["augmented"] * 3
    assert [r["source"] for r in stream.shard(2, 1)] == ["augmented"] * 3
    rows = iter(stream)
    for _ in range(4):
        next(rows)
    rest = load_chartqa(folder, split="train", streaming=True)
    rest.load_state_dict(stream.state_dict())
    assert [(r["source"], r["question"]) for r in rest] == [("augmented", r["query"]) for r in RECORDS[1:]]
    several = load_chartqa(Dataset.from_list(RECORDS).to_iterable_dataset(3), image_dir=folder)
    assert several.num_shards == 3
    assert plain(several) == EXPECTED


def test_a_stream_reaches_the_workers_of_a_loader(folder):
    import torch

    for name in ("train_human", "train_augmented"):
        write_records(folder / f"{name}.jsonl", RECORDS)
    stream = load_chartqa(folder, split="train", streaming=True).decode(False)
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert Counter(r["source"] for r in loader) == {"human": 3, "augmented": 3}
