"""Bad records: answers and questions of other types, white space, control tokens, missing columns."""

# ruff: noqa: E501

from __future__ import annotations

import datetime
import decimal
import fractions
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch

from chartqa_ft import ChartQACollator, adapter_for, answer_questions, load_chartqa, relaxed_correctness
from tests.support.families import build

from .case import (
    QUESTION,
    adapter,
    add,
    charts,
    model_and_adapter,
    new_trainer,
    no_rows,
    picture,
    record,
    scored,
    taught,
    train,
)

GROUP = "records"
REFUSE = None
NOT_STORED = (
    "a set",
    "a bytearray",
    "a tensor",
    "a missing value of pandas",
    "a missing time of pandas",
    "a complex number",
    "a function",
    "a type",
    "a class of its own",
    "a huge int",
    "an int that Python does not print",
    "a negative int that Python does not print",
    "a fraction",
    "a fraction that Python does not print",
    "a list of a missing value of pandas",
    "a list of infinity",
    "NaN of Decimal",
    "signaling NaN of Decimal",
    "infinity of Decimal",
    "a missing time of numpy",
    "a time of numpy",
    "a frozenset of two",
    "a memory view",
    "an exception",
    "a path",
)
"""Answers that no `datasets.Dataset` can hold."""


# ------------------------------------------------------------------------------------------------------------- answers
ANSWERS: dict[str, tuple[Any, tuple[str, ...] | None]] = {
    "None": (None, REFUSE),
    "NaN": (math.nan, REFUSE),
    "infinity": (math.inf, REFUSE),
    "minus infinity": (-math.inf, REFUSE),
    "infinity of numpy in 32 bits": (np.float32("inf"), REFUSE),
    "infinity of Decimal": (decimal.Decimal("Infinity"), REFUSE),
    "NaN of Decimal": (decimal.Decimal("NaN"), REFUSE),
    "signaling NaN of Decimal": (decimal.Decimal("sNaN"), REFUSE),
    "NaN of numpy in 16 bits": (np.float16("nan"), REFUSE),
    "a missing time of numpy": (np.datetime64("NaT"), REFUSE),
    "a time of numpy": (np.datetime64("2020-05-01", "ns"), ("2020-05-01T00:00:00.000000000",)),
    "a list of a missing value of pandas": ([pd.NA], REFUSE),
    "a list of infinity": ([math.inf], REFUSE),
    "an empty text": ("", REFUSE),
    "blanks": ("  \t ", REFUSE),
    "a no-break space": ("\u00a0", REFUSE),
    "a list of one text": (["7"], ("7",)),
    "a tuple of one text": (("7",), ("7",)),
    "a list of one number": ([7], ("7",)),
    "a list of two texts": (["7", "8"], REFUSE),
    "an empty list": ([], REFUSE),
    "a list with None": ([None], REFUSE),
    "a list in a list": ([["7"]], ("7",)),
    "a set": ({"7"}, ("7",)),
    "a dict": ({"text": "7"}, REFUSE),
    "an empty dict": ({}, REFUSE),
    "bytes": (b"7", ("7",)),
    "a bytearray": (bytearray(b"7"), ("7",)),
    "True": (True, ("Yes", "True")),
    "False": (False, ("No", "False")),
    "an int": (7, ("7",)),
    "zero": (0, ("0",)),
    "a float": (7.5, ("7.5",)),
    "a whole float": (7.0, ("7", "7.0")),
    "a tiny float": (1e-05, ("0.00001", "1e-05")),
    "minus zero": (-0.0, ("0", "-0.0")),
    "a numpy integer": (np.int64(7), ("7",)),
    "a numpy float of 32 bits": (np.float32(0.1), ("0.1",)),
    "a numpy array of one": (np.array(["7"]), ("7",)),
    "a numpy array of two": (np.array([7, 8]), REFUSE),
    "a tensor": (torch.tensor(7), ("7",)),
    "a Decimal": (decimal.Decimal("7.50"), ("7.5", "7.50")),
    "a date": (datetime.date(2020, 5, 1), ("2020-05-01",)),
    "a missing value of pandas": (pd.NA, REFUSE),
    "a missing time of pandas": (pd.NaT, REFUSE),
    "a timestamp of pandas": (
        pd.Timestamp("2020-05-01"),
        ("2020-05-01", "2020-05-01 00:00:00", "2020-05-01T00:00:00"),
    ),
    "a complex number": (7 + 0j, REFUSE),
    "a function": (len, REFUSE),
    "a type": (str, REFUSE),
    "a class of its own": (object(), REFUSE),
    "a huge int": (10**30, (str(10**30),)),
    "an int that Python does not print": (10**5000, REFUSE),
    "a negative int that Python does not print": (-(10**5000), REFUSE),
    "a fraction that Python does not print": (fractions.Fraction(10**5000, 3), REFUSE),
    "a fraction": (fractions.Fraction(1, 2), ("1/2",)),
    "a frozenset of two": (frozenset(("7", "8")), REFUSE),
    "a memory view": (memoryview(b"7"), REFUSE),
    "an exception": (ValueError("7"), REFUSE),
    "a path": (Path("charts/7"), REFUSE),
}


