"""Rows of one chart are found by their ids and stored images, without decoding."""

from __future__ import annotations

import datasets
from PIL import Image

from chartqa_ft.data import chart_groups as module
from chartqa_ft.data.chart_groups import chart_groups

from ..support.chart_records import BLUE, RED, charts_dataset
from ..support.common import drawn_charts


def test_rows_without_a_chart_id_are_charts_of_their_own():
    assert chart_groups([{"chart_id": c, "image": None} for c in ["a", None, "a", "", "", None]]) == [0, 1, 0, 2, 3, 4]
    assert chart_groups([{"question": "?"}]) is None


def test_one_id_for_two_charts_makes_two_groups_and_one_warning(caplog):
    train = charts_dataset([RED, RED, BLUE], ["1.png", "1.png", "2.png"])
    val = charts_dataset([BLUE, BLUE, RED], ["1.png", "1.png", "3.png"])
    both = datasets.concatenate_datasets([train, val])
    assert chart_groups(both) == [0, 0, 1, 2, 2, 3]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith("1 chart_ids stand for more than one image, such as '1.png' in rows 0 and 3")


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


def test_rows_that_follow_one_another_are_compared_without_a_digest(monkeypatch):
    digested = []
    true = module.digest

    def digest(parts):
        digested.append(1)
        return true(parts)

    monkeypatch.setattr(module, "digest", digest)
    images, ids = [RED, RED, BLUE, BLUE, BLUE, RED], ["a", "a", "b", "b", "b", "c"]
    assert chart_groups(charts_dataset(images, ids)) == [0, 0, 1, 1, 1, 2]
    assert not digested
    # Of rows that are apart, and of different images, digests are needed.
    assert chart_groups(charts_dataset([RED, BLUE, RED], ["a", "b", "a"])) == [0, 1, 0]
    assert len(digested) == 2
    digested.clear()
    assert chart_groups(charts_dataset([RED, RED, BLUE, RED, RED], ["a"] * 5)) == [0, 0, 1, 0, 0]
    assert len(digested) == 4  # of the first image, for both rows, and of each from the second image on
