"""Every linearization is read, and what is written is read back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chartqa_ft.metrics import TABLE_FORMATS, Table, parse_table, write_table
from chartqa_ft.metrics.tables.parsing import find_format

TABLE = Table(("Year", "EU", "US"), [("2019", "5", "6"), ("2020", "7", "nan")])
TRICKY = [
    "|",
    "&",
    "&&&",
    "<0x0A>",
    "\\",
    "\\|",
    "TITLE",
    "Title",
    "---",
    "a & b",
    '"',
    ",",
    ";",
    "```",
    "nan",
    "5",
    "-",
]
CELLS = st.one_of(st.sampled_from(TRICKY), st.text(max_size=6))
TABLES = st.builds(
    Table, st.lists(CELLS, max_size=4), st.lists(st.lists(CELLS, max_size=4), max_size=4), st.just("") | CELLS
).filter(lambda table: table.header != ("",))


@settings(max_examples=150, deadline=None)
@given(TABLES, st.sampled_from(TABLE_FORMATS))
def test_what_is_written_is_read_back(table, format):
    assert parse_table(write_table(table, format), format) == table


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet='a|&\\<0xA>\n-,;" \t`5', max_size=30))
def test_every_text_is_a_table(text):
    for format in (None, *TABLE_FORMATS):
        assert isinstance(parse_table(text, format), Table)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("Year | EU | US\n2019 | 5 | 6\n2020 | 7 | nan", "lines"),
        ("Year | EU | US\r\n2019 | 5 | 6\r\n\r\n2020 | 7 | nan\r\n", "lines"),
        ("Year|EU|US\n2019|5|6\n2020|7|nan", "lines"),
        ("Year | EU | US & 2019 | 5 | 6 & 2020 | 7 | nan", "unichart"),
        ("Year | EU | US &&& 2019 | 5 | 6 &&& 2020 | 7 | nan", "&&&"),
        ("Year | EU | US <0x0A> 2019 | 5 | 6 <0x0A> 2020 | 7 | nan", "<0x0A>"),
        ("Year | EU | US<0x0a>2019 | 5 | 6<0x0a>2020 | 7 | nan | ", "<0x0A>"),
        ("| Year | EU | US |\n|---|:-:|--:|\n| 2019 | 5 | 6 |\n| 2020 | 7 | nan |", "lines"),
        ("Year | EU | US\n--- | --- | ---\n2019 | 5 | 6\n2020 | 7 | nan", "lines"),
        ("| Year | EU | US |\n| 2019 | 5 | 6 |\n| 2020 | 7 | nan |", "lines"),
        ("Year,EU,US\n2019,5,6\n2020,7,nan\n", "csv"),
        ("Year;EU;US\n2019;5;6\n2020;7;nan", "csv"),
        ("Year\tEU\tUS\n2019\t5\t6\n2020\t7\tnan", "csv"),
        ('"Year","EU","US"\n"2019","5","6"\n"2020","7","nan"', "csv"),
    ],
)
def test_the_format_is_found(text, format):
    assert find_format(text) == format
    assert parse_table(text) == TABLE


@pytest.mark.parametrize("language", ["", "csv", "markdown"])
def test_a_code_fence_is_dropped(language):
    fenced = f"```{language}\nYear,EU,US\n2019,5,6\n2020,7,nan\n```"
    assert parse_table(fenced) == parse_table(f"Sure, here it is:\n\n{fenced}\nAsk me, | if you like.") == TABLE


@pytest.mark.parametrize("format", ["lines", "markdown", "csv"])
def test_prose_around_a_table_is_dropped(format):
    assert parse_table(f"Here is the table:\n\n{write_table(TABLE, format)}\n\nAll is said.") == TABLE


@pytest.mark.parametrize(
    ("text", "header", "rows"),
    [
        ("R | S & Asia & Pacific | 5 & Europe | 7", ("R", "S"), (("Asia & Pacific", "5"), ("Europe", "7"))),
        ("R | S & Europe | 7 & Rice & Oil & Fat | 5", ("R", "S"), (("Europe", "7"), ("Rice & Oil & Fat", "5"))),
        (r"R | S & Asia \& Pacific | 5", ("R", "S"), (("Asia & Pacific", "5"),)),
        ("R | S & R&D | 5", ("R", "S"), (("R&D", "5"),)),
        ("R | S & x | 5 & 2015", ("R", "S"), (("x", "5"), ("2015", ""))),  # cut off
        ("R | S | T & x | 5 & y | 6 | 7", ("R", "S", "T"), (("x", "5", ""), ("y", "6", "7"))),  # a cell is missing
        ("TITLE | a & b\nR | S\nA & B | 5", ("R", "S"), (("A & B", "5"),)),
    ],
)
def test_ampersands_in_labels(text, header, rows):
    table = parse_table(text)
    assert (table.header, table.rows) == (header, rows)


@pytest.mark.parametrize(
    ("text", "title", "header"),
    [
        ("TITLE | Sales\nYear | EU\n2019 | 5", "Sales", ("Year", "EU")),
        ("title | Sales\nYear | EU\n2019 | 5", "Sales", ("Year", "EU")),
        ("TITLE | Sales & Year | EU & 2019 | 5", "Sales", ("Year", "EU")),
        ("Title | Sales\nYear | EU | US\n2019 | 5 | 6", "Sales", ("Year", "EU", "US")),
        ("Title | Gross\nAlien | 5", "", ("Title", "Gross")),
        ("TITLE |\nYear | EU\n2019 | 5", "", ("Year", "EU")),
    ],
)
def test_titles(text, title, header):
    table = parse_table(text)
    assert (table.title, table.header) == (title, header)


def test_an_empty_corner_is_no_markdown():
    assert parse_table(" | a | b\nx | 1 | 2").header == ("", "a", "b")
    assert parse_table("| | a |\n|---|---|\n| x | 1 |") == Table(("", "a"), [("x", "1")])


def test_errors():
    with pytest.raises(ValueError, match=r"'markdown'.*and is 'md'"):
        parse_table("a", "md")
    with pytest.raises(ValueError, match="and is 'md'"):
        write_table(TABLE, "md")
    with pytest.raises(TypeError, match="must be a text, and is 5"):
        parse_table(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="longer than 1,048,576"):
        parse_table("a" * (1 << 20) + "b")
    with pytest.raises(ValueError, match="give the column a name"):
        write_table(Table(("",), [("a",)]))
