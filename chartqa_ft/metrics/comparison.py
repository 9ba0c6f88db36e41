"""Compare two systems by their predictions on the same questions, from lists or from predictions.jsonl files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from .accuracy import per_example_correctness
from .intervals import paired_comparison
from .predictions import read_predictions

_MUST_AGREE = ("question", "answer", "chart_id", "source")


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
) -> dict[str, Any]:
    """Test whether two systems differ on the same questions, and return the difference with its interval.

    Args:
        a, b: each the path of a predictions.jsonl, or a list of its records (dicts with `answer`, `prediction` and
            preferably `index`, `question`, `chart_id`, `source`), which are matched by `index` in any order; or both
            lists of bare predictions in the order of `references`.
        references, sources: the labels and sources of bare predictions; records bring their own.
        variant: the variant of relaxed accuracy that scores both; `correct` in a file is not used.
        confidence, interval, n_resamples, seed: as in `intervals.paired_comparison`.

    Returns:
        The dict of `intervals.paired_comparison` (`difference` is the accuracy of b minus that of a), with `variant`,
        `confidence` and, if sources are known, `by_source`: the same dict for each of them.

    Raises:
        ValueError: the questions are not the same (the message names the first difference), a record lacks an answer
            or prediction or repeats an index, references are missing or not allowed, or there are no questions.

    Example:
        >>> result = compare_predictions(["1", "2", "3"], ["1", "2", "4"], references=["1", "2", "4"])
        >>> round(result["difference"], 4), result["p_value"]
        (0.3333, 1.0)
    """
    (predictions_a, a_has_records), (predictions_b, b_has_records) = _read(a), _read(b)
    if a_has_records and b_has_records:
        if references is not None or sources is not None:
            raise ValueError("records carry their own answers and sources; pass references only with bare predictions")
        predictions_a, predictions_b, references, sources = _aligned(
            _by_index("a", predictions_a), _by_index("b", predictions_b)
        )
    elif a_has_records or b_has_records:
        raise ValueError("a and b must both be records (or files of them) or both be lists of bare predictions")
    else:
        if references is None:
            raise ValueError("bare predictions need references= to be compared")
        references = list(references)
        sources = None if sources is None else list(sources)
        if len(predictions_a) != len(predictions_b):
            raise ValueError(f"a has {len(predictions_a)} predictions and b has {len(predictions_b)}")
        if sources is not None and len(sources) != len(references):
            raise ValueError(f"there are {len(references)} references and {len(sources)} sources")
    verdicts_a = per_example_correctness(predictions=predictions_a, references=references, variant=variant)
    verdicts_b = per_example_correctness(predictions=predictions_b, references=references, variant=variant)
    options: dict[str, Any] = {
        "confidence": confidence,
        "interval": interval,
        "n_resamples": n_resamples,
        "seed": seed,
    }
    result: dict[str, Any] = paired_comparison(verdicts_a, verdicts_b, **options)
    result |= {"variant": variant, "confidence": confidence}
    named = sorted({source for source in sources or () if source not in (None, "", "unknown")})
    if named:
        rows = {name: [i for i, source in enumerate(sources or ()) if source == name] for name in named}
        result["by_source"] = {
            name: paired_comparison([verdicts_a[i] for i in at], [verdicts_b[i] for i in at], **options)
            for name, at in rows.items()
        }
    return result


def _read(side: str | os.PathLike[str] | Iterable[object]) -> tuple[list, bool]:
    """Return the items of a side, and whether they are records."""
    if isinstance(side, (str, os.PathLike)):
        return read_predictions(side), True
    items = list(side)
    return items, bool(items) and all(isinstance(item, Mapping) for item in items)


def _by_index(name: str, records: list[Mapping]) -> dict[object, Mapping]:
    """Return records by their `index`, or by their position if they have none."""
    by_index: dict[object, Mapping] = {}
    for position, record in enumerate(records):
        index = record.get("index", position)
        if index in by_index:
            raise ValueError(f"{name}: index {index!r} occurs twice, again in record {position}")
        for key in ("answer", "prediction"):
            if key not in record:
                raise ValueError(f"{name}: the record of index {index!r} has no {key!r}")
        by_index[index] = record
    return by_index


def _aligned(a: dict[object, Mapping], b: dict[object, Mapping]) -> tuple[list, list, list, list]:
    """Return the predictions of a, the predictions of b, the answers and the sources, in the order of a."""
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
        [record["prediction"] for record in a.values()],
        [b[index]["prediction"] for index in a],
        [record["answer"] for record in a.values()],
        [record.get("source") for record in a.values()],
    )