def as_given(records: list[dict[str, Any]]) -> Any:
    return records


def as_loaded(records: list[dict[str, Any]]) -> Any:
    """Loaded by load_chartqa from a data set of the user's own."""
    return load_chartqa(datasets.Dataset.from_list(records))


def _answers() -> None:
    for name, (value, wanted) in ANSWERS.items():
        rows = [record(answer=value, question=QUESTION)]
        right = wanted and (lambda got, wanted=wanted: got[0][0] in wanted and got[1] == [1.0])
        add(GROUP, f"collator: {name} as an answer", lambda _, rows=rows: scored_batch(rows), "answer", right=right)
        if name not in NOT_STORED:
            add(
                GROUP,
                f"load_chartqa: {name} as an answer",
                lambda _, rows=rows: scored(as_loaded(rows)),
                "answer",
                right=right,
            )
        if name in ("None", "a list of one text", "a list of two texts", "bytes", "a dict", "NaN", "blanks", "True"):
            add(
                GROUP,
                f"trainer: {name} as an answer",
                lambda folder, rows=rows: taught_by_trainer(folder, rows),
                "answer",
                right=wanted and (lambda got, wanted=wanted: got in wanted),
            )


def scored_batch(rows: list[dict[str, Any]]) -> tuple[list[str], list[float]]:
    """Answers taught by the collator's batch and the score of a model that gives them."""
    batch = ChartQACollator(adapter(), keep_rows=True)(rows)  # `rows` holds what an evaluation scores
    answers = adapter().decode(batch["labels"])
    pairs = zip(answers, batch["rows"], strict=True)
    return answers, [relaxed_correctness(prediction=answer, target=row["answer"]) for answer, row in pairs]


def taught_by_trainer(folder: Path, rows: list[dict[str, Any]]) -> str:
    """What one row teaches, in a trainer that takes a step on it and evaluates it."""
    trainer = new_trainer(folder, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    trainer.evaluate()
    return trainer.adapter.decode(next(iter(trainer.get_train_dataloader()))["labels"])[0]


# ------------------------------------------------------------------------------------------------------------ questions
QUESTIONS: dict[str, tuple[Any, bool]] = {
    "None": (None, False),
    "NaN": (math.nan, False),
    "an empty text": ("", False),
    "blanks": (" \n ", False),
    "an empty list": ([], False),
    "a list of two": (["How?", "Why?"], False),
    "a list of one": ([QUESTION], True),
    "bytes": (QUESTION.encode(), True),
    "a dict": ({"role": "user", "content": QUESTION}, False),
    "a chat": ([{"role": "user", "content": QUESTION}], False),
    "an array": (np.array([QUESTION]), True),
}
TEXTS: dict[str, str] = {
    "a text with NUL": "How many\0 cups?",
    "a lone surrogate": "How many \ud83d cups?",
    "half of a pair behind the other": "\udc00\ud800",
    "braces": "{question} {} {0} {answer}",
    "percent signs": "%s %(question)s %d",
    "a backslash": "C:\\new\\table\\x00",
    "line breaks": "How\r\nmany\ncups\u2028?",
    "3,000 words": "cups " * 3000,
    "one word of 20,000 letters": "c" * 20000,
    "characters of no alphabet": "\u200b\ufeff\u202e",
    "letters made of two characters": "cafe\u0301",
    "Arabic digits": "\u0661\u0662\u0663",
    "an emoji": "\U0001f600 many?",
    "markup": "<b>How</b> many &amp; <!-- x -->?",
    "a Jinja template": "{% raw %}{{ messages }}{% endraw %}",
    "a control character": "How\x07 many\x1b[31m?",
}


def _same_as_plain(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[int]]]:
    batch = ChartQACollator(adapter())(rows)
    return adapter().decode(batch["labels"]), batch["decoder_input_ids"].tolist()


