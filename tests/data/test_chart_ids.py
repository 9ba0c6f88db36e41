"""One chart has one id in all splits and shards, and different charts have different ids."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    Value,
)

from chartqa_ft.data.load import load_chartqa

from ..support.chart_records import (
    RECORDS,
    chart,
    ids_of,
    mark,
    plain,
    rows_of,
    write_images,
    write_records,
)


def test_charts_of_one_name_are_kept_apart(tmp_path, streaming):
    rows = [{"imgname": "chart.png", "query": "Q?", "label": "A", "image": chart(shade)} for shade in (1, 1, 2, 2, 1)]
    (tmp_path / "own").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "own" / "train.parquet")
    ids = [r["chart_id"] for r in rows_of(tmp_path / "own", "train", streaming)]
    assert ids == ["chart.png", "chart.png", f"chart.png{mark(2)}", f"chart.png{mark(2)}", "chart.png"]


def test_files_of_one_name_in_several_splits(tmp_path, streaming):
    top = tmp_path / "R"
    write_images(top / "train" / "png", **{"1": 1, "2": 5, "3": 7})
    write_images(top / "val" / "png", **{"1": 2, "2": 5, "4": 8})  # 2.png is a copy
    for split, names in (("train", "1123"), ("val", "124")):
        records = [{"imgname": f"{name}.png", "query": "Q?", "label": "A"} for name in names]
        write_records(top / split / f"{split}_human.json", records)
    train = [f"1.png{mark(1)}", f"1.png{mark(1)}", "2.png", "3.png"]
    val = [f"1.png{mark(2)}", "2.png", "4.png"]
    loaded = load_chartqa(top, streaming=streaming)
    assert {split: ids_of(part) for split, part in loaded.items()} == {"train": train, "val": val}
    assert ids_of(load_chartqa(top, split="train+val", streaming=streaming)) == train + val
    assert ids_of(load_chartqa(top, split="val+train", streaming=streaming)) == val + train
    # The other split is there, even when it is not asked for.
    assert ids_of(load_chartqa(top, split="val", streaming=streaming)) == val
    assert ids_of(load_chartqa(top / "val", streaming=streaming)["val"]) == ["1.png", "2.png", "4.png"]
    rows = plain(load_chartqa(top, split="train+val", streaming=streaming))
    assert {(r["chart_id"], r["image"][2]) for r in rows} == set(zip(train + val, [1, 1, 5, 7, 2, 5, 8], strict=True))
    if not streaming:
        assert ids_of(load_chartqa(top, split="train[:2]+val[:1]+train[1:]")) == [*train[:2], val[0], *train[1:]]
    top.rename(tmp_path / "moved")
    assert ids_of(load_chartqa(tmp_path / "moved", split="val", streaming=streaming)) == val


def test_a_file_has_one_id_from_whichever_split_it_is_named(tmp_path, streaming):
    write_images(tmp_path / "own" / "train" / "png", a=1)
    write_records(tmp_path / "own" / "train.json", [{"imgname": "a.png", "query": "Q?", "label": "A"}])
    write_records(tmp_path / "own" / "test.json", [{"imgname": "train/png/a.png", "query": "Q?", "label": "A"}])
    loaded = load_chartqa(tmp_path / "own", streaming=streaming)
    assert {split: ids_of(part) for split, part in loaded.items()} == {"train": ["a.png"], "test": ["a.png"]}


def test_files_of_one_name_in_image_dir(tmp_path, streaming):
    write_images(tmp_path / "pictures" / "train" / "png", a=1)
    write_images(tmp_path / "pictures" / "val" / "png", a=2)
    hub = DatasetDict({name: Dataset.from_list(RECORDS[:1]) for name in ("train", "val")})
    loaded = load_chartqa(hub, split="train+val", image_dir=tmp_path / "pictures", streaming=streaming)
    assert ids_of(loaded) == [f"a.png{mark(1)}", f"a.png{mark(2)}"]


def test_names_beside_bytes_in_several_splits(tmp_path):
    for split, shades in (("train", (1, 1, 3)), ("val", (2, 1, 3))):
        rows = [
            {"imgname": f"{shade // 3}.png", "query": "Q?", "label": "A", "image": chart(shade)} for shade in shades
        ]
        (tmp_path / "own").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "own" / f"{split}.parquet")
    loaded = load_chartqa(tmp_path / "own")
    assert ids_of(loaded["train"]) == ["0.png", "0.png", "1.png"]
    assert ids_of(loaded["val"]) == [f"0.png{mark(2)}", "0.png", "1.png"]
    assert ids_of(load_chartqa(tmp_path / "own", split="train+val")) == [
        *ids_of(loaded["train"]),
        *ids_of(loaded["val"]),
    ]
    # Each split of a stream is read by itself, perhaps elsewhere: every name is marked.
    train = [f"0.png{mark(1)}", f"0.png{mark(1)}", f"1.png{mark(3)}"]
    val = [f"0.png{mark(2)}", f"0.png{mark(1)}", f"1.png{mark(3)}"]
    streams = load_chartqa(tmp_path / "own", streaming=True)
    for _ in range(2):  # in any order, in every pass
        assert ids_of(streams["val"]) == val
        assert ids_of(streams["train"]) == train
    assert ids_of(load_chartqa(tmp_path / "own", split="train+val", streaming=True)) == train + val
    assert ids_of(load_chartqa(streams)["val"]) == val  # once is enough
    assert ids_of(load_chartqa(tmp_path / "own", split="val", streaming=True)) == ["0.png", f"0.png{mark(1)}", "1.png"]


def test_own_chart_ids_in_several_splits_and_shards(folder, streaming):
    for name, image in (("train", "a.png"), ("test", "b.png")):
        records = [{"imgname": image, "chart_id": "p1", "query": "Q?", "label": "A"}] * 2
        write_records(folder / f"{name}.jsonl", records)
    loaded = load_chartqa(folder, streaming=streaming)
    ids = {split: ids_of(part) for split, part in loaded.items()}
    b, a = [f"p1{mark(20)}"] * 2, [f"p1{mark(10)}"] * 2
    assert ids == ({"test": b, "train": a} if streaming else {"test": ["p1", "p1"], "train": a})
    rows = [
        {"image": {"bytes": chart(shade), "path": None}, "question": "Q?", "answer": "A", "chart_id": "c"}
        for shade in (1, 2)
    ]
    features = Features(
        {"image": datasets.Image(), **{n: Value("string") for n in ("question", "answer", "chart_id")}}
    )
    shards = Dataset.from_list(rows, features=features).to_iterable_dataset(num_shards=2)
    expected = [f"c{mark(1)}", f"c{mark(2)}"]
    assert ids_of(load_chartqa(shards)) == expected
    assert [ids_of(load_chartqa(shards).shard(2, index)) for index in (0, 1)] == [expected[:1], expected[1:]]


def test_a_name_that_looks_marked_is_kept_apart_too(tmp_path):
    names = ["a.png", "a.png", f"a.png{mark(2)}"]
    rows = [
        {"imgname": name, "query": "Q?", "label": "A", "image": chart(shade)}
        for name, shade in zip(names, (1, 2, 3), strict=True)
    ]
    for order in (rows, rows[::-1]):
        pq.write_table(pa.Table.from_pylist(order), tmp_path / "train.parquet")
        assert len(set(ids_of(load_chartqa(tmp_path / "train.parquet", split="train")))) == 3
