"""Bad tables: encodings, delimiters, quotes, ragged rows, columns of one name, damaged JSON and Parquet."""

# ruff: noqa: E501

from __future__ import annotations

import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chartqa_ft import load_chartqa

from .case import QUESTION, add, encoded, scored, teaches

GROUP = "tables"


def loaded(folder: Path, name: str, content: str | bytes, **options: Any) -> tuple[list[str], list[float]]:
    """A record file beside `a.png`: what its rows teach, and the scores of a model that answers so."""
    (folder / "a.png").write_bytes(encoded())
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return scored(load_chartqa(folder / name, **options)["train"])


def add_table(
    name: str,
    file: str,
    content: str | bytes,
    *answers: str,
    names: tuple[str, ...] | None = None,
    said: tuple[str, ...] = (),
    **options: Any,
) -> None:
    """`answers`: what must be taught, where the table is not refused; `names`: what a clear error names."""
    add(
        GROUP,
        name,
        lambda folder: loaded(folder, file, content, **options),
        *((file,) if names is None else names),
        right=teaches(*answers) if answers else None,
        said=said,
    )


HEADER = "imgname,query,label\n"


# ----------------------------------------------------------------------------------------------------------------- CSV
def _csv() -> None:
    row = "a.png,How many?,7\n"
    good = HEADER + row
    add_table("CSV with a byte order mark", "q.csv", "\ufeff" + good, "7")
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "shift_jis", "cp037"):
        text = good.replace("many", "ma\u00f1y\u00e9" if encoding in ("latin-1", "cp1252") else "many\u00a7")
        content = text.encode(encoding, "replace")
        if content != text.encode():
            add_table(f"CSV in {encoding}", "q.csv", content)
    add_table("CSV that breaks UTF-8 in row 3", "q.csv", (good + row).encode() + b"a.png,How \xff?,7\n")
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs")):
        add_table(f"CSV with {name}", "q.csv", good.replace(",", delimiter), "7")
        add_table(f"TSV with {name}", "q.tsv", good.replace(",", delimiter), "7")
    add_table("TSV with commas", "q.tsv", good, "7")
    for delimiter in ("|", ":", "^", "\x01", "  "):
        add_table(f"CSV with {delimiter!r} between its columns", "q.csv", good.replace(",", delimiter), "7")
    add_table("CSV with a blank behind each comma", "q.csv", good.replace(",", ", "), "7", names=("blank", "space"))
    add_table("CSV with a blank before each comma", "q.csv", good.replace(",", " ,"), "7", names=("blank", "space"))
    add_table(
        "CSV with blanks at the ends of its lines", "q.csv", good.replace("\n", " \n"), "7", names=("blank", "space")
    )
    add_table(
        "CSV with a blank behind each comma and quotes",
        "q.csv",
        'imgname, query, label\na.png, "How, many?", "7"\n',
        "7",
        names=("blank", "space"),
    )
    add_table(
        "CSV with the image last and blanks",
        "q.csv",
        "query, label, imgname\nHow many?, 7, a.png\n",
        "7",
        names=("blank", "space"),
    )
    add_table("CSV with a line break in a question", "q.csv", HEADER + 'a.png,"How\nmany?",7\n', "7")
    add_table("CSV with doubled quotes", "q.csv", HEADER + 'a.png,"How ""many""?",7\n', "7")
    add_table("CSV with quotes in the middle of a field", "q.csv", HEADER + 'a.png,How "many"?,7\n', "7")
    add_table("CSV with backslashes before quotes", "q.csv", HEADER + 'a.png,"How \\"many\\"?",7\n')
    add_table("CSV with an open quote", "q.csv", HEADER + 'a.png,"How many?,7\n' + row)
    add_table("CSV with a comma in a bare question", "q.csv", HEADER + "a.png,How, many?,7\n")
    add_table("CSV with a bare decimal comma", "q.csv", HEADER + "a.png,How many?,12,5\n")
    add_table("CSV with a row that is short", "q.csv", good + "a.png,How many?\n")
    add_table("CSV with a row of one field", "q.csv", good + "x\n")
    add_table("CSV with empty lines", "q.csv", HEADER + "\n" + row + "\n\n", "7")
    add_table("CSV with a line of commas", "q.csv", good + ",,\n")
    add_table("CSV with a comma at each end", "q.csv", "imgname,query,label,\na.png,How many?,7,\n", "7")
    add_table("CSV with a column of row numbers", "q.csv", ",imgname,query,label\n0,a.png,How many?,7\n", "7")
    add_table("CSV without a header", "q.csv", row + row, names=("q.csv", "column"))
    add_table("CSV of a header alone", "q.csv", HEADER)
    add_table("CSV of a header and blank lines", "q.csv", HEADER + "\n \n")
    add_table("CSV with a title above the header", "q.csv", "My questions\n\n" + good, names=("q.csv", "column"))
    add_table("CSV with comments", "q.csv", "# from the web\n" + good, names=("q.csv", "column"))
    add_table("CSV with sep= for a spreadsheet", "q.csv", "sep=,\n" + good, "7", names=("q.csv", "column"))
    add_table("CSV with an empty file", "q.csv", "")
    add_table("CSV of white space", "q.csv", " \n\t\n")
    add_table("CSV with lines of old Macs", "q.csv", good.replace("\n", "\r"), "7")
    add_table("CSV with lines of Windows", "q.csv", good.replace("\n", "\r\n"), "7")
    add_table("CSV with NUL in a question", "q.csv", HEADER + "a.png,How\0 many?,7\n", "7")
    add_table("CSV with NUL in an answer", "q.csv", HEADER + "a.png,How many?,7\0\n", "7\0")
    add_table("CSV with a field of 200,000 letters", "q.csv", HEADER + f"a.png,{'c' * 200_000},7\n", "7")
    add_table(
        "CSV with 200,000 letters of base64",
        "q.csv",
        f"image,query,label\n{'iVBO' * 50_000},How many?,7\n",
        names=("q.csv", "base64"),
    )
    add_table(
        "CSV with base64 as its image",
        "q.csv",
        "image,query,label\niVBORw0KGgoAAAANSUhEUgAA,How many?,7\n",
        names=("base64", "q.csv"),
    )
    for pair in (("label", "label"), ("query", "query"), ("imgname", "imgname"), ("answer", "answer")):
        other = {
            "label": "imgname,query",
            "answer": "imgname,query",
            "query": "imgname,label",
            "imgname": "query,label",
        }[pair[0]]
        cells = {"imgname": "a.png", "query": "How many?", "label": "7"}
        line = ",".join(cells[column] for column in other.split(","))
        second = {"label": "7,8", "answer": "7,8", "query": "How?,Why?", "imgname": "a.png,a.png"}[pair[0]]
        add_table(
            f"CSV with two columns called {pair[0]}",
            "q.csv",
            f"{other},{','.join(pair)}\n{line},{second}\n",
            names=(repr(pair[0]),),
        )
    add_table(
        "CSV with columns that differ in case",
        "q.csv",
        "imgname,query,label,Label\na.png,How many?,7,8\n",
        names=("Label",),
    )
    add_table(
        "CSV with columns that differ in blanks",
        "q.csv",
        "imgname,query,label,label \na.png,How many?,7,8\n",
        names=("label",),
    )
    add_table(
        "CSV with two columns for the answer",
        "q.csv",
        "imgname,query,label,answer\na.png,How many?,8,7\n",
        "7",
        names=("answer",),
    )
    add_table(
        "CSV with two columns for the question",
        "q.csv",
        "imgname,query,question,label\na.png,Why?,How many?,7\n",
        "7",
        names=("question",),
    )
    add_table(
        "CSV with two columns for the answer that agree",
        "q.csv",
        "imgname,query,label,answer\na.png,How many?,7,7\n",
        "7",
        names=("answer",),
    )
    add_table("CSV with names in capitals", "q.csv", "ImgName,QUERY,Label\na.png,How many?,7\n", "7")
    add_table("CSV with quotes around its names", "q.csv", '"imgname","query","label"\na.png,How many?,7\n', "7")
    add_table(
        "CSV with names in single quotes",
        "q.csv",
        "'imgname','query','label'\na.png,How many?,7\n",
        names=("q.csv", "column"),
    )
    add_table("CSV with misspelt names", "q.csv", "imgname,qeury,lable\na.png,How many?,7\n", names=("column_map",))
    add_table("CSV with a name of NUL", "q.csv", "imgname,query,label,\0\na.png,How many?,7,x\n", "7")
    for text in (
        "NA",
        "null",
        "None",
        "nan",
        "N/A",
        "-",
        "0012",
        "12.50",
        "TRUE",
        "1e3",
        "1,204.50",
        "$5",
        "5 %",
        "[2017, 2023]",
        "[a, b]",
        "=1+1",
        "'7",
        "7.",
        "007",
    ):
        quoted = f'"{text}"' if "," in text else text
        add_table(
            f"CSV keeps the answer {text}",
            "q.csv",
            HEADER + f"a.png,How many?,{quoted}\n",
            text,
            said=(text,) if text == "nan" else (),
        )
    for text in ("['7']", '[""7""]'):
        add_table(f"CSV with a list of one as text, {text}", "q.csv", HEADER + f'a.png,How many?,"{text}"\n', "7")
    add_table(
        "CSV with a list of two as text",
        "q.csv",
        HEADER + "a.png,How many?,\"['7', '8']\"\n",
        "['7', '8']",
        names=("answer", "label"),
    )
    add_table("CSV with an empty answer", "q.csv", HEADER + "a.png,How many?,\n")
    add_table("CSV with an empty question", "q.csv", HEADER + "a.png,,7\n", names=("query", "q.csv"))
    add_table("CSV with an empty image", "q.csv", HEADER + ",How many?,7\n")
    add_table("CSV called .txt", "q.txt", good)
    add_table("CSV that is packed", "q.csv", b"\x1f\x8b\x08\x00" + bytes(30))
    add_table("CSV that is a spreadsheet", "q.csv", b"PK\x03\x04" + bytes(60) + b"\xff\xfe")
    add_table("CSV that is a web page", "q.csv", "<!DOCTYPE html>\n<html>\n", names=("q.csv", "column"))
    add_table(
        "CSV that is a pointer of Git LFS",
        "q.csv",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        names=("q.csv", "column"),
    )
    add_table("CSV with a hidden source", "q.csv", "imgname,query,label,type\na.png,How many?,7,Human \n", "7")


