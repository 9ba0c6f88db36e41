"""Every kind of data set becomes the same records, or is refused with what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Array3D, Dataset, DatasetDict, Features, IterableDataset, Value
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.batching.loader import chart_loader
from chartqa_ft.batching.records import as_records, column, has_answers, is_stream

from ..support.common import Items

CHART = Image.new("RGB", (96, 96), "red")
ROWS = [{"image": CHART, "question": f"q{n}", "answer": str(n), "chart_id": f"{n // 2}"} for n in range(4)]
RAW = {"image": [CHART] * 2, "query": ["How many?"] * 2, "label": [["3"]] * 2}


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)


def generate():
    yield from ROWS


SOURCES = {
    "list": ROWS,
    "tuple": tuple(ROWS),
    "dict values": dict(enumerate(ROWS)).values(),
    "datasets": Dataset.from_list(ROWS),
    "transform": Dataset.from_list(ROWS).with_transform(lambda rows: rows),
    **{f"format {kind}": Dataset.from_list(ROWS).with_format(kind) for kind in ("numpy", "torch", "pandas", "arrow")},
    "format of some columns": Dataset.from_list(ROWS).with_format("numpy", columns=["question"]),
    "torch": Items(ROWS),
    "subset": Subset(ConcatDataset([ROWS[:1], Items(ROWS[1:])]), range(4)),
    "stream": Dataset.from_list(ROWS).to_iterable_dataset(),
    "stream with a format": Dataset.from_list(ROWS).to_iterable_dataset().with_format("torch"),
    "stream with a format of tables": Dataset.from_list(ROWS).to_iterable_dataset().with_format("arrow"),
    "generated stream": IterableDataset.from_generator(generate),
    "torch stream": Stream(ROWS),
}


def batches(data, collate):
    settings = {"accumulation": 1, "num_replicas": 1, "shuffle": False, "drop_last": False, "seed": 0}
    return list(chart_loader(data, collate, batch_size=4, group_by_chart=True, **settings))


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_data_set_gives_the_same_batch(adapter, name):
    collate = ChartQACollator(adapter, keep_rows=True)
    wanted, (batch,) = collate(ROWS), batches(SOURCES[name], collate)
    assert torch.equal(batch["labels"], wanted["labels"])
    assert torch.equal(batch["decoder_input_ids"], wanted["decoder_input_ids"])
    assert torch.equal(batch["pixel_values"], wanted["pixel_values"])
    assert batch["chart_index"].tolist() == [0, 0, 1, 1]
    assert [row["index"] for row in batch["rows"]] == [0, 1, 2, 3]
    assert has_answers(SOURCES[name])
    assert is_stream(SOURCES[name]) == ("stream" in name)


def png(tmp_path):
    CHART.save(tmp_path / "chart.png")
    return (tmp_path / "chart.png").read_bytes()


IMAGES = {
    "path": lambda folder: (png(folder), str(folder / "chart.png"))[1],
    "pathlib path": lambda folder: (png(folder), folder / "chart.png")[1],
    "bytes": png,
    "bytearray": lambda folder: bytearray(png(folder)),
    "stored": lambda folder: {"bytes": png(folder), "path": None},
    "array": lambda folder: np.asarray(CHART),
    "array of int64": lambda folder: np.asarray(CHART).astype(np.int64),
    "array of channels, height, width": lambda folder: np.moveaxis(np.asarray(CHART), -1, 0),
    "array of floats": lambda folder: np.asarray(CHART) / 255,
    "array of float32 up to 255": lambda folder: np.asarray(CHART).astype(np.float32),
    "nested list": lambda folder: np.asarray(CHART).tolist(),
    "tensor": lambda folder: torch.tensor(np.asarray(CHART)),
    "tensor of channels, height, width": lambda folder: torch.tensor(np.asarray(CHART) / 255).float().permute(2, 0, 1),
    "tensor of 16 bits": lambda folder: (torch.tensor(np.asarray(CHART)) / 255).bfloat16(),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_every_kind_of_image_gives_the_same_pixels(adapter, kind, tmp_path):
    record = {**ROWS[0], "image": IMAGES[kind](tmp_path)}
    wanted = ChartQACollator(adapter)(ROWS[:1])["pixel_values"]
    for rows in ([record], Items([record]), IterableDataset.from_generator(lambda: iter([record]))):
        for raw in (False, True):
            (batch,) = batches(rows, ChartQACollator(adapter, raw_charts=raw))
            assert torch.equal(adapter.model_inputs(batch)["pixel_values"], wanted)


@pytest.mark.parametrize("kind", ["path", "bytes", "nested list", "array of channels, height, width"])
def test_images_in_columns_of_other_types(adapter, kind, tmp_path):
    image = IMAGES[kind](tmp_path)
    shape = {"array of channels, height, width": Array3D((3, 96, 96), "uint8")}.get(kind)
    texts = {name: Value("string") for name in ("question", "answer", "chart_id")}
    rows = [{**row, "image": image} for row in ROWS[:2]]
    table = Dataset.from_list(rows, features=None if shape is None else Features({"image": shape, **texts}))
    (batch,) = batches(table, ChartQACollator(adapter))
    assert batch["chart_index"].tolist() == [0, 0]
    assert torch.equal(batch["pixel_values"], ChartQACollator(adapter)(ROWS[:1])["pixel_values"])


def test_images_that_are_normalized_already_are_refused_by_record(adapter):
    for image in (np.full((3, 8, 8), -0.5), np.full((8, 8, 3), 300.0), np.full((8, 8, 3), np.nan), np.zeros(5)):
        with pytest.raises(ValueError, match=r"record \(chart_id='0', question='q0'\): the image cannot be decoded"):
            ChartQACollator(adapter)([{**ROWS[0], "image": image}])


def renamed(rows):
    return {"image": rows["image"], "question": rows["query"]}


NAMED = "image.*'query', 'label'.*load_chartqa.*rename 'query' to 'question'"


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            Dataset.from_dict(RAW),
            ValueError,
            f"^mine has no 'question' and no 'answer'.*{NAMED} and 'label' to 'answer'",
        ),
        (Dataset.from_dict(RAW).with_format("torch"), ValueError, NAMED),
        (Dataset.from_dict(RAW).to_iterable_dataset(), ValueError, NAMED),
        (list(Dataset.from_dict(RAW)), ValueError, rf"^mine\[0\] has no 'question'.*{NAMED}"),
        (Items([{"image": CHART, "query": "?", "label": "3"}]), ValueError, rf"^mine\[0\] has no.*{NAMED}"),
        (
            Dataset.from_dict({"imgname": ["a.png"], "query": ["?"], "label": ["3"]}),
            ValueError,
            "no 'image' and no 'question' and no 'answer'.*load_chartqa.*rename 'query' to 'question'",
        ),
        (
            Dataset.from_dict(RAW).with_transform(renamed),
            ValueError,
            r"^mine \(with its transform\)\[0\] has no 'answer'",
        ),
        ([*ROWS, {"image": CHART, "question": "?"}], ValueError, r"^mine\[4\] has no 'answer'"),
        (DatasetDict(train=Dataset.from_list(ROWS)), ValueError, "a DatasetDict of 'train'.*mine=data\\['train'\\]"),
        ({"image": [CHART], "question": ["?"]}, TypeError, "dict of columns.*from_dict"),
        ("HuggingFaceM4/ChartQA", TypeError, "mine=load_chartqa\\('HuggingFaceM4/ChartQA'\\)"),
        ((row for row in ROWS), ValueError, "a generator, which can be read only once"),
        (map(dict, ROWS), ValueError, "a map, which can be read only once"),
        (generate, TypeError, "a function, not a data set"),
        (Dataset.from_list(ROWS).to_pandas(), TypeError, "a DataFrame.*Dataset.from_pandas"),
        (Items([(CHART, "?", "3")]), TypeError, r"^mine\[0\] is a tuple, not a dict"),
        ([CHART], TypeError, r"^mine\[0\] is a Image, not a dict"),
        (7, TypeError, "a int, not a data set"),
    ],
)
def test_other_data_is_refused_by_name(data, error, message):
    with pytest.raises(error, match=message):
        as_records(data, "mine", answers=True)


def test_a_later_record_is_checked_when_it_is_read(adapter):
    wrong = [*ROWS[:3], {"image": CHART, "query": "?"}]
    for data, where in ((Items(wrong), r"\[3\]"), (Stream(wrong), "record 3 of")):
        with pytest.raises(ValueError, match=rf"{where}.*has no 'question'|has no 'question'.*{where}"):
            batches(data, ChartQACollator(adapter, with_answers=False))


def test_answers_under_another_name_are_no_hidden_test_set():
    records = [{"image": CHART, "question": "?", "label": "3"}]
    with pytest.raises(ValueError, match=r"has no 'answer'.*rename 'label' to 'answer'"):
        as_records(records)
    assert not has_answers([{"image": CHART, "question": "?", "comment": "none"}])


@pytest.mark.parametrize(
    ("answers", "found"),
    [([0], True), ([False], True), ([0.0], True), (["", None, 0], True), ([None], False), ([""], False)],
)
def test_answers_are_what_records_hand_out(answers, found):
    rows = [{"image": CHART, "question": "?", "answer": answer} for answer in answers]
    assert has_answers(rows) == has_answers(Items(rows)) == has_answers(Stream(rows)) == found
    kinds = {type(answer) for answer in answers} - {type(None)}
    if len(kinds) < 2:
        assert (
            has_answers(Dataset.from_list(rows)) == has_answers(Dataset.from_list(rows).with_format("pandas")) == found
        )
    hidden = Dataset.from_list([{"image": CHART, "question": "?"}] * len(rows))
    made = hidden.with_transform(lambda batch: {**batch, "answer": answers[: len(batch["question"])]})
    assert has_answers(made) == (found and answers[0] not in ("", None))
    assert not has_answers(hidden)


def test_sources_are_those_that_records_hand_out():
    rows = [{**row, "source": "human"} for row in ROWS]
    table = Dataset.from_list(ROWS)
    made = table.with_transform(lambda batch: {**batch, "source": ["human"] * len(batch["question"])})
    for data in (rows, Dataset.from_list(rows).with_format("pandas"), made, Items(rows)):
        assert column(data, "source") == ["human"] * 4
    assert column(table, "source") == [None] * 4