def _questions() -> None:
    plain = _same_as_plain([record()])
    for name, (value, may) in QUESTIONS.items():
        rows = [record(question=value)]
        right = (lambda got, plain=plain: got == plain) if may else None
        blank = (lambda got: got[0] == ["7"]) if name in ("an empty text", "blanks") else right
        add(
            GROUP,
            f"collator: {name} as a question",
            lambda _, rows=rows: _same_as_plain(rows),
            "question",
            right=blank,
        )
        add(
            GROUP,
            f"load_chartqa: {name} as a question",
            lambda _, rows=rows: _same_as_plain(list(as_loaded(rows))),
            "question",
            "ambiguous record",
            right=right,
        )
        add(
            GROUP,
            f"answer_questions: {name} as a question",
            lambda _, value=value: answer_questions(model_and_adapter()[0], adapter().processor, [picture()], [value]),
            "question",
            right=(lambda got: len(got) == 1) if blank is not right else None,
        )
    for name, text in TEXTS.items():
        rows = [record(question=text)]
        add(
            GROUP,
            f"collator: {name} in a question",
            lambda _, rows=rows: taught(rows),
            "question",
            right=lambda got: got == ["7"],
        )
        add(
            GROUP,
            f"answer_questions: {name} in a question",
            lambda _, text=text: answer_questions(
                model_and_adapter()[0], adapter().processor, [picture()], [text], max_new_tokens=2
            ),
            "question",
            right=lambda got: len(got) == 1 and isinstance(got[0], str),
        )


# ---------------------------------------------------------------------------------------------- white space and letters
def _white_space() -> None:
    for name, text in {
        "a space before": " Yes",
        "a space behind": "Yes ",
        "a tab before": "\tYes",
        "a line break behind": "Yes\n",
        "carriage return behind": "Yes\r\n",
        "a no-break space behind": "Yes\u00a0",
        "an ideographic space before": "\u3000Yes",
        "a byte order mark before": "\ufeffYes",
        "a zero-width space behind": "Yes\u200b",
    }.items():
        rows = [record(answer=text)]
        right = lambda got: got[1] == [1.0]  # noqa: E731
        add(GROUP, f"collator: an answer with {name}", lambda _, rows=rows: scored_batch(rows), "answer", right=right)
        loaded = lambda _, rows=rows: scored(as_loaded(rows))  # noqa: E731
        add(GROUP, f"load_chartqa: an answer with {name}", loaded, "answer", right=right)
    for name, text in {
        "two blanks inside": "New  York",
        "a line break inside": "New\nYork",
        "a tab inside": "New\tYork",
        "an accent": "caf\u00e9",
        "an accent of two characters": "cafe\u0301",
        "an emoji": "\U0001f600",
        "Chinese letters": "\u65e5\u672c",
        "a euro sign": "5 \u20ac",
        "a minus sign": "\u22125",
        "a lone surrogate": "7\ud83d",
        "NUL": "7\0",
        "a full-width digit": "\uff17",
        "quotes": '"7"',
        "a list of texts as text": "['7']",
        "a very long word": "c" * 3000,
    }.items():
        rows = [record(answer=text)]
        add(
            GROUP,
            f"collator: an answer with {name}",
            lambda _, rows=rows: scored_batch(rows),
            "answer",
            right=lambda got: got[1] == [1.0] and got[0][0] != "",
            said=("answer",),
        )


# ------------------------------------------------------------------------------------------------------- control tokens
@cache
def _family(name: str) -> tuple[Any, Any]:
    model, processor = build(name)
    return model, adapter_for(model, processor)


