"""Each row reaches the model with the picture that the data set handed out for it, whatever its `chart_id` says."""

from __future__ import annotations

import os
from collections import UserDict

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, IterableDataset, Value
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw

from chartqa_ft.adapters import adapter_for
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.batching.loader import chart_loader
from chartqa_ft.images.opening import decoded as decode

from ..support.common import tiny
from ..support.encoding import BLACK_VALUE, WHITE_VALUE, example

COLORS = ["red", "lime", "blue", "yellow"]


def picture(color: str) -> Image.Image:
    return Image.new("RGB", (96, 96), color)


def texts(color: str) -> dict[str, str]:
    return {"question": color, "answer": "7", "source": "human", "chart_id": "a.png"}


def stored(images) -> Dataset:
    columns = {name: Value("string") for name in texts("")}
    rows = [{"image": image, **texts(color)} for image, color in zip(images, COLORS, strict=True)]
    return Dataset.from_list(rows, features=Features({"image": ImageFeature(), **columns}))


def plain_table() -> Dataset:
    return stored([picture("white")] * 4)


def loader(records, collate, **changes):
    settings = {"accumulation": 1, "num_replicas": 1, "shuffle": False, "drop_last": False, "seed": 0}
    return chart_loader(
        records,
        collate,
        **{"batch_size": 4, "group_by_chart": True, "stored_images": collate.raw_charts, **settings, **changes},
    )


def colors_seen(adapter, records, **settings) -> list[str]:
    """The color of the first pixel of each row's picture, as the model gets it, in the order of COLORS."""
    collate = ChartQACollator(adapter, keep_rows=True, **settings)
    seen = {}
    for batch in loader(records, collate):
        pixels = adapter.model_inputs(batch)["pixel_values"]
        chart = batch.get("chart_index", torch.arange(len(batch["rows"])))
        for row, number in zip(batch["rows"], chart.tolist(), strict=True):
            bright = tuple((pixels[number, :, 48, 48] > (BLACK_VALUE + WHITE_VALUE) / 2).tolist())
            seen[row["question"]] = {
                (True, False, False): "red",
                (False, True, False): "lime",
                (False, False, True): "blue",
                (True, True, False): "yellow",
                (True, True, True): "white",
            }[bright]
    return [seen[color] for color in COLORS]


def fresh_pictures(tmp_path):
    return plain_table().with_transform(lambda rows: {**rows, "image": [picture(color) for color in rows["question"]]})


def one_picture_drawn_on(tmp_path):
    chart = picture("white")

    def mark(rows):
        for color in rows["question"]:
            ImageDraw.Draw(chart).rectangle([0, 0, 96, 96], color)
        return {**rows, "image": [chart] * len(rows["question"])}

    return plain_table().with_transform(mark)


def one_array_written_to(tmp_path):
    canvas = np.zeros((96, 96, 3), np.uint8)

    def mark(rows):
        canvas[:] = np.asarray(picture(rows["question"][0]))
        return {**rows, "image": [canvas]}

    return plain_table().with_transform(mark)


def one_file_written_anew(tmp_path):
    path = str(tmp_path / "chart.png")

    def mark(rows):
        picture(rows["question"][0]).save(path)
        return {**rows, "image": [path]}

    return plain_table().with_transform(mark)


class Drawn(torch.utils.data.Dataset):
    """Draws every row on one image."""

    def __init__(self):
        self.chart = picture("white")

    def __len__(self):
        return len(COLORS)

    def __getitem__(self, row):
        self.chart.paste(COLORS[row], (0, 0, 96, 96))
        return {"image": self.chart, **texts(COLORS[row])}


def torch_data_set(tmp_path):
    return Drawn()


def part_of_a_torch_data_set(tmp_path):
    both = torch.utils.data.ConcatDataset([Drawn(), Drawn()])
    return torch.utils.data.Subset(both, [4, 1, 6, 3])


def lazy_list(tmp_path):
    class Lazy(list):
        def __getitem__(self, row):
            return {"image": picture(COLORS[row]), **texts(COLORS[row])}

    return Lazy([{"image": picture("white"), **texts("?")}] * 4)


def lazy_records(tmp_path):
    class Lazy(UserDict):
        def __getitem__(self, name):
            return picture(self.data["question"]) if name == "image" else self.data[name]

    class Lazier(dict):
        def __getitem__(self, name):
            return picture(dict.get(self, "question")) if name == "image" else dict.get(self, name)

    return Records(
        [kind({"image": None, **texts(color)}) for kind, color in zip([Lazy, Lazier] * 2, COLORS, strict=True)]
    )


class Records(list):
    """A list's subclass, whose items are read one by one."""


