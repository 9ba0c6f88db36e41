"""Order of rows: whole charts, exact batches, the same step however it is split, every question once an epoch."""

from __future__ import annotations

from collections import Counter

import datasets
import pytest
from PIL import Image

from chartqa_ft.batching.loader import chart_loader
from chartqa_ft.batching.rows import CHART_KEY, ROW_KEY, KeyedRows, RowKey
from chartqa_ft.batching.sampler import ChartSampler
from chartqa_ft.data.chart_groups import chart_groups

from ..support.common import drawn_charts

CHARTS = ["a", "a", "b", "c", "c", "c", "d", "e", "e", "f", "g", "h", "h", "h", "i"]


def sampler(charts=CHARTS, **changes):
    settings = {"charts": charts, "batch_size": 4, "step_size": 8, "seed": 3}
    return ChartSampler(len(charts), **{**settings, **changes})


def rows(keys):
    return [key.row for key in keys]


def batches(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


def test_order_without_shuffling_is_exact():
    keys = list(sampler(shuffle=False))
    # step 1 takes a, b, c, d and, for the last row, f; its batches hold a+b+d and c+f whole
    assert rows(keys) == [0, 1, 2, 6, 3, 4, 5, 9, 7, 8, 10, 14, 11, 12, 13]
    assert keys[0] == RowKey(row=0, epoch=0, counts=True)


def test_every_row_once_an_epoch_and_another_order_in_the_next():
    epochs = sampler()
    orders = []
    for epoch in range(3):
        epochs.set_epoch(epoch)
        keys = list(epochs)
        assert {key.epoch for key in keys} == {epoch}
        assert Counter(rows(keys)) == Counter(range(len(CHARTS)))
        orders.append(rows(keys))
    assert orders[0] != orders[1] != orders[2]
    epochs.set_epoch(1)
    assert rows(epochs) == orders[1]


def test_rows_of_a_step_do_not_depend_on_how_it_is_split():
    steps = {
        (size, ranks): [sorted(step) for step in batches(rows(sampler(batch_size=size, num_replicas=ranks))[:15], 8)]
        for size, ranks in [(8, 1), (4, 1), (2, 1), (1, 1), (4, 2)]
    }
    first = steps[8, 1]
    assert all(step == first for step in steps.values())


def test_charts_stay_whole_where_they_fit():
    charts = [f"chart {i // 2}" for i in range(64)]
    for batch in batches(rows(sampler(charts)), 4):
        assert all(count == 2 for count in Counter(charts[row] for row in batch).values())


def test_a_chart_larger_than_a_batch_is_split_and_loses_nothing():
    keys = list(sampler(["big"] * 11 + ["small"], batch_size=4, step_size=4))
    assert Counter(rows(keys)) == Counter(range(12))


def test_filler_rows_complete_the_round_of_all_ranks_and_count_for_nothing():
    keys = list(sampler(num_replicas=2))
    assert len(keys) == 16 == len(sampler(num_replicas=2))
    assert [key.counts for key in keys] == [True] * 15 + [False]
    assert Counter(rows(keys[:15])) == Counter(range(15))
    tiny = list(ChartSampler(1, charts=None, batch_size=2, step_size=4, num_replicas=2))
    assert [key.counts for key in tiny] == [True, False, False, False]


def test_drop_last_leaves_out_the_incomplete_round():
    keys = list(sampler(num_replicas=2, drop_last=True))
    assert len(keys) == 8 == len(sampler(num_replicas=2, drop_last=True))
    assert all(key.counts for key in keys)


def test_without_charts_rows_are_shuffled_one_by_one():
    keys = rows(ChartSampler(100, charts=None, batch_size=4, step_size=8, seed=1))
    assert sorted(keys) == list(range(100)) != keys


def test_a_step_that_batches_cannot_fill_is_refused():
    with pytest.raises(ValueError, match="step_size=6 is no multiple of 4 rows on 1 ranks"):
        sampler(step_size=6)


def test_rows_without_a_chart_id_are_charts_of_their_own():
    assert sampler(["a", None, "a", None, "", ""], batch_size=2, step_size=2).groups == [[0, 2], [1], [3], [4], [5]]
    assert chart_groups([{"chart_id": c, "image": None} for c in ["a", None, "a", "", "", None]]) == [0, 1, 0, 2, 3, 4]
    assert chart_groups([{"question": "?"}]) is None


def test_keyed_rows_pass_the_key_on_and_do_not_change_the_record():
    records = [{"question": "?", "row": 17}]
    key = RowKey(0, 2, True)
    assert KeyedRows(records)[key] == {"question": "?", "row": 17, ROW_KEY: key}
    assert KeyedRows(records, groups=[4])[key] == {"question": "?", "row": 17, ROW_KEY: key, CHART_KEY: 4}
    assert KeyedRows(records).__getitems__([key, key]) == [{"question": "?", "row": 17, ROW_KEY: key}] * 2
    assert records == [{"question": "?", "row": 17}]


def test_a_batch_decodes_each_chart_once():
    records = drawn_charts()
    groups = chart_groups(records)
    keys = [RowKey(row, 0, True) for row in range(6)]
    shared = KeyedRows(records, groups=groups).__getitems__(keys)
    plain = KeyedRows(records).__getitems__(keys)
    assert [a.pop(CHART_KEY) for a in shared] == groups[:6]
    assert [{**a, "image": None} for a in shared] == [{**b, "image": None} for b in plain]
    assert all(a["image"].tobytes() == b["image"].tobytes() for a, b in zip(shared, plain, strict=True))
    assert len({id(record["image"]) for record in shared}) == len({record["chart_id"] for record in plain}) < 6


# ---------------------------------------------------------------------- which rows show one chart
RED, BLUE = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))


