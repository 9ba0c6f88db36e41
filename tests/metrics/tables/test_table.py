"""The type itself."""

from __future__ import annotations

import pytest

from chartqa_ft.metrics import Table


def test_cells_become_texts_of_a_rectangle():
    table = Table(("  a\n b ", None, 3), [[1.5], [], ["", ""], ["x", "y", "z", ""]], None)
    assert (table.header, table.rows, table.title) == (("a b", "", "3"), (("1.5", "", ""), ("x", "y", "z")), "")
    assert table == Table(table.header, table.rows)
    assert hash(table) == hash(Table(table.header, table.rows))
    assert Table(("a",), [("x", 5)]).header == ("a", "")
    assert Table() == Table((), [(), ("",)])


def test_transposed():
    table = Table(("k", "a", "b"), [("x", 1, 2)], "t")
    assert table.transposed() == Table(("k", "x"), [("a", 1), ("b", 2)], "t")
    assert table.transposed().transposed() == table
    assert Table().transposed() == Table()


def test_errors():
    with pytest.raises(TypeError, match="list of cells, and is the text 'abc'"):
        Table("abc")
    with pytest.raises(TypeError, match=r"a cell of a table must be .* and is \['a'\]"):
        Table(["k"], [[["a"]]])
    with pytest.raises(ValueError, match=r"2,001 rows and 2,000 columns has more than 1,048,576 cells"):
        Table(["a"] * 2000, [["x"]] * 2000)
