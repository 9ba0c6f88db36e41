r"""Reasoning before the answer: the target of a record with a rationale, which the extraction of its name reads back.

A model that is trained on `12 + 8 = 20\nAnswer: 20` is scored by what `extract="answer_line"` finds in its texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from .entries import is_missing
from .extraction import EXTRACTORS

TEMPLATES = {
    "answer_line": "{rationale}\nAnswer: {answer}",
    "answer_is": "{rationale} The answer is {answer}.",
    "boxed": "{rationale}\n\\boxed{{answer}}",
    "answer_tag": "{rationale}\n<answer>{answer}</answer>",
    "after_think": "<think>\n{rationale}\n</think>\n{answer}",
    "program": "{rationale}",
}
"""Name of an extraction -> template of the targets that it reads. The rationale of `program` is a program."""

_FIELDS = re.compile(r"(\{rationale\}|\{answer\})")


def rationale_target(rationale: str, answer: str, *, extract: str = "answer_line", template: str | None = None) -> str:
    r"""Return the text that a model learns to write for a record with a rationale.

    Args:
        rationale: the reasoning, or for `extract="program"` a program that computes the answer.
        answer: the label.
        extract: the name of the extraction that will find the answer in what the model writes, from `TEMPLATES`.
        template: another text with `{rationale}` and `{answer}`; None uses that of the extraction.

    Raises:
        ValueError: the extraction has no template, a field is missing in `template`, or the extraction does not find
            the answer in the target.

    Example:
        >>> rationale_target("Tea: 12, milk: 8, and 12 + 8 = 20.", "20")
        'Tea: 12, milk: 8, and 12 + 8 = 20.\nAnswer: 20'
        >>> rationale_target("print(12 + 8)", "21", extract="program")
        Traceback (most recent call last):
        ...
        ValueError: extract='program' finds '20' in the target 'print(12 + 8)', and the answer is '21'
    """
    template = _template(extract, template)
    # In one pass, since a rationale may hold the text "{answer}".
    target = "".join(
        {"{rationale}": rationale.strip(), "{answer}": answer}.get(part, part) for part in _FIELDS.split(template)
    )
    found = EXTRACTORS[extract](target)
    if found is None or found.strip() != answer.strip():
        raise ValueError(
            f"extract={extract!r} finds {found!r:.60} in the target {target!r:.200}, and the answer is {answer!r:.60}"
        )
    return target


def with_rationales(
    dataset: Any, *, extract: str = "answer_line", template: str | Mapping[str, str] | None = None
) -> Any:
    """Return a training set whose answers are rationales that end in the answer.

    Use it on the training set only: evaluations compare what `extract=` finds with the plain answer. Records without a
    rationale keep their answers, which every extraction leaves as they are.

    Args:
        dataset: a `Dataset`, `IterableDataset` or a dictionary of them, with the columns `answer` and `rationale`, as
            `load_chartqa` returns them.
        extract: as in `rationale_target`. Families that reason in `<think>`, such as Qwen3-VL, learn `after_think`.
        template: as in `rationale_target`, or a dict of task -> template; records of other tasks keep their answers.

    Raises:
        ValueError: as in `rationale_target`; or there is no column `rationale`.

    Example:
        >>> from datasets import Dataset
        >>> records = Dataset.from_dict({"answer": ["20", "Peru"], "rationale": ["12 + 8 = 20.", ""]})
        >>> with_rationales(records, extract="answer_is")["answer"][:]
        ['12 + 8 = 20. The answer is 20.', 'Peru']
    """
    for one in template.values() if isinstance(template, Mapping) else [template]:
        _template(extract, one)
    if isinstance(dataset, Mapping):
        parts = {name: with_rationales(part, extract=extract, template=template) for name, part in dataset.items()}
        kind: Any = type(dataset)
        return kind(parts)
    columns = dataset.column_names or ["answer", "rationale"]  # a stream may not know its columns
    if "rationale" not in columns:
        raise ValueError("the records have no column 'rationale', which holds the reasoning: name it so")
    # Named, so that no image is decoded.
    names = [name for name in ("question", "answer", "rationale", "task") if name in columns]
    return dataset.map(partial(_reasoned, names=names, extract=extract, template=template), input_columns=names)


def _reasoned(
    *values: Any, names: list[str], extract: str, template: str | Mapping[str, str] | None
) -> dict[str, str]:
    record = dict(zip(names, values, strict=True))
    rationale, answer = record["rationale"], record["answer"]
    if isinstance(template, Mapping):
        template = template.get(record.get("task") or "qa", "")
    if any(is_missing(value) or not str(value).strip() for value in (rationale, answer)) or template == "":
        return {"answer": answer}
    try:
        return {"answer": rationale_target(str(rationale), str(answer), extract=extract, template=template)}
    except ValueError as error:
        raise ValueError(f"the record (question={record.get('question')!r:.100}): {error}") from error


def _template(extract: str, template: str | None) -> str:
    if not isinstance(extract, str) or extract not in TEMPLATES:
        raise ValueError(f"extract must be one of {', '.join(map(repr, TEMPLATES))}, and is {extract!r}")
    if template is None:
        return TEMPLATES[extract]
    fields = ("{rationale}",) if extract == "program" else ("{rationale}", "{answer}")
    missing = [field for field in fields if field not in template]
    if missing:
        raise ValueError(f"template must contain {' and '.join(missing)}, and is {template!r}")
    return template
