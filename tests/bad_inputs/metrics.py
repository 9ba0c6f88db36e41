"""Bad arguments of the metrics, and bad prediction files."""

# ruff: noqa: E501

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chartqa_ft import compare_predictions, format_table, read_predictions, relaxed_accuracy, relaxed_correctness
from chartqa_ft.metrics.accuracy import per_example_correctness

from .case import add

GROUP = "configurations"
TWO: dict[str, Any] = {"predictions": ["7", "8"], "references": ["7", "9"]}


def accuracy(**changes: Any) -> float:
    return relaxed_accuracy(**{**TWO, **changes})["relaxed_accuracy"]


def half(value: Any) -> bool:
    return value == 0.5


# ------------------------------------------------------------------------------------------------------------- arguments
ARGUMENTS: dict[str, dict[str, tuple[Any, Callable[[Any], bool] | None]]] = {
    "predictions": {
        "None": (None, None),
        "a text": ("78", None),
        "bytes": (b"78", None),
        "an empty list": ([], None),
        "one too few": (["7"], None),
        "one too many": (["7", "8", "9"], None),
        "a number": (7, None),
        "a dict": ({"a": "7", "b": "8"}, None),
        "a set": ({"7", "8"}, None),
        "a generator": (iter(["7", "8"]), half),
        "a tuple": (("7", "8"), half),
        "an array": (np.array(["7", "8"]), half),
        "numbers": ([7, 8], half),
        "numpy numbers": (np.array([7, 8]), half),
        "floats": ([7.0, 8.0], half),
        "None in it": (["7", None], half),
        "NaN in it": (["7", math.nan], half),
        "bytes in it": ([b"7", b"8"], None),
        "lists in it": ([["7"], ["8"]], None),
        "dicts in it": ([{"text": "7"}, {}], None),
        "an array of ids": (np.array([[7, 8], [8, 9]]), None),
        "a tensor": (torch.tensor([7, 8]), half),
        "booleans": ([True, False], lambda v: v == 0.0),
    },
    "references": {
        "None": (None, None),
        "a text": ("79", None),
        "bytes": (b"79", None),
        "an empty list": ([], None),
        "None in it": (["7", None], None),
        "NaN in it": (["7", math.nan], None),
        "an empty text in it": (["7", ""], half),
        "bytes in it": ([b"7", b"9"], half),
        "lists of one": ([["7"], ["9"]], half),
        "an empty list in it": (["7", []], None),
        "a list with None": (["7", [None]], None),
        "dicts in it": ([{"text": "7"}, {}], None),
        "a number": (7, None),
        "numbers": ([7, 9], half),
        "a set": ({"7", "9"}, None),
        "a dict": ({"a": "7", "b": "9"}, None),
        "labels with blanks": ([" 7 ", "9\n"], half),
        "a nan as text in it": (["7", "nan"], half),
    },
    "sources": {
        "a text": ("hu", None),
        "one too few": (["human"], None),
        "a number": (1, None),
        "None in it": (["human", None], half),
        "numbers in it": ([0, 1], half),
        "lists in it": ([["human"], ["human"]], None),
        "in capitals": (["Human", "HUMAN"], lambda v: v == 0.5),
        "NaN in it": (["human", math.nan], half),
    },
    "variant": {
        "unknown": ("pix", None),
        "None": (None, None),
        "a number": (1, None),
        "empty": ("", None),
        "a list": (["lenient"], None),
        "a function": (len, None),
        "in capitals": ("LENIENT", None),
    },
    "confidence": {
        name: (value, None)
        for name, value in {
            "0": 0,
            "1": 1,
            "95": 95,
            "-0.1": -0.1,
            "NaN": math.nan,
            "a text": "0.95",
            "None": None,
            "True": True,
            "infinity": math.inf,
        }.items()
    },
    "interval": {
        name: (value, None)
        for name, value in {
            "unknown": "wald",
            "None": None,
            "empty": "",
            "a number": 5,
            "True": True,
            "a list": ["wilson"],
        }.items()
    },
    "n_resamples": {
        name: (value, None)
        for name, value in {"0": 0, "-1": -1, "1.5": 1.5, "NaN": math.nan, "a text": "ten", "None": None}.items()
    },
    "seed": {name: (value, None) for name, value in {"-1": -1, "1.5": 1.5, "a text": "a", "NaN": math.nan}.items()},
    "year_flags": {
        "a text": ("YN", None),
        "one too few": (["YES"], None),
        "a number": (1, None),
        "an unknown word": (["perhaps", "maybe"], None),
        "numbers": ([2, 3], None),
    },
    "question_types": {"a text": ("ab", None), "one too few": (["Factoid"], None), "a number": (1, None)},
    "exact_choice": {"without types": (True, None), "a text": ("no", None)},
    "no such argument": {"references_": (["7"], None)},
}


