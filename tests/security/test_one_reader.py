"""Every file is parsed by the readers that have bounds, so that no new place forgets them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ..support.common import ROOT

PACKAGE = ROOT / "chartqa_ft"
UNBOUNDED = {
    "json.load",
    "json.loads",
    "yaml.load",
    "yaml.safe_load",
    "csv.reader",
    "csv.DictReader",
    "pickle.load",
    "pickle.loads",
}
ALLOWED = {
    ("batching/streams.py", "pickle.loads"): "of a record that the main process has just pickled for its worker",
    ("files.py", "json.loads"): "of what json.dumps has just written",
    ("training/arguments.py", "json.loads"): "of what to_json_string has just written",
    ("metrics/hf_metric.py", "json.loads"): "of what the metric itself has stored in this process",
    ("hub/answers.py", "json.loads"): "of an answer of the Hub: whatever is wrong with it is a HubError",
    ("data/data_files.py", "yaml.safe_load"): "of the card of a data set, which has to be read as datasets reads it",
    ("data/table_records.py", "csv.reader"): "the reader of tables: RecordLines bounds its lines",
    ("data/table_records.py", "csv.DictReader"): "the same",
    ("metrics/tables/chartqa_files.py", "csv.reader"): "of a table of ChartQA, of which read_regular bounds the size",
    ("metrics/tables/parsing.py", "csv.reader"): "of a text in memory: a prediction, not a file",
    ("reporting/chart_files.py", "csv.reader"): "of the table of a chart, of which read_regular bounds the size",
}


def calls(text: str) -> set[str]:
    return {
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    } & UNBOUNDED


def test_no_module_parses_files_without_bounds():
    found = {
        (path.relative_to(PACKAGE).as_posix(), call)
        for path in PACKAGE.rglob("*.py")
        for call in calls(path.read_text(encoding="utf-8"))
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize("call", sorted(UNBOUNDED))
def test_a_new_place_would_be_found(call, tmp_path: Path):
    module = call.partition(".")[0]
    assert calls(f"import {module}\n\n\ndef read(file):\n    return [{call}(file)]\n") == {call}
