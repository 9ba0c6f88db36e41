"""Files of records: one bad record is one lost record, and no file crashes, hangs or fills the memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from chartqa_ft import RecordError, load_chartqa
from chartqa_ft.data import json_records, record_lines, table_records
from chartqa_ft.data.columns import LayoutError
from chartqa_ft.data.record_files import find_splits

from .fuzzing import in_time

DIGITS = "9" * 5000
BAD_JSON = {
    "an integer of 5,000 digits": f'{{"imgname": "a.png", "query": "Q?", "label": {DIGITS}}}',
    "the same below zero": f'{{"imgname": "a.png", "query": "Q?", "label": -{DIGITS}}}',
    "the same in a list": f'{{"imgname": "a.png", "query": "Q?", "label": [1, {DIGITS}]}}',
    "the same in the source": f'{{"imgname": "a.png", "query": "Q?", "label": "1", "type": {DIGITS}}}',
    "half a surrogate pair": '{"imgname": "a.png", "query": "Q\\ud800?", "label": "1"}',
    "half a surrogate pair in a list": '{"imgname": "a.png", "query": "Q?", "label": ["\\udc00"]}',
    "half a surrogate pair in a name": '{"imgname": "\\ud800.png", "query": "Q?", "label": "1"}',
    "half a surrogate pair in an id": '{"imgname": "a.png", "query": "Q?", "label": "1", "chart_id": "\\udfff"}',
    "lists in lists": '{"imgname": "a.png", "query": "Q?", "label": ' + "[" * 20_000 + "]" * 20_000 + "}",
    "objects in objects": '{"imgname": "a.png", "query": "Q?", "label": ' + '{"a":' * 5000 + "1" + "}" * 5001,
    "lists in lists that Python reads": '{"imgname": "a.png", "query": "Q?", "x": ' + "[" * 150 + "]" * 150 + "}",
    "brackets in a text of a deep record": '{"imgname": "]}", "query": "[\\"{", "label": '
    + "[" * 5000
    + "]" * 5000
    + "}",
    "a key twice": '{"imgname": "a.png", "query": "Q?", "label": "1", "label": "2"}',
    "NaN": '{"imgname": "a.png", "query": "Q?", "label": NaN}',
    "infinity": '{"imgname": "a.png", "query": "Q?", "label": -Infinity}',
    "a number too large for a float": '{"imgname": "a.png", "query": "Q?", "label": 1e999}',
    "bytes that are not UTF-8": '{"imgname": "a.png", "query": "Q\udcff?", "label": "1"}',
    "NUL in a name": '{"imgname": "a.png\\u0000", "query": "Q?", "label": "1"}',
    "an object as the question": '{"imgname": "a.png", "query": {"a": 1}, "label": "1"}',
    "a number as the image": '{"imgname": {"path": 5}, "query": "Q?", "label": "1"}',
    "no object": "[1]",
    "nothing": "null",
    "an empty object": "{}",
}
BAD_ROWS = {
    "a quote in the middle": 'a.png,"a"b,1',
    "a quote that is not closed": 'a.png,"Q?,1',
    "a field too many": "a.png,Q?,1,2",
    "a field too few": "a.png",
    "bytes that are not UTF-8": "a.png,Q\udcff?,1",
    "NUL in a name": "a.png\0,Q?,1",
    "a blank question": "a.png, ,1",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    return tmp_path


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def check_one_is_lost(path: Path, caplog: pytest.LogCaptureFixture, streaming: bool) -> None:
    with in_time():
        found = load_chartqa(path, split="train", on_error="skip", streaming=streaming)
        assert [record["question"] for record in found] == ["Q0?", "Q1?", "Q2?", "Q3?"]
    assert "Dropped 1 of 5 records of split 'train'" in caplog.text
    with pytest.raises(RecordError, match=re.escape(path.name)) as caught:
        list(load_chartqa(path, split="train", streaming=streaming))
    assert caught.value.index == 2


@pytest.mark.parametrize("kind", BAD_JSON)
@pytest.mark.parametrize("layout", ["list", "object", "lines", "lines named .json"])
def test_a_bad_record_of_json_is_the_only_one_lost(folder, caplog, kind, layout):
    good = [f'{{"imgname": "a.png", "query": "Q{number}?", "label": "{number}"}}' for number in range(4)]
    records = [*good[:2], BAD_JSON[kind], *good[2:]]
    path = folder / ("charts.jsonl" if layout == "lines" else "charts.json")
    if layout == "list":
        text = "[" + ",\n ".join(records) + "]\n"
    elif layout == "object":
        text = '{"version": {"a, b": [1]}, "data" : [' + ",".join(records) + "]}"
    else:
        text = "\n".join(records)
    path.write_bytes(encode(text))
    check_one_is_lost(path, caplog, streaming=layout == "lines")


@pytest.mark.parametrize("kind", BAD_ROWS)
@pytest.mark.parametrize("quoted", [False, True])
def test_a_bad_row_of_a_table_is_the_only_one_lost(folder, caplog, kind, quoted):
    mark = '"' if quoted else ""
    good = [f"a.png,{mark}Q{number}?{mark},{number}" for number in range(4)]
    rows = ["imgname,query,label", *good[:2], "", BAD_ROWS[kind], *good[2:]]
    path = folder / "charts.csv"
    path.write_bytes(encode("\n".join(rows) + "\n"))
    check_one_is_lost(path, caplog, streaming=quoted)


def test_two_rows_that_open_a_quote_are_two_lost_rows(folder):
    rows = [
        "imgname,query,label",
        "a.png,Q0?,0",
        'a.png,"Q1?,1',
        "a.png,Q2?,2",
        'a.png,"Q3?,3',
        'a.png,"Q\n4?",4',
        "a.png,Q5?,5",
    ]
    (folder / "charts.csv").write_text("\n".join(rows) + "\n")
    found = load_chartqa(folder / "charts.csv", split="train", on_error="skip")
    assert found["question"][:] == ["Q0?", "Q2?", "Q\n4?", "Q5?"]


def test_a_number_of_5000_digits_in_a_table_is_text(folder):
    (folder / "charts.csv").write_text(f"imgname,query,label,type\na.png,Q?,{DIGITS},{DIGITS}\n")
    (row,) = load_chartqa(folder / "charts.csv", split="train")
    assert (row["answer"], row["source"]) == (DIGITS, "unknown")


def parquet(questions: list[bytes]) -> pa.Table:
    """A table whose texts are these bytes: Arrow does not check them."""
    ends = pa.array([0, *(sum(map(len, questions[: n + 1])) for n in range(len(questions)))], pa.int32())
    texts = pa.Array.from_buffers(
        pa.string(), len(questions), [None, ends.buffers()[1], pa.py_buffer(b"".join(questions))]
    )
    picture = io.BytesIO()
    Image.new("RGB", (32, 24)).save(picture, "PNG")
    images = pa.array([{"bytes": picture.getvalue(), "path": None}] * len(questions))
    return pa.table({"image": images, "query": texts, "label": pa.array(["1"] * len(questions))})


def test_a_text_of_parquet_that_is_none_is_the_only_one_lost(folder, tmp_path_factory, caplog):
    path = folder / "charts.parquet"
    pq.write_table(parquet([b"Q0?", b"Q1?", b"Q\xff?", b"Q2?", b"Q3?"]), path)
    cache = str(tmp_path_factory.mktemp("cache"))
    found = load_chartqa(path, split="train", on_error="skip", cache_dir=cache)
    assert found["question"][:] == ["Q0?", "Q1?", "Q2?", "Q3?"]
    assert "Dropped 1 of 5" in caplog.text
    with pytest.raises(LayoutError, match=r"charts\.parquet, split 'train': the stream cannot be read to its end"):
        list(load_chartqa(path, split="train", streaming=True, cache_dir=cache))


def test_a_year_that_python_lacks_is_the_only_one_lost(folder):
    dates = pa.array([0, 2**50, 1], pa.timestamp("s"))
    table = pa.table({"imgname": ["a.png"] * 3, "query": ["Q0?", "Q1?", "Q2?"], "label": dates})
    assert load_chartqa(Dataset(table), on_error="skip", image_dir=folder)["question"][:] == ["Q0?", "Q2?"]


# ---------------------------------------------------------------- whole files
WRONG = {
    "gzip": gzip.compress(b'[{"imgname": "a.png", "query": "Q?", "label": "1"}]'),
    "Parquet": b"PAR1" + bytes(range(256)) + b"PAR1",
    "UTF-16": '[{"imgname": "a.png", "query": "Q?", "label": "1"}]\n'.encode("utf-16"),
    "UTF-32": '[{"imgname": "a.png", "query": "Q?", "label": "1"}]\n'.encode("utf-32"),
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "NUL": bytes(1000),
    "nothing": b"",
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "quotes": b'"' * 100_001,
    "backslashes": b'["' + b'\\"' * 100_000,
    "digits": b"9" * 5000,
    "a list of digits": b"[" + b"9" * 5000 + b"]",
    "an object of digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a colon missing": b'{"a" ' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_file_of_another_kind_is_named(folder, kind, suffix, on_error):
    path = folder / f"charts{suffix}"
    path.write_bytes(WRONG[kind])
    with in_time(), pytest.raises(ValueError, match=rf"charts\{suffix}"):
        load_chartqa(path, on_error=on_error)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(folder, suffix):
    pipe, link = folder / f"pipe{suffix}", folder / f"zero{suffix}"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    for path in (pipe, link):
        with in_time(), pytest.raises(LayoutError, match=f"{path.name}: neither a regular file nor a folder"):
            load_chartqa(path)
    with in_time(), pytest.raises(LayoutError, match="no records found"):
        load_chartqa(folder)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_a_pipe_that_takes_the_place_of_the_file_is_refused(folder, suffix):
    (folder / f"charts{suffix}").write_text("[]")
    ((file,),) = (split.files for split in find_splits(folder).values())
    file.path.unlink()
    os.mkfifo(file.path)
    from chartqa_ft.data.reading import read_records

    with in_time(), pytest.raises(LayoutError, match=f"charts{suffix}: not a regular file"):
        list(read_records(file.path))


def test_lines_and_files_have_a_limit(folder, monkeypatch):
    monkeypatch.setattr(record_lines, "LONGEST_LINE", 100)
    monkeypatch.setattr(table_records, "LONGEST_LINE", 100)
    for suffix in (".jsonl", ".csv"):
        (folder / f"charts{suffix}").write_bytes(b"imgname,query,label\n" + bytes(1000))
        with pytest.raises(LayoutError, match=rf"charts\{suffix}, line 2: more than 100 characters"):
            load_chartqa(folder / f"charts{suffix}")
    monkeypatch.setattr(json_records, "LARGEST_JSON", 100)
    (folder / "large.json").write_text(json.dumps(["x" * 100]))
    with pytest.raises(LayoutError, match=r"large\.json: 104 bytes are more than the limit of 100"):
        load_chartqa(folder / "large.json")


@pytest.mark.parametrize("double", [False, True])
def test_very_many_columns_are_no_problem_and_not_listed(folder, double):
    names = [f"column {number}" for number in range(50_000)]
    names[-1] = names[-2] if double else names[-1]
    (folder / "charts.csv").write_text(",".join(names) + "\n")
    (folder / "charts.jsonl").write_text("{" + ", ".join(f'"{name}": 1' for name in names) + "}")
    for name in ("charts.csv", "charts.jsonl"):
        with in_time(), pytest.raises(LayoutError) as caught:
            load_chartqa(folder / name)
        assert name in str(caught.value)
        assert len(str(caught.value)) < 2000
