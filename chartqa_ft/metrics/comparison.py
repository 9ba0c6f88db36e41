"""Compare two systems by their predictions on the same questions, from lists or from predictions.jsonl files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..printable import printable_errors
from .accuracy import per_example_correctness, source_of
from .clustered import chart_numbers, clustered_comparison
from .correctness import variant_name
from .entries import chart_labels, group_labels, listed, target_texts
from .extraction import Extractor, extract_name
from .intervals import paired_comparison
from .mistakes import answer_type, question_type
from .notation import chosen_variant
from .predictions import is_blank, is_short_answer, read_predictions

_MUST_AGREE = ("question", "answer", "chart_id", "source", "year_flags", "question_type")


@printable_errors()
def compare_predictions(
    a: str | os.PathLike[str] | Iterable[object],
    b: str | os.PathLike[str] | Iterable[object],
    *,
    references: Iterable[object] | None = None,
    sources: Iterable[str | None] | None = None,
    variant: str = "pix2struct",
    confidence: float = 0.95,
    interval: str | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
    extract: str | Extractor | None = None,
    chart_ids: Iterable[object] | None = None,
    year_flags: Iterable[object] | None = None,
    question_types: Iterable[Any] | None = None,
    exact_choice: bool = False,
    by_type: bool = False,
) -> dict[str, Any]:
    """Test whether two systems differ on the same questions, and return the difference with its interval.

    Args:
        a, b: each the path of a predictions.jsonl, or a list of its records (dicts with `answer`, `prediction` and
            preferably `index`, `question`, `chart_id`, `source`), which are matched by `index` in any order (records
            whose answer is missing, or that are of another task than `qa`, are left out); or both lists of bare
            predictions in the order of `references`.
        references, sources, chart_ids, year_flags, question_types: labels, sources, charts, year flags and question
            types of bare predictions; records bring their own.
        variant: the variant of relaxed accuracy that scores both; `correct` in a file is not used.
        confidence, interval, n_resamples, seed: as in `intervals.paired_comparison`. `interval` may also be
            `"clustered"`, for questions that share charts (see `clustered.clustered_comparison`); a group whose
            questions are all on one chart gets the default interval then.
        extract: a name from `EXTRACTORS` or a callable, applied to the predictions of both. By default the answers
            that the evaluations scored are compared: `extracted`, in records that have it.
        exact_choice: as in `per_example_correctness`.
        by_type: add `by_question_type` and `by_answer_type`.

    Returns:
        The dict of `intervals.paired_comparison` (`difference` is the accuracy of b minus that of a), with `variant`,
        `confidence` and, if sources are known, `by_source`: the same dict for each of them. With `by_type`,
        `by_question_type` has it for each type of question (those that the records or `question_types` name, else
        those of `mistakes.question_type`) and `by_answer_type` for each of `mistakes.answer_type`.

    Raises:
        TypeError: a side is neither a path nor a list, or an argument is of a wrong type.
        ValueError: the questions are not the same (the message names the first difference), a record lacks an answer
            or prediction or repeats an index, references are missing or not allowed, there are no questions, or
            answers were extracted in some of the records only.

    Example:
        >>> result = compare_predictions(["1", "2", "3"], ["1", "2", "4"], references=["1", "2", "4"])
        >>> round(result["difference"], 4), result["p_value"]
        (0.3333, 1.0)
    """
    pairs = _pairs(
        a,
        b,
        references=references,
        sources=sources,
        variant=variant,
        extract=extract,
        chart_ids=chart_ids,
        year_flags=year_flags,
        question_types=question_types,
        exact_choice=exact_choice,
    )
    charts = None if pairs.chart_ids is None else chart_numbers(chart_labels(listed("chart_ids", pairs.chart_ids)))
    if charts is not None and len(charts) != len(pairs.labels):
        raise ValueError(f"there are {len(pairs.labels)} references and {len(charts)} chart_ids")
    if interval == "clustered" and charts is None:
        raise ValueError("interval='clustered' needs the chart of each question: chart_ids=, or records with chart_id")

    def compared(rows: Sequence[int]) -> dict[str, Any]:
        on = None if charts is None else [charts[i] for i in rows]
        of_a, of_b = [pairs.verdicts_a[i] for i in rows], [pairs.verdicts_b[i] for i in rows]
        if interval == "clustered" and on is not None and (len(set(on)) > 1 or len(rows) == len(pairs.labels)):
            return clustered_comparison(of_a, of_b, on, confidence=confidence)
        return paired_comparison(
            of_a,
            of_b,
            confidence=confidence,
            interval=None if interval == "clustered" else interval,
            n_resamples=n_resamples,
            seed=seed,
        )

    def grouped(names: Iterable[str | None]) -> dict[str, dict[str, Any]]:
        rows_of: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            if name is not None:
                rows_of.setdefault(name, []).append(row)
        return {name: compared(rows) for name, rows in sorted(rows_of.items())}

    result = compared(range(len(pairs.labels)))
    result |= {"variant": variant, "confidence": confidence}
    if extract is not None:
        result["extract"] = extract_name(extract)
    by_source = grouped(source_of(source) for source in pairs.sources or ())
    if by_source:
        result["by_source"] = by_source
    if by_type:
        result["by_question_type"] = grouped(_types_of_questions(pairs))
        comma = pairs.variant == "decimal_comma"
        result["by_answer_type"] = grouped(answer_type(label, decimal_comma=comma) for label in pairs.labels)
    return result


@dataclass(frozen=True)
class PairedAnswers:
    """The answers of two systems to one question, with their verdicts.

    Example:
        >>> row = {"index": 0, "question": "How many bars?", "answer": "4"}
        >>> (pair,) = paired_answers([{**row, "prediction": "3"}], [{**row, "prediction": "4"}])
        >>> pair.verdict_a, pair.verdict_b, pair.b["prediction"]
        (0.0, 1.0, '4')
    """

    a: Mapping[str, Any]
    """The record of the first system."""
    b: Mapping[str, Any]
    """The record of the second system."""
    verdict_a: float
    """The verdict on the answer of the first system, between 0 and 1."""
    verdict_b: float
    """The verdict on the answer of the second system."""


@printable_errors()
def paired_answers(
    a: str | os.PathLike[str] | Iterable[object],
    b: str | os.PathLike[str] | Iterable[object],
    *,
    variant: str = "pix2struct",
    extract: str | Extractor | None = None,
) -> list[PairedAnswers]:
    """Return the answers of two systems to the same questions, with the verdicts that `compare_predictions` compares.

    Args:
        a, b: each the path of a predictions.jsonl, or a list of its records.
        variant, extract: as in `compare_predictions`.

    Returns:
        One pair for each question that has an answer to compare with, in the order of a.

    Raises:
        TypeError: a side is neither a path nor a list of records.
        ValueError: as in `compare_predictions`.

    Example:
        >>> row = {"index": 0, "question": "How many bars?", "answer": "4"}
        >>> pairs = paired_answers([{**row, "prediction": "3"}], [{**row, "prediction": "4"}])
        >>> [pair.verdict_b - pair.verdict_a for pair in pairs]
        [1.0]
    """
    pairs = _pairs(a, b, variant=variant, extract=extract)
    if pairs.records is None:
        raise TypeError("a and b must be files or lists of records, not of bare predictions")
    return [
        PairedAnswers(*records, *verdicts)
        for records, *verdicts in zip(pairs.records, pairs.verdicts_a, pairs.verdicts_b, strict=True)
    ]


@dataclass(frozen=True)
class _Pairs:
    """What two systems answered to the same questions, one entry a question in each list."""

    variant: str
    """The variant that gave the verdicts, where it had to be detected."""
    verdicts_a: list[float]
    verdicts_b: list[float]
    labels: list[str | list[str]]
    sources: list[Any] | None
    chart_ids: Any
    question_types: list[Any] | None
    records: list[tuple[Mapping, Mapping]] | None


def _pairs(
    a: Any,
    b: Any,
    *,
    variant: str,
    extract: str | Extractor | None,
    references: Any = None,
    sources: Any = None,
    chart_ids: Any = None,
    year_flags: Any = None,
    question_types: Any = None,
    exact_choice: bool = False,
) -> _Pairs:
    """Return the verdicts on both systems and the labels of the questions, after checking that these are the same."""
    (predictions_a, a_has_records), (predictions_b, b_has_records) = _read("a", a), _read("b", b)
    records, dropped = None, 0
    if a_has_records and b_has_records:
        given = (references, sources, chart_ids, year_flags, question_types)
        if any(values is not None for values in given):
            raise ValueError(
                "records carry their own answers and sources, charts, year flags and question types; pass references "
                "only with bare predictions"
            )
        by_index_a, by_index_b = _by_index("a", predictions_a), _by_index("b", predictions_b)
        dropped = len(predictions_a) - len(by_index_a)
        text = "prediction" if extract is not None else _scored_text(by_index_a, by_index_b)
        predictions_a, predictions_b, references, sources = _aligned(by_index_a, by_index_b, text)
        chart_ids = _of_either(by_index_a, by_index_b, "chart_id")
        year_flags = _of_either(by_index_a, by_index_b, "year_flags")
        question_types = _of_either(by_index_a, by_index_b, "question_type")
        records = [(record, by_index_b[index]) for index, record in by_index_a.items()]
    elif a_has_records or b_has_records:
        raise ValueError("a and b must both be records (or files of them) or both be lists of bare predictions")
    else:
        if references is None:
            raise ValueError("bare predictions need references= to be compared")
        references = listed("references", references)
        sources = None if sources is None else group_labels("sources", listed("sources", sources))
        if len(predictions_a) != len(predictions_b):
            raise ValueError(f"a has {len(predictions_a)} predictions and b has {len(predictions_b)}")
        if sources is not None and len(sources) != len(references):
            raise ValueError(f"there are {len(references)} references and {len(sources)} sources")
    if not predictions_a:
        why = "there are no predictions to compare"
        if dropped:
            why = f"all {dropped} records of a are of other tasks than 'qa', or have no answer to compare with"
        raise ValueError(f"a and b hold no questions: {why}")
    labels = [target_texts(reference, f"references[{i}]") for i, reference in enumerate(references)]
    chosen, _ = chosen_variant(variant_name(variant), labels)
    kinds = None if question_types is None else listed("question_types", question_types)
    scoring: dict[str, Any] = {
        "references": labels,
        "variant": chosen,
        "extract": extract,
        "year_flags": None if year_flags is None else listed("year_flags", year_flags),
        "question_types": kinds,
        "exact_choice": exact_choice,
    }
    return _Pairs(
        variant=chosen,
        verdicts_a=per_example_correctness(predictions=predictions_a, **scoring),
        verdicts_b=per_example_correctness(predictions=predictions_b, **scoring),
        labels=labels,
        sources=sources,
        chart_ids=chart_ids,
        question_types=kinds,
        records=records,
    )


def _types_of_questions(pairs: _Pairs) -> list[str | None]:
    """Return the type of each question: that of the data set if any is known, else the one that its words suggest."""
    if pairs.question_types is not None:
        return [None if kind is None else str(kind) for kind in group_labels("question_types", pairs.question_types)]
    if pairs.records is None:
        return []
    return [question_type(record.get("question", "")) for record, _ in pairs.records]


def _scored_text(a: dict[object, Mapping], b: dict[object, Mapping]) -> str:
    """Return the key of the answers that the evaluations scored: `extracted` if all records have it."""
    in_a, in_b = (sum("extracted" in record for record in side.values()) for side in (a, b))
    if (in_a, in_b) == (len(a), len(b)) and a:
        return "extracted"
    if in_a or in_b:
        raise ValueError(
            f"answers were extracted in {in_a} of {len(a)} records of a and {in_b} of {len(b)} of b, so their scores "
            "cannot be compared: pass extract=, to extract the answers of both"
        )
    return "prediction"


def _of_either(a: dict[object, Mapping], b: dict[object, Mapping], key: str) -> list[object] | None:
    """Return the value of each question in the records of a, or else of b; None if no record has one.

    Files of earlier releases have neither year flags nor question types.
    """
    values = [record.get(key) if record.get(key) is not None else b[index].get(key) for index, record in a.items()]
    return values if any(value is not None for value in values) else None


def _read(name: str, side: str | os.PathLike[str] | Iterable[object]) -> tuple[list, bool]:
    """Return the items of a side, and whether they are records."""
    if isinstance(side, (str, os.PathLike)):
        return read_predictions(side), True
    if side is None or isinstance(side, (Mapping, bytes)) or not isinstance(side, Iterable):
        raise TypeError(
            f"{name} is {side!r:.60}: pass the path of a predictions.jsonl, a list of its records or a list of answers"
        )
    items = listed(name, side)
    records = sum(isinstance(item, Mapping) for item in items)
    if 0 < records < len(items):
        raise ValueError(f"{name} mixes records and bare predictions: {records} of {len(items)} items are records")
    return items, bool(records)


def _by_index(name: str, records: list[Mapping]) -> dict[object, Mapping]:
    """Return records by their `index`, or by their position if they have none, without those that have no answer."""
    by_index: dict[object, Mapping] = {}
    for position, record in enumerate(records):
        index = record.get("index", position)
        try:
            hash(index)
        except TypeError:
            raise TypeError(f"{name}: the index of record {position} is {index!r}, and must be a number") from None
        if index in by_index:
            raise ValueError(f"{name}: index {index!r} occurs twice, again in record {position}")
        for key in ("answer", "prediction"):
            if key not in record:
                raise ValueError(f"{name}: the record of index {index!r} has no {key!r}")
        if not is_blank(record["answer"]) and is_short_answer(record):
            by_index[index] = record
    return by_index


def _aligned(a: dict[object, Mapping], b: dict[object, Mapping], text: str) -> tuple[list, list, list, list]:
    """Return the predictions of a, the predictions of b (key `text`), answers and sources, in the order of a."""
    for one, other, names in ((a, b, "a and not in b"), (b, a, "b and not in a")):
        missing = next((index for index in one if index not in other), None)
        if missing is not None:
            asked = one[missing].get("question", "")
            raise ValueError(f"not the same questions: index {missing!r} ({asked!r}) is in {names}")
    for index, record in a.items():
        for key in _MUST_AGREE:
            if key in record and key in b[index] and record[key] != b[index][key]:
                there, here = record[key], b[index][key]
                raise ValueError(
                    f"not the same questions: at index {index!r} {key} is {there!r} in a and {here!r} in b"
                )
    return (
        [record[text] for record in a.values()],
        [b[index][text] for index in a],
        [record["answer"] for record in a.values()],
        [record.get("source") for record in a.values()],
    )
