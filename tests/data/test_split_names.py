"""The splits that are known before records are read are those that `load_chartqa` finds."""

from __future__ import annotations

import pytest
from datasets import DatasetDict, NamedSplit

from chartqa_ft.data.load import load_chartqa
from chartqa_ft.data.split_names import local_splits

from ..support.chart_records import RECORDS, original, write_images, write_records


def with_tables(folder, *names):
    """Charts with tables beside them, in the layout of one split."""
    write_images(folder / "png", **dict.fromkeys(names, 3))
    (folder / "tables").mkdir()
    for name in names:
        (folder / "tables" / f"{name}.csv").write_text("Year,EU\n2019,4\n")
    return folder


def own(folder, name, records=RECORDS):
    write_images(folder, a=10, b=20)
    return write_records(folder / name, records)


LAYOUTS = {
    "a file": (lambda top, _: own(top, "questions.csv"), None, False),
    "a file named after a split": (lambda top, _: own(top, "test.csv"), None, True),
    "a folder": (lambda top, _: own(top, "questions.csv").parent, None, False),
    "the original folder": (lambda top, _: original(top, tables=True), None, True),
    "a clone": (lambda top, _: original(top / "ChartQA Dataset", tables=True).parent, None, True),
    "tables of a clone": (lambda top, _: with_tables(top / "ChartQA Dataset" / "val", "a").parents[1], "table", True),
    "tables of splits": (
        lambda top, _: with_tables(top / "my", "a").parent,
        "table",
        True,
    ),
    "tables of one split": (lambda top, _: with_tables(top / "test", "a"), "table", True),
    "tables without splits": (lambda top, _: with_tables(top, "two_col_test_1", "b"), "table", False),
    "saved": (lambda top, charts: saved(charts, top), None, False),
    "saved part": (lambda top, charts: saved(charts.select(range(3)), top, "test[:3]+train"), None, False),
    "saved splits": (lambda top, charts: saved(DatasetDict(dev=charts, mine=charts), top), None, True),
}


def saved(records, folder, split=None):
    if split is not None:
        records.info.splits = None
        records._split = NamedSplit(split)
    records.save_to_disk(folder)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_are_those_that_are_loaded(tmp_path, charts, layout):
    write, task, are_named = LAYOUTS[layout]
    path = write(tmp_path / "own", charts)
    found = local_splits(path, task)
    assert sorted(found.names) == sorted(
        load_chartqa(path, task=task, on_error="skip") if layout != "saved part" else ["test"]
    )
    assert found.are_named == are_named
