"""Rows carry their keys, and a batch decodes each chart once."""

from __future__ import annotations

from chartqa_ft.batching.rows import CHART_KEY, ROW_KEY, KeyedRows, RowKey
from chartqa_ft.data.chart_groups import chart_groups

from ..support.common import drawn_charts


def test_keyed_rows_pass_the_key_on_and_do_not_change_the_record():
    record = {"image": "a.png", "question": "?", "row": 17}
    records = [dict(record)]
    key = RowKey(0, 2, True)
    assert KeyedRows(records)[key] == {**record, ROW_KEY: key}
    assert KeyedRows(records, groups=[4])[key] == {**record, ROW_KEY: key, CHART_KEY: 4}
    assert KeyedRows(records, groups=[None])[key] == {**record, ROW_KEY: key}
    assert KeyedRows(records).__getitems__([key, key]) == [{**record, ROW_KEY: key}] * 2
    assert records == [record]


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