def _sources() -> None:
    """Sources are told as published copies write them, or the record is named; never a third kind without a word."""
    for text, want in {
        "Human": "human",
        "HUMAN": "human",
        " human ": "human",
        "human_test": "human",
        "Augmented": "augmented",
        "machine": "augmented",
        "Machine-generated": "augmented",
        "human ": "human",
        "0": "human",
        "1": "augmented",
        "": "unknown",
        "unknown": "unknown",
    }.items():
        add(
            GROUP,
            f"CSV with the source {text!r}",
            lambda folder, text=text: _source(folder, text),
            "source",
            right=lambda got, want=want: got == want,
        )


def _source(folder: Path, text: str) -> str:
    (folder / "a.png").write_bytes(encoded())
    (folder / "q.csv").write_text(f"imgname,query,label,source\na.png,How many?,7,{text}\n")
    return load_chartqa(folder / "q.csv")["train"][0]["source"]


# ---------------------------------------------------------------------------------------------------------------- JSON
def _json() -> None:
    one = {"imgname": "a.png", "query": QUESTION, "label": "7"}
    good = json.dumps([one])
    add_table("JSON with a byte order mark", "q.json", "\ufeff" + good, "7")
    add_table("JSON in UTF-16", "q.json", good.encode("utf-16"))
    add_table("JSON in Latin-1", "q.json", good.replace("cups", "tass\u00e9s").encode("latin-1"))
    broken = {
        "an empty file": "",
        "white space": " \n",
        "a text": "hello",
        "null": "null",
        "a number": "5",
        "a text in quotes": '"a"',
        "true": "true",
        "an empty list": "[]",
        "an empty object": "{}",
        "a list of lists": '[["a.png", "How?", "7"]]',
        "a list of texts": '["a", "b"]',
        "a list with null": f"[{json.dumps(one)}, null]",
        "a list of empty objects": "[{}]",
        "two lists in an object": json.dumps({"train": [one], "val": [one]}),
        "a comma too many": good[:-1] + ",]",
        "single quotes": str([one]),
        "a comment": "// questions\n" + good,
        "no end": good[:-1],
        "half": good[: len(good) // 2],
        "two lists": good + good,
        "brackets 100,000 deep": "[" * 100_000,
        "objects 100,000 deep": '{"a":' * 100_000,
        "columns": json.dumps({key: [value] for key, value in one.items()}),
        "columns of pandas": json.dumps({key: {"0": value} for key, value in one.items()}),
        "a split of pandas": json.dumps({"columns": list(one), "index": [0], "data": [list(one.values())]}),
        "a message of the Hub": '{"error": "Repository not found"}',
        "COCO": json.dumps(
            {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "x"}]}
        ),
        "a pointer of Git LFS": "version https://git-lfs.github.com/spec/v1\n",
        "NUL": "\0",
        "a number of 5,000 digits": "[" + "9" * 5000 + "]",
    }
    for name, text in broken.items():
        add_table(f"JSON of {name}", "q.json", text)
    columns = json.dumps({key: [value, value] for key, value in one.items()})
    add_table("JSON of columns of two rows", "q.json", columns, "7", "7")
    add_table("JSON of an object with one list", "q.json", json.dumps({"version": 1, "data": [one]}), "7")
    for key, _, second in (
        ("label", '"7"', '"8"'),
        ("query", '"How?"', '"Why?"'),
        ("imgname", '"a.png"', '"b.png"'),
    ):
        twice = json.dumps(one)[:-1] + f', "{key}": {second}}}'
        add_table(
            f"JSON with {key} twice in one record", "q.json", f"[{twice}]", names=(f"{key!r}", f'"{key}"', "record 0")
        )
        add_table(
            f"JSON lines with {key} twice in one record",
            "q.jsonl",
            twice + "\n",
            names=(f"{key!r}", f'"{key}"', "record 0"),
        )
    values = {
        "NaN": ("NaN", None),
        "Infinity": ("Infinity", None),
        "-Infinity": ("-Infinity", None),
        "null": ("null", None),
        "an int": ("7", "7"),
        "a float": ("7.25", "7.25"),
        "a whole float": ("14.0", "14"),
        "1e400": ("1e400", None),
        "1e-7": ("1e-7", "0.0000001"),
        "1e22": ("1e22", "10000000000000000000000"),
        "0.1": ("0.1", "0.1"),
        "a long decimal": ("0.30000000000000004", "0.30000000000000004"),
        "2**70": (str(2**70), str(2**70)),
        "true": ("true", "Yes"),
        "false": ("false", "No"),
        "a list of one": ('["7"]', "7"),
        "a list of two": ('["7", "8"]', None),
        "a list of a list": ('[["7"]]', None),
        "an object": ('{"text": "7"}', None),
        "an empty list": ("[]", None),
        "a text of a number": ('"07.50"', "07.50"),
        "a lone surrogate": ('"7\\ud83d"', None),
        "an escaped NUL": ('"7\\u0000"', "7\0"),
        "blanks": ('"  "', None),
        "a blank before": ('" 7"', "7"),
        "minus zero": ("-0.0", "0"),
    }
    for name, (text, want) in values.items():
        content = json.dumps([{**one, "label": "X"}]).replace('"X"', text)
        add_table(
            f"JSON with the label {name}",
            "q.json",
            content,
            *((want,) if want else ()),
            names=("label", "answer", "q.json"),
        )
    numbers = json.dumps([{**one, "label": 7}, {**one, "label": "7"}, {**one, "label": 7.0}, {**one, "label": True}])
    add_table("JSON with labels of many types", "q.json", numbers, "7", "7", "7", "Yes")
    late = json.dumps([*[one] * 1200, {**one, "query": None, "question": QUESTION}])
    add_table("JSON with another column after 1,200 records", "q.json", late, names=("query", "question"))
    for file in ("q.jsonl", "q.ndjson"):
        line = json.dumps(one)
        add_table(f"{file}: one record a line", file, line + "\n" + line + "\n", "7", "7")
        add_table(f"{file}: empty lines", file, "\n" + line + "\n\n", "7")
        add_table(f"{file}: lines of Windows", file, line + "\r\n" + line, "7", "7")
        add_table(f"{file}: lines of old Macs", file, line + "\r" + line, "7", "7")
        add_table(
            f"{file}: a line separator in a text",
            file,
            json.dumps({**one, "query": "a\u2028b\u0085c"}, ensure_ascii=False),
            "7",
        )
        add_table(f"{file}: a comma behind each record", file, line + ",\n" + line, names=("line",))
        add_table(f"{file}: a broken line", file, line + "\n{broken\n", names=("line 2",))
        add_table(f"{file}: a cut last line", file, line + "\n" + line[:20], names=("line 2",))
        add_table(f"{file}: a list", file, json.dumps([one, one]), names=("line 1", file))
        add_table(f"{file}: a list over several lines", file, json.dumps([one, one], indent=1), names=("line", file))
        add_table(f"{file}: two records in one line", file, line + line, names=("line 1",))
        add_table(f"{file}: an empty file", file, "")
        add_table(f"{file}: null in a line", file, line + "\nnull\n", names=("line 2",))
        add_table(f"{file}: a number in a line", file, line + "\n5\n", names=("line 2",))
        add_table(f"{file}: UTF-16", file, line.encode("utf-16"))
        add_table(f"{file}: brackets 100,000 deep", file, "[" * 100_000, names=("line 1", file))
        add_table(f"{file}: NaN as the label", file, line.replace('"7"', "NaN"), names=("label",))
    add_table("JSON lines called .json", "q.json", json.dumps(one) + "\n" + json.dumps(one), "7", "7")
    add_table("one record called .json", "q.json", json.dumps(one), "7", names=("q.json",))
    add_table("CSV called .json", "q.json", HEADER + "a.png,How many?,7\n")
    add_table("JSON called .csv", "q.csv", good)
    add_table("JSON called .parquet", "q.parquet", good)


