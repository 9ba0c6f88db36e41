"""Charts held out by `split_by_chart`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from datasets import Dataset
from PIL import Image

from chartqa_ft import (
    load_chartqa,
)
from chartqa_ft.data.splitting import split_by_chart, split_by_chart_id

from ..support.common import drawn_charts


def own_charts(folder: Path, copies: dict[str, str] | None = None) -> Path:
    """Six charts with two questions each, and copies of them under other names."""
    folder.mkdir()
    rows = ["image,question,answer"]
    for number in range(6):
        Image.new("RGB", (40, 30), (40 * number, 0, 0)).save(folder / f"{number}.png")
        rows += [f"{number}.png,How red?,{40 * number}", f"{number}.png,How green?,0"]
    for name, source in (copies or {}).items():
        shutil.copy(folder / source, folder / name)
        rows.append(f"{name},How red again?,{40 * int(source[0])}")
    (folder / "questions.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_no_chart_is_on_both_sides_even_under_another_name(tmp_path):
    copies = {f"copy{number}.png": f"{number}.png" for number in range(6)}
    records = load_chartqa(own_charts(tmp_path / "own", copies), split="train")
    draws = set()
    for seed in range(6):
        train, held_out = split_by_chart(records, 0.34, seed=seed)
        answers = [{row["answer"] for row in side if "red" in row["question"]} for side in (train, held_out)]
        assert not answers[0] & answers[1]
        assert (len(answers[0]), len(answers[1])) == (4, 2)
        assert (len(train), len(held_out)) == (12, 6)
        order = [f"{row['chart_id']} {row['question']}" for row in records]
        for side in (train, held_out):
            places = [order.index(f"{row['chart_id']} {row['question']}") for row in side]
            assert places == sorted(places)
        again = split_by_chart(records, 0.34, seed=seed)[1]
        assert again["question"] == held_out["question"]
        assert again["chart_id"] == held_out["chart_id"]
        draws.add(frozenset(held_out["chart_id"]))
    assert len(draws) > 1


def test_at_least_one_chart_is_on_each_side(tmp_path):
    records = load_chartqa(own_charts(tmp_path / "own"), split="train")
    for share, charts in ((0.001, 1), (0.999, 5)):
        assert len(set(split_by_chart(records, share)[1]["chart_id"])) == charts


def test_what_cannot_be_divided_is_said(tmp_path):
    records = drawn_charts()
    with pytest.raises(ValueError, match="held_out must be a share between 0 and 1, not 1"):
        split_by_chart(records, 1)
    with pytest.raises(ValueError, match="1 different chart"):
        split_by_chart(records.select([0, 0]))
    with pytest.raises(ValueError, match="need the columns image and chart_id"):
        split_by_chart(Dataset.from_dict({"question": ["a", "b"]}))


@pytest.mark.parametrize("format", ["arrow", "pandas", "numpy"])
def test_a_format_changes_nothing(format):
    records = drawn_charts()
    formatted = records.with_format(format)
    for split in (lambda data: split_by_chart(data, 0.4), lambda data: split_by_chart_id(data, ["chart-3.png"])):
        for side, expected in zip(split(formatted), split(records), strict=True):
            assert side.format["type"] == format
            assert side.with_format(None)["question"][:] == expected["question"][:]


def test_a_transform_is_kept_and_charts_are_told_by_what_is_stored():
    records = drawn_charts()
    changed = records.with_transform(lambda rows: {"asked": [text.upper() for text in rows["question"]]})
    for side, expected in zip(split_by_chart(changed, 0.4), split_by_chart(records, 0.4), strict=True):
        assert [row["asked"] for row in side] == [text.upper() for text in expected["question"]]
    with pytest.raises(ValueError, match="need the columns image and chart_id"):
        split_by_chart(records.remove_columns("image").with_transform(lambda rows: {"image": rows["question"]}))