def stream(tmp_path):
    def generate():
        chart = picture("white")
        for color in COLORS:
            chart.paste(color, (0, 0, 96, 96))
            yield {"image": chart, **texts(color)}

    return IterableDataset.from_generator(generate)


def own_stream(tmp_path):
    class Stream:
        def __iter__(self):
            chart = {"image": picture("white"), **texts("?")}
            for color in COLORS:
                chart["image"].paste(color, (0, 0, 96, 96))
                chart["question"] = color
                yield chart

    return Stream()


def list_of_arrays(tmp_path):
    return [{"image": np.asarray(picture(color)), **texts(color)} for color in COLORS]


def list_of_tensors(tmp_path):
    return [{"image": torch.tensor(np.asarray(picture(c))).permute(2, 0, 1) / 255, **texts(c)} for c in COLORS]


def list_of_bytes(tmp_path):
    return [dict(row) for row in stored([picture(c) for c in COLORS]).cast_column("image", ImageFeature(decode=False))]


def frames_of_an_animation(tmp_path):
    frames = [picture(color) for color in COLORS]
    frames[0].save(tmp_path / "charts.gif", save_all=True, append_images=frames[1:])
    rows = []
    for number, color in enumerate(COLORS):
        frame = Image.open(tmp_path / "charts.gif")
        frame.seek(number)
        rows.append({"image": frame, **texts(color)})
    return rows


def opened_before_and_after_a_change(tmp_path):
    rows = []
    for number, color in enumerate(COLORS):
        path = tmp_path / f"{number // 2}.png"
        path.unlink(missing_ok=True)
        picture(color).save(path)
        rows.append({"image": Image.open(path), **texts(color)})
    return rows


MADE = [
    fresh_pictures,
    one_picture_drawn_on,
    one_array_written_to,
    one_file_written_anew,
    torch_data_set,
    part_of_a_torch_data_set,
    lazy_list,
    lazy_records,
    stream,
    own_stream,
    list_of_arrays,
    list_of_tensors,
    list_of_bytes,
    frames_of_an_animation,
    opened_before_and_after_a_change,
]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_every_row_has_its_own_picture(adapter, make, raw, tmp_path):
    assert colors_seen(adapter, make(tmp_path), raw_charts=raw) == COLORS


def test_a_file_that_changes_after_it_was_compared_is_read_anew(adapter, tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for path in paths:
        picture("white").save(path)
    records = stored(paths)
    collate = ChartQACollator(adapter)
    batches = loader(records, collate)
    assert len(next(iter(batches))["pixel_values"]) == 1  # equal files are one chart
    for path, color in zip(paths[:2], COLORS[:2], strict=True):
        picture(color).save(path)
        os.utime(path, (0, 0))
    batch = next(iter(batches))
    assert batch["chart_index"].tolist() == [0, 1, 2, 2]
    assert len({tuple(chart[:, 0, 0].tolist()) for chart in batch["pixel_values"]}) == 3


def test_an_adapter_that_draws_by_the_question_is_asked_for_every_row(tmp_path):
    model, processor = tiny()
    base = type(adapter_for(model, processor))

    class Marks(base):
        def image(self, example):
            return picture(example["question"])

    marks = Marks(model, processor)
    for records in (plain_table(), list(plain_table()), [example(image=picture("white"), **texts(c)) for c in COLORS]):
        assert colors_seen(marks, records) == COLORS


def test_equal_pictures_of_a_transform_share_an_encoder_pass(adapter):
    halves = plain_table().with_transform(
        lambda rows: {**rows, "image": [picture("red" if q in COLORS[:2] else "blue") for q in rows["question"]]}
    )
    batch = next(iter(loader(halves, ChartQACollator(adapter))))
    assert batch["chart_index"].tolist() == [0, 0, 1, 1]


def test_a_stored_picture_is_decoded_once_and_not_compared(adapter, monkeypatch):
    decoded = []
    monkeypatch.setattr("chartqa_ft.batching.records.decoded", lambda image: decoded.append(1) or decode(image))
    records = plain_table()
    monkeypatch.setattr("chartqa_ft.batching.collator._pixels_key", None)
    batch = next(iter(loader(records, ChartQACollator(adapter))))
    assert (len(batch["pixel_values"]), len(decoded)) == (1, 1)


def test_charts_of_parts_of_data_sets_are_read_together(adapter):
    rows = [{"image": picture("red"), **texts("?"), "chart_id": chart} for chart in "abcabc"]
    part = torch.utils.data.Subset(torch.utils.data.ConcatDataset([rows[:4], rows[4:]]), range(6))
    seen = [
        record["chart_id"]
        for batch in loader(part, ChartQACollator(adapter, keep_rows=True), batch_size=2)
        for record in batch["rows"]
    ]
    assert seen == list("aabbcc")
