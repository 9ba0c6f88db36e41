"""Pictures and tables of charts, found by the chart's id."""

from __future__ import annotations

import logging

import pytest

from chartqa_ft.reporting.chart_files import LARGEST_TABLE, ChartTables, file_of_chart


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    (tmp_path / "secret.csv").write_text("a,b")
    (folder / "1.csv").write_text('Year,Value\n2010,"1,204"\n\n2011,7\n', encoding="utf-8-sig")
    (folder / "v1.2.csv").write_text("Land,Wert\nPerú,3", encoding="utf-8")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "up").symlink_to(tmp_path)
    (folder / "bytes.csv").write_bytes(b"\xff\xfe,1")
    (folder / "large.csv").write_text("1," * LARGEST_TABLE)
    return folder


@pytest.mark.parametrize("chart", ["1.png", "1", "1.csv"])
def test_a_table_is_found_by_the_id_of_its_chart(folder, chart):
    assert ChartTables(folder).find(chart) == [["Year", "Value"], ["2010", "1,204"], ["2011", "7"]]


def test_a_name_with_points_is_whole(folder):
    assert ChartTables(str(folder)).find("v1.2.png") == [["Land", "Wert"], ["Perú", "3"]]
    assert ChartTables(folder).find("v1.png") == []


@pytest.mark.parametrize(
    "chart", ["../secret", "../secret.csv", "link.png", "up/secret", "", None, 7, "a\0", "x" * 5000, "gone.png"]
)
def test_nothing_leads_out_of_the_folder(folder, chart):
    assert ChartTables(folder).find(chart) == []
    assert file_of_chart(folder, chart, [".csv"]) is None


@pytest.mark.parametrize("chart", ["bytes.png", "large.png"])
def test_a_damaged_table_is_left_out_with_one_warning(folder, caplog, chart):
    tables = ChartTables(folder)
    with caplog.at_level(logging.WARNING):
        assert tables.find(chart) == tables.find(chart) == []
    assert len(caplog.records) == 1
    assert chart.removesuffix("png") in caplog.text


@pytest.mark.parametrize(("tables", "error"), [(7, TypeError), ([], TypeError), ("nowhere", ValueError)])
def test_other_sources_of_tables_are_refused(tables, error):
    with pytest.raises(error, match="tables"):
        ChartTables(tables)