# ------------------------------------------------------------------------------------------------------------- Parquet
def parquet(rows: list[dict[str, Any]] | pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue().to_pybytes()


NAMES = (
    "run[1]",
    "run[12]",
    "a*b",
    "a?b",
    "{a,b}",
    "a b",
    "a#b",
    "a%20b",
    "a:b",
    "a+b",
    "a=b",
    "caf\u00e9",
    "[!a]",
    "**",
    "~x",
    "$HOME",
    "-x",
    "a'b",
    "a\\b",
)


def _parquet() -> None:
    one = {"imgname": "a.png", "query": QUESTION, "label": "7"}
    inside = {"image": {"bytes": encoded(), "path": "a.png"}, "query": QUESTION, "label": "7"}
    good = parquet([one])
    for name in NAMES:
        file = f"{name}.parquet"
        add(
            GROUP,
            f"Parquet called {file}",
            lambda folder, file=file: _beside_others(folder, file, good),
            file,
            right=teaches("7"),
        )
        for suffix, content in (
            ("csv", HEADER + "a.png,How many?,7\n"),
            ("json", json.dumps([one])),
            ("jsonl", json.dumps(one)),
        ):
            add_table(f"a table called {name}.{suffix}", f"{name}.{suffix}", content, "7")
    broken = {
        "an empty file": b"",
        "a text": b"hello",
        "half": good[: len(good) // 2],
        "no end": good[:-8],
        "its end alone": good[-20:],
        "zeros": bytes(500),
        "its marks alone": b"PAR1PAR1",
        "a web page": b"<html></html>",
    }
    for name, content in broken.items():
        add_table(f"Parquet of {name}", "q.parquet", content)
    tables: dict[str, tuple[Any, tuple[str, ...]]] = {
        "no rows": (pa.Table.from_pylist([], pa.schema({name: pa.string() for name in one})), ()),
        "no columns": (pa.table({}), ()),
        "labels that are numbers": ([{**one, "label": 7}], ("7",)),
        "labels that are floats of 32 bits": (
            pa.table({"imgname": ["a.png"], "query": ["How?"], "label": pa.array([0.1], pa.float32())}),
            ("0.1",),
        ),
        "labels that are decimals": ([{**one, "label": decimal.Decimal("7.50")}], ("7.5",)),
        "labels that are lists": ([{**one, "label": ["7"]}], ("7",)),
        "labels that are lists of two": ([{**one, "label": ["7", "8"]}], ()),
        "labels that are structs": ([{**one, "label": {"text": "7"}}], ()),
        "labels that are bytes": ([{**one, "label": b"7"}], ("7",)),
        "labels that are bytes of no text": ([{**one, "label": b"\xff\xfe"}], ()),
        "labels in a dictionary": (
            pa.table({"imgname": ["a.png"], "query": ["How?"], "label": pa.array(["7"]).dictionary_encode()}),
            ("7",),
        ),
        "labels that are large strings": (
            pa.table({"imgname": ["a.png"], "query": ["How?"], "label": pa.array(["7"], pa.large_string())}),
            ("7",),
        ),
        "labels that are true": ([{**one, "label": True}], ("Yes",)),
        "labels that are null": (pa.table({"imgname": ["a.png"], "query": ["How?"], "label": pa.nulls(1)}), ()),
        "a label that is null": ([one, {**one, "label": None}], ()),
        "questions that are numbers": ([{**one, "query": 7}], ("7",)),
        "images inside": ([inside], ("7",)),
        "images as bytes": ([{**inside, "image": encoded()}], ("7",)),
        "images as lists": ([{**inside, "image": [{"bytes": encoded(), "path": None}]}], ("7",)),
        "images as lists of two": ([{**inside, "image": [{"bytes": encoded(), "path": None}] * 2}], ()),
        "an image that is null": ([inside, {**inside, "image": None}], ()),
        "an image of empty bytes": ([inside, {**inside, "image": {"bytes": b"", "path": None}}], ()),
        "images as base64": ([{**inside, "image": "iVBORw0KGgoAAAANSUhEUgAAADAAAAAoCAIAAAC"}], ()),
        "images as numbers": ([{**inside, "image": 5}], ()),
        "images as arrays": ([{**inside, "image": [[1, 2], [3, 4]]}], ()),
        "two columns of one name": (
            pa.Table.from_arrays(
                [pa.array([v]) for v in ("a.png", "How?", "7", "8")], ["imgname", "query", "label", "label"]
            ),
            (),
        ),
    }
    for name, (table, answers) in tables.items():
        named = ("q.parquet", "label", "image", "column", "imgname", "record")
        add_table(f"Parquet with {name}", "q.parquet", parquet(table), *answers, names=named)


def _beside_others(folder: Path, file: str, content: bytes) -> tuple[list[str], list[float]]:
    """A Parquet file among others, which patterns in its name would match."""
    other = parquet([{"imgname": "a.png", "query": QUESTION, "label": "another file"}])
    for name in ("run1.parquet", "run2.parquet", "ab.parquet", "axb.parquet", "a.parquet", "b.parquet", "x.parquet"):
        (folder / name).write_bytes(other)
    return loaded(folder, file, content)


# ----------------------------------------------------------------------------------------------------- loaded data sets
def _streamed() -> None:
    """The same tables, streamed: what is refused is refused, what is taught is taught."""
    cases: dict[str, tuple[str, str, Callable[[Any], bool] | None, tuple[str, ...]]] = {
        "a row that is short": ("q.csv", HEADER + "a.png,How many?\n", None, ("q.csv", "label")),
        "a row that is long": ("q.csv", HEADER + "a.png,How many?,7,8\n", None, ("q.csv",)),
        "two columns called label": ("q.csv", "imgname,query,label,label\na.png,How many?,7,8\n", None, ("label",)),
        "a header alone": ("q.csv", HEADER, None, ("q.csv",)),
        "broken UTF-8 in row 2": ("q.csv", b"imgname,query,label\na.png,Q,7\na.png,\xff,7\n", None, ("q.csv",)),
        "a broken line": ("q.jsonl", '{"imgname": "a.png", "query": "Q", "label": "7"}\n{\n', None, ("line 2",)),
        "semicolons": ("q.csv", "imgname;query;label\na.png;Q;7\n", teaches("7"), ()),
    }
    for name, (file, content, right, names) in cases.items():
        add(
            GROUP,
            f"streaming: {name}",
            lambda folder, file=file, content=content: loaded(folder, file, content, streaming=True),
            *names,
            right=right,
        )


_csv()
_sources()
_json()
_parquet()
_streamed()