MARKERS = {
    "unichart": ("<s>", "</s>", "<pad>", "<unk>", "<chartqa>", "<s_answer>"),
    "llava": ("<image>", "<s>", "</s>", "<pad>", "USER:", "ASSISTANT:"),
    "qwen2_5_vl": (
        "<|image_pad|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|im_end|>",
        "<|im_start|>",
        "<|endoftext|>",
    ),
    "florence2": ("<s>", "</s>", "<pad>", "<image>", "<loc_1>", "<loc_999>", "<OCR>", "<REGION_TO_OCR>", "<DocVQA>"),
    "pix2struct": ("</s>", "<pad>", "<unk>"),
    "paligemma": ("<image>", "<bos>", "<eos>", "<pad>", "<loc0001>", "<seg001>", "<loc9999>"),
    "kosmos2": (
        "<image>",
        "</image>",
        "<grounding>",
        "<phrase>",
        "</phrase>",
        "<object>",
        "<patch_index_0001>",
        "<patch_index_9999>",
        "</delimiter_of_multi_objects/>",
        "</s>",
    ),
    "idefics3": ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", "<row_1_col_1>"),
    "internvl": ("<IMG_CONTEXT>", "<img>", "</img>", "<|im_end|>"),
    "gemma3": ("<start_of_image>", "<end_of_image>", "<image_soft_token>", "<end_of_turn>", "<eos>"),
}

PLAIN = ("USER:", "ASSISTANT:", "<DocVQA>")
"""Words of a prompt that are plain text to the tokenizer."""


def _marked(family: str, **changes: Any) -> tuple[list[str], list[float]]:
    model, own = _family(family)
    with torch.no_grad():
        row = record(**changes)
        batch = ChartQACollator(own)([row])
        model(**own.model_inputs(batch))
        answers = own.decode(batch["labels"])
        return answers, [relaxed_correctness(prediction=answers[0], target=row["answer"])]


def _markers() -> None:
    for family, markers in MARKERS.items():
        for marker in markers:
            add(
                GROUP,
                f"{family}: {marker} in an answer",
                lambda _, family=family, marker=marker: _marked(family, answer=f"5 {marker} 8"),
                marker,
                right=lambda got: got[1] == [1.0] and len(got[0][0]) > 4,
            )
            add(
                GROUP,
                f"{family}: {marker} in a question",
                lambda _, family=family, marker=marker: _marked(family, question=f"How {marker} many?"),
                marker,
                right=(lambda got: got == (["7"], [1.0])) if marker in PLAIN else None,
            )
    for family in ("florence2", "paligemma", "kosmos2", "qwen2_5_vl", "pix2struct", "idefics3", "unichart"):
        for text in ("<5", "a <b> c", "x<loc", "<loc_>", "<seg 1>", "1 < 2 > 0", "<|5|", "<patch>"):
            add(
                GROUP,
                f"{family}: {text} in an answer is text",
                lambda _, family=family, text=text: _marked(family, answer=text, question=f"What is {text}?"),
                right=lambda got, text=text: got == ([text], [1.0]),
            )
    for text in ("<s_chart>", "<answer>7</answer>", "[INST]", "a <b> c", "<", "7</s", "<|", "</s_answer>"):
        add(
            GROUP,
            f"unichart: {text} in an answer",
            lambda _, text=text: _marked("unichart", answer=text),
            text,
            right=lambda got: got[1] == [1.0],
        )


# -------------------------------------------------------------------------------------------------- columns and data sets
def _without(*names: str, rows: Any = None) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in names} for row in (rows or charts())]