def _arguments() -> None:
    for argument, values in ARGUMENTS.items():
        for name, (value, right) in values.items():
            changes = {argument: value}
            if argument in ("n_resamples", "seed"):
                changes["interval"] = "bootstrap"
            if argument in ("year_flags", "question_types"):
                changes["variant"] = "chartqapro"
            if argument == "no such argument":
                changes = {name: value}
            add(
                GROUP,
                f"relaxed_accuracy: {argument} {name}",
                lambda _, changes=changes: accuracy(**changes),
                argument,
                *changes,
                right=right,
            )
    add(GROUP, "relaxed_accuracy: no arguments", lambda _: relaxed_accuracy(), "predictions")
    add(GROUP, "relaxed_accuracy: arguments by place", lambda _: relaxed_accuracy(["7"], ["7"]), "positional")
    add(GROUP, "relaxed_correctness: arguments by place", lambda _: relaxed_correctness("7", "7"), "positional")
    for name, value in {
        "None": None,
        "a dict": {},
        "bytes": b"7",
        "an empty list": [],
        "a list of None": [None],
    }.items():
        add(
            GROUP,
            f"relaxed_correctness: {name} as the target",
            lambda _, value=value: relaxed_correctness(prediction="7", target=value),
            "target",
            "reference",
            right=(lambda got: got == 1.0) if value == b"7" else None,
        )
    for name, value in {"a dict": {}, "bytes": b"7", "a list": ["7"]}.items():
        add(
            GROUP,
            f"relaxed_correctness: {name} as the prediction",
            lambda _, value=value: relaxed_correctness(prediction=value, target="7"),
            "prediction",
            right=(lambda got: got == 1.0) if value == b"7" else None,
        )
    add(
        GROUP,
        "per_example_correctness: a short list of references",
        lambda _: per_example_correctness(predictions=["7"], references=[]),
        "references",
    )
    for name, value in {
        "None": None,
        "an empty dict": {},
        "a text": "x",
        "texts in it": {"relaxed_accuracy": "x"},
        "a list": [1],
    }.items():
        add(GROUP, f"format_table: {name}", lambda _, value=value: format_table(value), "metrics", "relaxed_accuracy")
    for notation, labels, answers in (
        ("decimal commas", ["12,5", "3,25", "0,5", "7,75"], ["12,6", "3,3", "0,5", "7,8"]),
        ("dots of thousands", ["1.204,50", "2.500,00"], ["1.210,50", "2.510,00"]),
    ):
        add(
            GROUP,
            f"relaxed_accuracy: labels with {notation}",
            lambda _, labels=labels, answers=answers: relaxed_accuracy(predictions=answers, references=labels)[
                "relaxed_accuracy"
            ],
            "comma",
            right=lambda got: got == 1.0,
            said=("comma",),
        )
    add(
        GROUP,
        "relaxed_accuracy: lenient does not make 126 of 12,6",
        lambda _: relaxed_accuracy(predictions=["126"], references=["12,6"], variant="lenient")["relaxed_accuracy"],
        "comma",
        right=lambda got: got == 0.0,
        said=("comma",),
    )