def dataset(images, ids, **features):
    columns = {"image": images, "chart_id": ids, "question": [f"question {i}" for i in range(len(ids))]}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(**features))


def test_one_id_for_two_charts_makes_two_groups_and_one_warning(caplog):
    train = dataset([RED, RED, BLUE], ["1.png", "1.png", "2.png"])
    val = dataset([BLUE, BLUE, RED], ["1.png", "1.png", "3.png"])
    both = datasets.concatenate_datasets([train, val])
    assert chart_groups(both) == [0, 0, 1, 2, 2, 3]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith("1 chart_ids stand for more than one image, such as '1.png' in rows 0 and 3")
    # through the loader: every row gets the image that is stored for it, also where rows were chosen and formatted
    for records in (both, both.select([3, 0, 4, 1]), both.with_format("python")):
        loader = chart_loader(
            records,
            list,
            batch_size=4,
            accumulation=1,
            num_replicas=1,
            group_by_chart=True,
            shuffle=True,
            drop_last=False,
            seed=0,
        )
        seen = [record for batch in loader for record in batch]
        assert len(seen) == len(records)
        for record in seen:
            assert record["image"].tobytes() == records[record[ROW_KEY].row]["image"].tobytes()


def test_rows_of_one_chart_stay_together_without_decoding_an_image(monkeypatch, caplog):
    records = drawn_charts()
    chosen = records.select(range(len(records) - 1, -1, -1))
    monkeypatch.setattr(datasets.Image, "decode_example", None)
    ids = list(chosen.select_columns(["chart_id"])["chart_id"])
    groups_and_ids = list(dict.fromkeys(zip(chart_groups(chosen), ids, strict=True)))
    assert groups_and_ids == list(enumerate(dict.fromkeys(ids)))
    assert caplog.text == ""


def test_images_in_files_are_told_apart_by_path_and_then_by_content(tmp_path, caplog):
    for name, image in [("a", RED), ("b", RED), ("c", BLUE)]:
        image.save(tmp_path / f"{name}.png")
    paths = [str(tmp_path / f"{name}.png") for name in "aabc"]
    stored = datasets.Dataset.from_dict({"image": paths, "chart_id": ["x"] * 4})
    assert chart_groups(stored.cast_column("image", datasets.Image())) == [0, 0, 0, 1]
    assert chart_groups(stored) == [0, 0, 0, 1]
    assert chart_groups([{"image": Image.open(path), "chart_id": "x"} for path in paths]) == [0, 0, 0, 1]
    assert "rows 0 and 3" in caplog.text
    missing = [{"image": str(tmp_path / "gone.png"), "chart_id": "x"}] * 2
    assert chart_groups(missing) == [0, 0]


def test_images_of_lists_are_compared_as_objects_and_pixels():
    images = [RED, RED, RED.copy(), BLUE, None, None]
    assert chart_groups([{"image": image, "chart_id": "x"} for image in images]) == [0, 0, 0, 1, 2, 2]