class _Torch(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        return charts()[index]


def first_loss(folder: Path, rows: Any, **changes: Any) -> float:
    options = {"train_sampling_strategy": "sequential", "eval_dataset": None, **changes}
    history = train(folder, train_dataset=rows, **options).state.log_history
    return next((entry["loss"] for entry in history if "loss" in entry), math.nan)


@cache
def usual_loss() -> float:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return first_loss(Path(folder), charts())


def _is_usual(value: float) -> bool:
    return bool(np.isclose(value, usual_loss(), rtol=1e-5))


def _data_sets() -> None:
    def add_data(name: str, build_rows: Callable[[], Any], *names: str, may: bool = True, **changes: Any) -> None:
        add(
            GROUP,
            f"trainer: {name}",
            lambda folder: first_loss(folder, build_rows(), **changes),
            *names,
            right=_is_usual if may else None,
        )

    for column in ("image", "question", "answer"):
        add_data(f"records without {column}", lambda c=column: _without(c), column, may=False)
        add_data(f"a data set without {column}", lambda c=column: charts().remove_columns(c), column, may=False)
        mixed = lambda c=column: [*list(charts())[:3], *_without(c)[3:]]  # noqa: E731
        add_data(f"a last record without {column}", mixed, column, may=False)
    for column in ("source", "chart_id"):
        add_data(f"records without {column}", lambda c=column: _without(c), column)
        add_data(f"a data set without {column}", lambda c=column: charts().remove_columns(c), column)
    add_data("a further column", lambda: charts().add_column("note", ["x"] * 4))
    add_data("a column called labels", lambda: charts().add_column("labels", [[1, 2]] * 4), "labels")
    add_data("a column called input_ids", lambda: charts().add_column("input_ids", [[1, 2]] * 4), "input_ids")
    add_data(
        "columns of the official files",
        lambda: charts().rename_columns({"question": "query", "answer": "label"}),
        "question",
        "column",
        may=False,
    )
    add_data(
        "columns in capitals",
        lambda: charts().rename_columns({"question": "Question", "answer": "Answer"}),
        "question",
        may=False,
    )
    add_data("an image column called images", lambda: charts().rename_column("image", "images"), "image", may=False)
    for form in ("numpy", "torch", "pandas", "arrow", "polars"):
        add_data(
            f"the format {form} left on", lambda form=form: charts().with_format(form), "format", "tensor", "polars"
        )
        add_data(
            f"the format {form} left on, without groups",
            lambda form=form: charts().with_format(form),
            "format",
            "tensor",
            "polars",
            group_by_chart=False,
        )
    add_data(
        "a format of some columns",
        lambda: charts().with_format(None, columns=["question", "answer"]),
        "image",
        "columns",
    )
    add_data(
        "a transform that drops the image",
        lambda: charts().with_transform(lambda b: {"question": b["question"], "answer": b["answer"]}),
        "image",
        may=False,
    )
    add_data(
        "a transform that returns nothing",
        lambda: charts().with_transform(lambda b: {}),
        "image",
        "question",
        may=False,
    )
    add_data("a transform that keeps all", lambda: charts().with_transform(lambda b: b))
    add_data("a tuple of records", lambda: tuple(charts()), "train_dataset", "list")
    add_data("a generator of records", lambda: (row for row in charts()), "train_dataset")
    add_data("an iterator over a data set", lambda: iter(charts()), "train_dataset")
    add_data("a data frame", lambda: pd.DataFrame(_without()), "train_dataset", "DataFrame")
    add_data("one record", lambda: charts()[0], "train_dataset", may=False)
    add_data("a dict of columns", lambda: charts()[:], "train_dataset", may=False)
    add_data(
        "a DatasetDict", lambda: datasets.DatasetDict({"train": charts()}), "train_dataset", "DatasetDict", may=False
    )
    add_data("a path", lambda: "charts.json", "train_dataset", "load_chartqa", may=False)
    add_data("a Path", lambda: Path("charts.json"), "train_dataset", "load_chartqa", may=False)
    add_data("an empty list", list, "train_dataset", may=False)
    add_data("an empty data set", lambda: charts().select([]), "train_dataset", may=False)
    add_data("a list of texts", lambda: ["a", "b"], "train_dataset", "record", may=False)
    add_data("a list with None", lambda: [*charts(), None], "train_dataset", "record", may=False)
    add_data("a number", lambda: 5, "train_dataset", may=False)
    add_data("the class of data sets", lambda: datasets.Dataset, "train_dataset", may=False)
    add_data("a data set of torch", _Torch)
    add_data(
        "a data loader", lambda: torch.utils.data.DataLoader(_Torch(), batch_size=None), "train_dataset", "DataLoader"
    )
    add_data("a stream", lambda: charts().to_iterable_dataset())
    add_data(
        # to_iterable_dataset refuses an empty data set itself.
        "an empty stream",
        lambda: datasets.IterableDataset.from_generator(no_rows),
        "train_dataset",
        may=False,
    )
    for name, build_rows in {
        "a path": lambda: "charts.json",
        "one record": lambda: charts()[0],
        "an empty list": list,
        "an empty data set": lambda: charts().select([]),
        "an empty dict": dict,
        "a dict with None": lambda: {"val": None},
        "a dict of lists of texts": lambda: {"val": ["a"]},
        "a number": lambda: 5,
        "records without question": lambda: _without("question"),
        "records without image": lambda: _without("image"),
        "a list of texts": lambda: ["a", "b"],
        "a DatasetDict of an empty split": lambda: datasets.DatasetDict({"val": charts().select([])}),
    }.items():
        add(
            GROUP,
            f"evaluate: {name}",
            lambda folder, build_rows=build_rows: new_trainer(folder, eval_dataset=build_rows()).evaluate(),
            "eval_dataset",
            "'val'",
            "question",
            "image",
        )
        add(
            GROUP,
            f"a trainer that evaluates at its end on {name}",
            lambda folder, build_rows=build_rows: train(
                folder, eval_dataset=build_rows(), eval_strategy="steps", eval_steps=1
            ),
            "eval_dataset",
            "'val'",
            "question",
            "image",
        )
    for name, rows in {
        "no answer at all": _without("answer"),
        "None": [{**row, "answer": None} for row in charts()],
        "one None": [*list(charts())[:3], {**charts()[3], "answer": None}],
        "one empty": [*list(charts())[:3], {**charts()[3], "answer": ""}],
    }.items():
        add(
            GROUP,
            f"predict: answers that are {name}",
            lambda folder, rows=rows: new_trainer(folder).predict(rows).predictions,
            right=lambda got: len(got) == 4 and all(isinstance(each, str) for each in got),
        )
    for name, rows in {"one None": None, "one empty": ""}.items():
        data = [*list(charts())[:3], {**charts()[3], "answer": rows}]
        add(
            GROUP,
            f"evaluate: answers that are {name} count in no loss",
            lambda folder, data=data: (
                new_trainer(folder, eval_dataset=data).evaluate()["eval_loss"],
                new_trainer(folder, eval_dataset=data[:3]).evaluate()["eval_loss"],
            ),
            "answer",
            right=lambda got: bool(np.isclose(*got, rtol=1e-5)),
        )


def _identities() -> None:
    """Rows that share an id, and pictures that do not."""
    red, blue = picture(), picture(colours=("blue",) * 4)
    for name, ids in {
        "one id": ("a", "a"),
        "no id": (None, None),
        "empty ids": ("", ""),
        "ids that are NaN": (math.nan, math.nan),
        "ids that are numbers": (1, 1),
        "ids that are 1 and True": (1, True),
        "ids that are lists": (["a"], ["a"]),
        "ids that are dicts": ({}, {}),
    }.items():
        rows = [record(image=red, chart_id=ids[0]), record(image=blue, chart_id=ids[1], question="Why?")]
        add(
            GROUP,
            f"collator: two pictures with {name}",
            lambda _, rows=rows: _each_picture(rows),
            "chart_id",
            right=lambda got: torch.equal(*got),
        )
        add(
            GROUP,
            f"trainer: two pictures with {name}",
            lambda folder, rows=rows: _each_picture_of(folder, rows),
            "chart_id",
            right=lambda got: torch.equal(*got),
        )


def _by_row(batch: Any) -> torch.Tensor:
    charts_seen = batch["pixel_values"].float()
    return charts_seen[batch["chart_index"]] if "chart_index" in batch else charts_seen


def _each_picture(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    alone = [_by_row(ChartQACollator(adapter())([row])) for row in rows]
    return _by_row(ChartQACollator(adapter())(rows)), torch.cat(alone)


def _each_picture_of(folder: Path, rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    trainer = new_trainer(folder, train_dataset=rows, train_sampling_strategy="sequential", chart_cache="off")
    batch = next(iter(trainer.get_train_dataloader()))
    alone = []
    for row in rows:
        trainer.train_dataset = [row]
        alone.append(_by_row(next(iter(trainer.get_train_dataloader()))))
    return _by_row(batch), torch.cat(alone)


def _batches() -> None:
    for name, value in {
        "an empty batch": [],
        "one record": record(),
        "a list of texts": ["a"],
        "None": None,
        "a list of None": [None],
        "a dict of columns": {"image": [picture()], "question": [QUESTION], "answer": ["7"]},
        "a number": 7,
        "a list of lists": [[record()]],
    }.items():
        add(
            GROUP,
            f"collator: {name} as a batch",
            lambda _, value=value: ChartQACollator(adapter())(value),
            "record",
            "batch",
            "examples",
        )
        add(
            GROUP,
            f"adapter.encode: {name} as a batch",
            lambda _, value=value: adapter().encode(value),
            "record",
            "batch",
            "examples",
        )


_answers()
_questions()
_white_space()
_markers()
_data_sets()
_identities()
_batches()