# ------------------------------------------------------------------------------------------------------ prediction files
ROW = {
    "index": 0,
    "chart_id": "a",
    "question": "Q?",
    "answer": "7",
    "prediction": "7",
    "correct": 1.0,
    "source": "human",
}


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def _file(folder: Path, content: str | bytes, name: str = "p.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


FILES: dict[str, tuple[str | bytes, tuple[str, ...], int | None]] = {
    "an empty file": ("", (), None),
    "empty lines": ("\n\n", (), None),
    "an empty last line": (lines(ROW) + "\n", (), 1),
    "an empty line in the middle": (lines(ROW, "", {**ROW, "index": 1}), ("line 2",), 2),
    "no line break at the end": (lines(ROW)[:-1], (), 1),
    "a cut last line": (lines(ROW, json.dumps(ROW)[:30]), ("line 2",), None),
    "lines of Windows": (lines(ROW).replace("\n", "\r\n"), (), 1),
    "a text": ("hello\n", ("line 1",), None),
    "a list in a line": (lines([1, 2]), ("line 1",), None),
    "a number in a line": (lines(ROW, 5), ("line 2",), None),
    "null in a line": (lines(ROW, None), ("line 2",), None),
    "true in a line": (lines(True), ("line 1",), None),
    "a text in a line": (lines(ROW, '"index chart_id question answer prediction correct source"'), ("line 2",), None),
    "a JSON list": (json.dumps([ROW]), ("line 1",), None),
    "a JSON list over lines": (json.dumps([ROW], indent=1), ("line 1",), None),
    "an object over lines": (json.dumps(ROW, indent=1), ("line 1",), None),
    "two objects in a line": (json.dumps(ROW) * 2, ("line 1",), None),
    "a byte order mark": ("\ufeff" + lines(ROW), ("byte order mark", "BOM", "line 1"), 1),
    "UTF-16": (lines(ROW).encode("utf-16"), (), None),
    "Latin-1": (lines(ROW).replace("Q?", "caf\u00e9?").encode("latin-1"), (), None),
    "UTF-8 cut in a letter": (
        lines({**ROW, "question": "x"}).replace("x", "\u00e9").encode()[:-100] + b"\xc3",
        (),
        None,
    ),
    "zeros": (bytes(300), (), None),
    "a packed file": (gzip.compress(lines(ROW).encode()), (), None),
    "a CSV": ("index,chart_id,question,answer,prediction,correct,source\n0,a,Q?,7,7,1.0,human\n", ("line 1",), None),
    "NUL in a text": (lines({**ROW, "question": "\0"}), (), 1),
    "a lone surrogate": (lines({**ROW, "prediction": "\ud800"}), (), 1),
    "NaN as correct": (lines({**ROW, "correct": math.nan}), ("line 1", "correct"), None),
    "brackets 100,000 deep": ("[" * 100_000, ("line 1",), None),
    "a line of 5,000 digits": ("9" * 5000 + "\n", ("line 1",), None),
    "a key twice": (lines(json.dumps(ROW)[:-1] + ', "prediction": "8"}'), ("line 1", "prediction"), None),
}
TYPES: dict[str, tuple[Any, ...]] = {
    "prediction": (None, 7, ["7"], {"a": 1}, True),
    "answer": (None, 7, ["7"], {"a": 1}),
    "correct": ("yes", None, 2.0, -1.0, [1.0]),
    "index": (None, "a", 1.5, -5, True, [0]),
    "question": (None, 7),
    "chart_id": ([1],),
    "source": (7, ["human"]),
}


def _files() -> None:
    for name, (content, names, n) in FILES.items():
        add(
            GROUP,
            f"read_predictions: {name}",
            lambda folder, content=content: read_predictions(_file(folder, content)),
            *(names or ("p.jsonl",)),
            right=None if n is None else (lambda got, n=n: len(got) == n and got[0]["prediction"] in ("7", "\ud800")),
        )
        add(
            GROUP,
            f"compare_predictions: {name}",
            lambda folder, content=content: _compared(folder, content),
            *(names or ("p.jsonl", "line 1", "index")),
            right=None if n is None else (lambda got, n=n: got["n"] == n),
        )
    for field in ROW:
        add(
            GROUP,
            f"read_predictions: a row without {field}",
            lambda folder, field=field: read_predictions(
                _file(folder, lines(ROW, {k: v for k, v in ROW.items() if k != field}))
            ),
            f"line 2 lacks {field}",
        )
    for field, values in TYPES.items():
        for value in values:
            may = (
                isinstance(value, int)
                and not isinstance(value, bool)
                and field in ("prediction", "answer", "question", "source")
            )
            add(
                GROUP,
                f"read_predictions: {value!r} as {field}",
                lambda folder, field=field, value=value: read_predictions(
                    _file(folder, lines(ROW, {**ROW, "index": 1, field: value}))
                ),
                "line 2",
                right=(lambda got: len(got) == 2)
                if may
                or (field, value) == ("answer", ["7"])
                or (field in ("chart_id", "question", "prediction", "source") and value is None)
                else None,
            )
    for name, make in {
        "a folder": str,
        "a missing file": lambda folder: folder / "no.jsonl",
        "None": lambda _: None,
        "a number": lambda _: 5,
        "an empty text": lambda _: "",
        "a list of rows": lambda _: [ROW],
        "a text of rows": lambda _: lines(ROW),
    }.items():
        add(
            GROUP,
            f"read_predictions: {name}",
            lambda folder, make=make: read_predictions(make(folder)),
            "no.jsonl",
            "path",
            "directory",
            "predictions",
            "no such file",
        )


def _compared(folder: Path, content: str | bytes) -> dict[str, Any]:
    a, b = _file(folder, content), _file(folder, content, "other.jsonl")
    return compare_predictions(a, b)


def _comparisons() -> None:
    one = {**ROW, "index": 1, "question": "R?"}
    pairs: dict[str, tuple[list[Any], list[Any], tuple[str, ...]]] = {
        "other questions": ([ROW, one], [ROW, {**one, "question": "S?"}], ("question",)),
        "other answers": ([ROW, one], [ROW, {**one, "answer": "8"}], ("answer",)),
        "fewer rows": ([ROW, one], [ROW], ("index",)),
        "more rows": ([ROW], [ROW, one], ("index",)),
        "an index twice": ([ROW, ROW], [ROW, ROW], ("index",)),
        "no rows": ([], [], ("empty", "no predictions", "no questions", "references")),
        "other indices": ([ROW], [{**ROW, "index": 5}], ("index",)),
        "texts and records": ([ROW], ["7"], ("record", "references", "predictions")),
        "None": ([None], [None], ("record", "predictions", "references", "None")),
        "rows without a prediction": ([{"index": 0, "answer": "7"}], [{"index": 0, "answer": "7"}], ("prediction",)),
        "indices as texts": ([ROW], [{**ROW, "index": "0"}], ("index",)),
    }
    for name, (a, b, names) in pairs.items():
        add(GROUP, f"compare_predictions: {name}", lambda _, a=a, b=b: compare_predictions(a, b), *names)
    for options in ({"variant": "pix"}, {"confidence": 95}, {"interval": "wald"}, {"n_resamples": 0}, {"nothing": 1}):
        (key,) = options
        add(
            GROUP,
            f"compare_predictions: {key}={options[key]!r}",
            lambda _, options=options: compare_predictions(
                [ROW, one], [ROW, one], **{"interval": "bootstrap"} | options
            ),
            key,
        )
    for side in (None, 5, "", "no.jsonl", {}):
        add(
            GROUP,
            f"compare_predictions: {side!r} as a side",
            lambda _, side=side: compare_predictions(side, [ROW]),
            "no.jsonl",
            "no such file",
            "record",
            "side",
            "a is",
            "empty",
            "path",
        )


_arguments()
_files()
_comparisons()
