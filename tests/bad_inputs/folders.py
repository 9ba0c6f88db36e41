"""Bad folders and sources: layouts, names of files, links, splits, and the arguments of load_chartqa."""

# ruff: noqa: E501, SIM115

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd

from chartqa_ft import load_chartqa, stratified_subset
from chartqa_ft.data import split_by_chart

from .case import QUESTION, add, charts, encoded, picture, scored, teaches

GROUP = "folders"
ONE = {"imgname": "a.png", "query": QUESTION, "label": "7"}
RED = encoded(image=picture(colours=("red",) * 4))


def write(folder: Path, files: dict[str, Any]) -> Path:
    """Write files by their paths: bytes and texts as they are, anything else as JSON; `None` makes a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def splits(value: Any) -> dict[str, list[str]]:
    return {name: list(part["answer"]) for name, part in value.items()}


# -------------------------------------------------------------------------------------------------------------- layouts
def _layouts() -> None:
    a, empty = encoded(), b""
    official = {"train/png/a.png": a, "train/train_human.json": [ONE]}
    layouts: dict[str, tuple[dict[str, Any], dict[str, list[str]] | None]] = {
        "no files": ({}, None),
        "a folder without files": ({"train": None}, None),
        "folders without files": ({"train": None, "val": None, "test": None}, None),
        "images alone": ({"a.png": a}, None),
        "images of splits alone": ({"train/png/a.png": a}, None),
        "one split": (official, {"train": ["7"]}),
        "test alone": ({"test/png/a.png": a, "test/test_human.json": [ONE]}, {"test": ["7"]}),
        "folders in capitals": ({"Train/png/a.png": a, "Train/train_human.json": [ONE]}, {"train": ["7"]}),
        "the unpacked archive": ({f"ChartQA Dataset/{k}": v for k, v in official.items()}, {"train": ["7"]}),
        "a folder around all": ({f"data/{k}": v for k, v in official.items()}, {"train": ["7"]}),
        "two folders around all": ({f"data/x/{k}": v for k, v in official.items()}, {"train": ["7"]}),
        "records four folders deep": ({f"a/b/c/{k}": v for k, v in official.items()}, {"train": ["7"]}),
        "images that are missing": ({"train/train_human.json": [ONE]}, None),
        "images in another split": ({"val/png/a.png": a, "train/train_human.json": [ONE]}, None),
        "an image in a folder below": ({"train/png/x/a.png": a, "train/train_human.json": [ONE]}, None),
        "an image of another case": ({"train/png/A.PNG": a, "train/train_human.json": [ONE]}, None),
        "an image of another suffix": ({"train/png/a.jpg": a, "train/train_human.json": [ONE]}, None),
        "an empty image": ({"train/png/a.png": empty, "train/train_human.json": [ONE]}, None),
        "a folder called like the image": ({"train/png/a.png/x": a, "train/train_human.json": [ONE]}, None),
        "an empty record file": ({"train/png/a.png": a, "train/train_human.json": []}, None),
        "an empty file beside a good one": ({**official, "train/train_augmented.json": []}, None),
        "a split without records": ({**official, "val/val_human.json": []}, None),
        "two kinds of files of a split": (
            {"a.png": a, "train.json": [ONE], "train.csv": "imgname,query,label\na.png,Q,8\n"},
            None,
        ),
        "val and validation": (
            {"a.png": a, "val.json": [ONE], "validation.json": [{**ONE, "label": "8"}]},
            {"val": ["7"], "validation": ["8"]},
        ),
        "other JSON files": ({"a.png": a, "train.json": [ONE], "package.json": {"name": "x"}}, None),
        "a settings file in JSON": ({"a.png": a, "train.json": [ONE], "config.json": {"lists": [1]}}, None),
        "hidden files": (
            {"a.png": a, "train.json": [ONE], ".train.json": "x", "._train.json": b"\0"},
            {"train": ["7"]},
        ),
        "checkpoints of notebooks": (
            {"a.png": a, "train.json": [ONE], ".ipynb_checkpoints/train-checkpoint.json": [ONE, ONE]},
            {"train": ["7"]},
        ),
        "what macOS adds to archives": ({**official, "__MACOSX/train/._train_human.json": b"\0\5"}, {"train": ["7"]}),
        "tables beside the images": ({**official, "train/tables/a.csv": "Year,Value\n2020,7\n"}, {"train": ["7"]}),
        "tables alone": ({"train/png/a.png": a, "train/tables/a.csv": "Year,Value\n2020,7\n"}, None),
        "annotations of the official set": (
            {**official, "train/annotations/a.json": {"models": []}},
            {"train": ["7"]},
        ),
        "a folder called a.json": ({"a.png": a, "train.json/x.txt": "x"}, None),
        "an archive": ({"chartqa.zip": b"PK\3\4"}, None),
        "packed records": ({"a.png": a, "train.json.gz": b"\x1f\x8b"}, None),
        "a spreadsheet": ({"a.png": a, "train.xlsx": b"PK\3\4"}, None),
        "a damaged dataset_dict.json": ({"dataset_dict.json": "{"}, None),
        "an empty dataset_dict.json": ({"dataset_dict.json": ""}, None),
        "a dataset_dict.json of other splits": ({"dataset_dict.json": {"splits": ["train"]}}, None),
        "a state.json alone": ({"state.json": {}}, None),
        "an empty state.json": ({"state.json": "", "dataset_info.json": "{}"}, None),
        "metadata beside the images": (
            {"metadata.csv": "file_name,question,answer\na.png,Q,7\n", "a.png": a},
            {"train": ["7"]},
        ),
        "metadata without images": ({"metadata.csv": "file_name,question,answer\na.png,Q,7\n"}, None),
        "metadata of two splits": (
            {
                f"{s}/{n}": c
                for s in ("train", "test")
                for n, c in {
                    "metadata.jsonl": json.dumps({"file_name": "a.png", "question": "Q", "answer": s}),
                    "a.png": a,
                }.items()
            },
            {"train": ["train"], "test": ["test"]},
        ),
        "a Parquet file that is damaged": ({"train.parquet": b"PAR1"}, None),
        "parts with other columns": (
            {
                "a.png": a,
                "train_human.json": [ONE],
                "train_augmented.json": [{"imgname": "a.png", "q": "Q", "a": "8"}],
            },
            None,
        ),
    }
    for name, (files, wanted) in layouts.items():
        last = [Path(file).name for file in files] or ["."]
        add(
            GROUP,
            f"a folder with {name}",
            lambda folder, files=files: splits(load_chartqa(write(folder, files))),
            *{*last, "no records", "image_dir", "split"} if files else ("no records",),
            right=wanted and (lambda got, wanted=wanted: got == wanted),
        )


# ---------------------------------------------------------------------------------------------------------- image names
def _named(folder: Path, stored: str | None, written: Any, content: bytes = b"") -> tuple[list[str], list[float]]:
    """A record that names an image as `written`, whose file is `stored`."""
    (folder / "charts").mkdir()
    if stored is not None:
        path = folder / "charts" / stored
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or encoded())
    write(folder, {"charts/q.json": [{**ONE, "imgname": written}]})
    return scored(load_chartqa(folder / "charts" / "q.json")["train"])


def _image_names() -> None:
    same = (
        "a b.png",
        " a.png",
        "a.png ",
        "a:b.png",
        "c:a.png",
        "C:",
        "a;b.png",
        "a%20b.png",
        "a#b.png",
        "a?b.png",
        "a*b.png",
        "a[1].png",
        "[a].png",
        "{a}.png",
        "~a.png",
        "$HOME.png",
        "a..png",
        "..a.png",
        ".a.png",
        "a",
        "a.PNG",
        "a.b.c.png",
        "caf\u00e9.png",
        "\U0001f600.png",
        "\u65e5.png",
        "a\nb.png",
        "a\tb.png",
        "a'b.png",
        'a"b.png',
        "-a.png",
        "a|b.png",
        "a<b>.png",
        "a&b.png",
        "a=b.png",
        "a,b.png",
        "a+b.png",
        "a@b.png",
        "CON.png",
        "a\\b.png",
        "x" * 251 + ".png",
        "https:a.png",
        "1",
        "null",
        "None",
        "nan",
    )
    for name in same:
        add(
            GROUP,
            f"an image called {name!r}" if len(name) < 99 else "an image with a name of 255 letters",
            lambda folder, name=name: _named(folder, name, name),
            right=teaches("7"),
        )
    reached = {
        "./a.png": "a.png",
        "png/a.png": "png/a.png",
        "png\\a.png": "png/a.png",
        "png//a.png": "png/a.png",
        "png/./a.png": "png/a.png",
        "png/../a.png": "a.png",
        "a.png": "png/a.png",
        ".\\a.png": "a.png",
    }
    for written, stored in reached.items():
        add(
            GROUP,
            f"an image at {stored} written {written!r}",
            lambda folder, stored=stored, written=written: _named(folder, stored, written),
            "imgname",
            written,
            "q.json",
            right=teaches("7"),
        )
    nfc = unicodedata.normalize("NFC", "caf\u00e9.png")
    nfd = unicodedata.normalize("NFD", nfc)
    for stored, written, what in ((nfc, nfd, "decomposed"), (nfd, nfc, "composed")):
        add(
            GROUP,
            f"an accent written {what}",
            lambda folder, s=stored, w=written: _named(folder, s, w),
            "q.json",
            right=teaches("7"),
        )
    refused: dict[str, Any] = {
        "a blank before": " a.png",
        "a blank behind": "a.png ",
        "another case": "A.png",
        "no suffix": "a",
        "a slash behind": "a.png/",
        "..": "../outside.png",
        "many ..": "../../../../etc/hostname",
        "an absolute path": "/etc/hostname",
        "a path of Windows": "C:\\charts\\a.png",
        "~": "~/a.png",
        "NUL": "a\0.png",
        "300 letters": "x" * 300,
        "5,000 folders": "x/" * 5000,
        "an empty text": "",
        "blanks": "  ",
        "a dot": ".",
        "two dots": "..",
        "a slash": "/",
        "a web address": "https://example.org/a.png",
        "a file address": "file:///etc/hostname",
        "a Hub address": "hf://datasets/x/a.png",
        "null": None,
        "a number": 5,
        "a list": ["a.png", "b.png"],
        "an object": {"a": 1},
        "true": True,
        "a lone surrogate": "a\ud800.png",
        "a data address": "data:image/png;base64,iVBORw0KGgo=",
        "the record file": "q.json",
    }
    for name, written in refused.items():
        add(
            GROUP,
            f"an image written with {name}",
            lambda folder, written=written: [
                (folder / "outside.png").write_bytes(encoded()),
                _named(folder, "a.png", written),
            ][1],
            "q.json",
            "imgname",
            right=teaches("7") if name in ("a blank before", "a blank behind", "a slash behind") else None,
        )
    add(
        GROUP,
        "an image in a list of one",
        lambda folder: _named(folder, "a.png", ["a.png"]),
        "q.json",
        right=teaches("7"),
    )
    add(
        GROUP,
        "an image as an object with a path",
        lambda folder: _named(folder, "a.png", {"path": "a.png", "bytes": None}),
        "q.json",
        right=teaches("7"),
    )


# ---------------------------------------------------------------------------------------------------------------- links
def _linked(folder: Path, make: Callable[[Path, Path], Any]) -> tuple[list[str], list[float]]:
    home = folder / "charts"
    home.mkdir()
    write(home, {"real.png": encoded(), "q.json": [ONE]})
    (folder / "outside.png").write_bytes(encoded())
    make(home, home / "a.png")
    return scored(load_chartqa(home / "q.json")["train"])


def _links() -> None:
    add(
        GROUP,
        "a link to an image beside it",
        lambda f: _linked(f, lambda home, a: a.symlink_to("real.png")),
        right=teaches("7"),
    )
    add(GROUP, "a hard link", lambda f: _linked(f, lambda home, a: os.link(home / "real.png", a)), right=teaches("7"))
    bad: dict[str, Callable[[Path, Path], Any]] = {
        "a link out of the folder": lambda home, a: a.symlink_to("../outside.png"),
        "a link to nothing": lambda home, a: a.symlink_to("gone.png"),
        "a link to itself": lambda home, a: a.symlink_to("a.png"),
        "a link to a folder": lambda home, a: a.symlink_to("."),
        "a link to a device": lambda home, a: a.symlink_to("/dev/zero"),
        "a pipe": lambda home, a: os.mkfifo(a),
        "a file that grows no bytes": lambda home, a: a.touch(),
    }
    for name, make in bad.items():
        add(GROUP, name, lambda folder, make=make: _linked(folder, make), "a.png")

    def record_link(folder: Path) -> Any:
        write(folder, {"there/q.json": [ONE], "here/a.png": encoded()})
        (folder / "here" / "q.json").symlink_to("../there/q.json")
        return scored(load_chartqa(folder / "here" / "q.json")["train"])

    add(GROUP, "a record file that is a link", record_link, "a.png", right=teaches("7"))

    def loop(folder: Path) -> Any:
        write(folder, {"a.png": encoded(), "train/q.json": [ONE]})
        (folder / "train" / "again").symlink_to("..")
        return splits(load_chartqa(folder))

    add(GROUP, "a folder that holds a link to itself", loop, right=lambda got: got == {"train": ["7"]})


# -------------------------------------------------------------------------------------------------------------- sources
def _good(folder: Path) -> Path:
    rows = [{**ONE, "label": str(n)} for n in range(4)]
    return write(
        folder, {"a.png": encoded(), "b.png": RED, "train.json": rows, "val.json": [{**ONE, "imgname": "b.png"}]}
    )


def _from(folder: Path, place: Path, source: Any, **options: Any) -> Any:
    """Load from a working folder that holds a good data set."""
    _good(folder)
    before = os.getcwd()
    os.chdir(place)
    try:
        return splits(load_chartqa(source, **options))
    finally:
        os.chdir(before)


def _sources() -> None:
    odd: dict[str, Any] = {
        "an empty text": "",
        "blanks": "  ",
        "None": None,
        "a number": 5,
        "True": True,
        "bytes": b"train.json",
        "a list of files": ["train.json"],
        "a list of records": [ONE],
        "a data frame": pd.DataFrame([ONE]),
        "a tuple": ("train.json",),
        "an empty dict": {},
        "a dict of lists": {"train": [ONE]},
        "a dict of None": {"train": None},
        "a dict of paths": {"train": "train.json"},
        "a type": datasets.Dataset,
        "an open file": open(os.devnull),
        "a file that is missing": "trian.json",
        "a folder that is missing": "charts/",
        "an absolute path that is missing": "/no/such/folder",
        "a path of Windows": "C:\\charts\\train.json",
        "a web address": "https://example.org/train.json",
        "a Hub address": "hf://datasets/a/b",
        "a pattern": "*.json",
        "a text with NUL": "train\0.json",
        "a path with ~": "~/no/such.json",
        "an image": "a.png",
        "a text of 5,000 letters": "x" * 5000,
        "three parts": "a/b/c",
        "a name with blanks": "my data",
    }
    for name, source in odd.items():
        add(
            GROUP,
            f"load_chartqa: {name} as the source",
            lambda folder, source=source: _from(folder, folder, source),
            "source",
            *([source.strip()] if isinstance(source, str) and source.strip() else []),
            "not a local file",
        )
    for name, value in {
        "an empty text": "",
        "blanks": " ",
        "a file": "train.json",
        "a missing folder": "/no/such",
        "a number": 5,
        "False": False,
        "a list": ["."],
        "bytes": b".",
    }.items():
        add(
            GROUP,
            f"load_chartqa: {name} as image_dir",
            lambda folder, value=value: _from(folder, folder, "train.json", image_dir=value),
            "image_dir",
        )
    only = {"train": [str(n) for n in range(4)]}
    for name, value in {
        "an empty dict": {},
        "None": None,
    }.items():
        add(
            GROUP,
            f"load_chartqa: {name} as column_map",
            lambda folder, value=value: _from(folder, folder, "train.json", column_map=value),
            right=lambda got: got == only,
        )
    for name, value in {
        "a list": ["question"],
        "a text": "question",
        "a number": 5,
        "a key that is no column": {"query": "question"},
        "a column that is missing": {"question": "text"},
        "None as a column": {"question": None},
        "a number as a column": {"question": 1},
        "one column for two": {"question": "query", "answer": "query"},
        "the image as the answer": {"answer": "imgname", "image": "imgname"},
        "a list of columns": {"question": ["query"]},
        "a key in capitals": {"Question": "query"},
    }.items():
        add(
            GROUP,
            f"load_chartqa: {name} as column_map",
            lambda folder, value=value: _from(folder, folder, "train.json", column_map=value),
            "column_map",
        )
    for name, value in {
        "ignore": "ignore",
        "None": None,
        "True": True,
        "a number": 5,
        "a list": ["skip"],
        "SKIP": "SKIP",
        "an exception": ValueError("x"),
        "an empty text": "",
    }.items():
        add(
            GROUP,
            f"load_chartqa: {name} as on_error",
            lambda folder, value=value: _from(folder, folder, "train.json", on_error=value),
            "on_error",
        )
    for name, value in {
        "0": 0,
        "-1": -1,
        "NaN": math.nan,
        "a text": "many",
        "True": True,
        "a list": [1],
        "a fraction": 0.5,
    }.items():
        add(
            GROUP,
            f"load_chartqa: {name} as max_pixels",
            lambda folder, value=value: _from(folder, folder, "train.json", max_pixels=value),
            "max_pixels",
        )
    add(
        GROUP,
        "load_chartqa: infinity as max_pixels",
        lambda folder: _from(folder, folder, "train.json", max_pixels=math.inf),
        "max_pixels",
        right=lambda got: got == only,
    )
    for name in ("streaming", "require_answers"):
        for value in ("false", "no"):
            add(
                GROUP,
                f"load_chartqa: {value!r} as {name}",
                lambda folder, name=name, value=value: _from(folder, folder, "train.json", **{name: value}),
                name,
            )
    for options in (
        {"revision": "main"},
        {"images_dir": "."},
        {"name": "x"},
        {"data_files": "val.json"},
        {"shuffle": True},
        {"keep_in_memory": True},
        {"trust_remote_code": True},
    ):
        (key,) = options
        add(
            GROUP,
            f"load_chartqa: {key} for a local file",
            lambda folder, options=options: _from(folder, folder, "train.json", **options),
            key,
        )
        add(
            GROUP,
            f"load_chartqa: {key} for a loaded data set",
            lambda folder, options=options: load_chartqa(charts(), **options),
            key,
        )
    good = [str(n) for n in range(4)]
    expressions: dict[Any, list[str] | None] = {
        "": None,
        " ": None,
        "Train": None,
        "test": None,
        "all": None,
        "train,val": None,
        "train[": None,
        "train[]": None,
        "train[x]": None,
        "train[1.5:]": None,
        "train[:50": None,
        "train[::2]": None,
        "train[::-1]": None,
        "train[50%:25%]": [],
        "train[:200%]": None,
        "train[0:0]": [],
        "train[:-1]": good[:-1],
        "train[-1:]": good[-1:],
        "train[:100]": good,
        "train[100:]": [],
        "train[2]": None,
        "train[1:3]": good[1:3],
        "train[:25%]": good[:1],
        "train+": None,
        "+": None,
        "train+train": good + good,
        "train val": None,
        "train+val[:1]": [*good, "7"],
        " train ": good,
        "validation": ["7"],
        "dev": ["7"],
        0: None,
        1: None,
        ("train",): None,
        b"train": None,
        1.5: None,
    }
    for expression, wanted in expressions.items():
        add(
            GROUP,
            f"load_chartqa: {expression!r} as split",
            lambda folder, expression=expression: list(load_chartqa(_good(folder), split=expression)["answer"]),
            "split",
            right=(lambda got, wanted=wanted: got == wanted) if wanted is not None else None,
        )
    for value in (["train"], {"train"}, {"train": 1}, len):
        add(
            GROUP,
            f"load_chartqa: a {type(value).__name__} as split",
            lambda folder, value=value: load_chartqa(_good(folder), split=value)["answer"],
            "split",
        )
    nothing = charts().select([])
    for name, build in {
        "no rows": lambda: nothing,
        "no columns": lambda: datasets.Dataset.from_dict({}),
        "rows and an empty split": lambda: datasets.DatasetDict({"train": charts(), "val": nothing}),
        "an empty DatasetDict": datasets.DatasetDict,
        "no image": lambda: charts().remove_columns("image"),
        "an image of texts": lambda: datasets.Dataset.from_dict({"image": ["x"], "question": ["q"], "answer": ["a"]}),
    }.items():
        add(
            GROUP,
            f"load_chartqa: a data set with {name}",
            lambda folder, build=build: load_chartqa(build()),
            "image",
            "question",
            "val",
            "record",
            "empty",
            "split",
            right=(lambda got: True) if "rows" in name else None,
        )


def _parts() -> None:
    """`split_by_chart` and `stratified_subset`."""
    for value in (0, 1, -0.1, 1.5, math.nan, math.inf, "0.2", None, True):
        add(
            GROUP,
            f"split_by_chart: {value!r} held out",
            lambda _, value=value: split_by_chart(charts(8), value),
            "held_out",
        )
        if value != 1 or value is True:
            add(
                GROUP,
                f"stratified_subset: {value!r} rows",
                lambda _, value=value: stratified_subset(charts(8), value),
                "n must",
                " n ",
            )
    add(
        GROUP,
        "stratified_subset: more rows than there are",
        lambda _: len(stratified_subset(charts(8), 100)),
        right=lambda n: n == 8,
    )
    add(GROUP, "stratified_subset: a list of records", lambda _: stratified_subset(list(charts()), 2), "list")
    add(GROUP, "split_by_chart: a list of records", lambda _: split_by_chart(list(charts())), "list", "records")
    add(GROUP, "split_by_chart: one chart", lambda _: split_by_chart(charts(1)), "chart")
    add(GROUP, "split_by_chart: no records", lambda _: split_by_chart(charts().select([])), "chart")
    add(
        GROUP, "split_by_chart: no chart_id", lambda _: split_by_chart(charts().remove_columns("chart_id")), "chart_id"
    )


_layouts()
_image_names()
_links()
_sources()
_parts()
