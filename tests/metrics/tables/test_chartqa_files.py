"""`tables/*.csv` of ChartQA."""

from __future__ import annotations

import pytest

from chartqa_ft.metrics import TABLE_FORMATS, Table, parse_table, read_table_csv, table_scores, write_table


def test_all_real_tables_are_read_written_and_equal_to_themselves(shared):
    tables = [read_table_csv(path) for path in sorted((shared / "chartqa/test/tables").glob("*.csv"))]
    assert len(tables) == 114
    assert sum(cell == "nan" for table in tables for row in table.rows for cell in row) == 34
    for format in TABLE_FORMATS:
        assert [parse_table(write_table(table, format)) for table in tables] == tables, format
    # As UniChart's own data have them: five labels with an ampersand, and nothing is escaped.
    rows = [[table.header, *table.rows] for table in tables]
    assert [parse_table(" & ".join(" | ".join(row) for row in each)) for each in rows] == tables
    found = table_scores(predictions=tables, references=tables)
    assert found == {"rms_precision": 1.0, "rms_recall": 1.0, "rms_f1": 1.0, "rnss": 1.0, "n": 114}
    script = table_scores(predictions=tables, references=tables, variant="deplot")
    assert script["rnss"] == pytest.approx(0.9503, abs=5e-5)


def test_quirks(tmp_path):
    path = tmp_path / "chart.csv"
    path.write_bytes(b'\xef\xbb\xbfTitle,"Sales, net"\r\nAlien,"1,204"\r\n\r\n,\r\nHeat\r\nJaws,nan,5\r\n')
    expected = Table(("Title", "Sales, net", ""), [("Alien", "1,204", ""), ("Heat", "", ""), ("Jaws", "nan", "5")])
    assert read_table_csv(path) == expected


@pytest.mark.parametrize("content", [b"", b"\r\n,\r\n", b"a,\xff", b"a," + b"b" * 200_000])
def test_files_that_are_no_tables(tmp_path, content):
    path = tmp_path / "chart.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"chart\.csv is no table in CSV"):
        read_table_csv(path)
    with pytest.raises(OSError):
        read_table_csv(tmp_path / "none.csv")
