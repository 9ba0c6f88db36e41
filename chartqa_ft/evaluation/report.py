"""`metrics.json`, the scores of a model beside its weights, and the `predictions.jsonl` that belongs to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from ..files import read_json, write_json
from ..hub.public import as_json, public_values
from ..metrics.predictions import FIELDS, read_predictions
from ..metrics.task_table import task_rows
from .results import EvaluationResult

logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.json"
PREDICTIONS_NAME = "predictions.jsonl"


def write_report(output_dir: str | Path, script: Any, numbers: Mapping[str, Any], answers: str | None) -> None:
    """Write the `metrics.json` of a script and move the answers of its final evaluation to `predictions.jsonl`.

    Args:
        output_dir: the folder that holds `predictions/` and gets both files. Earlier ones are replaced if they are of
            the same arguments, and kept under other names if not; see `keep_results`.
        script: the arguments of the script, a dataclass. Absolute paths are shortened before they are written.
        numbers: the metrics and whatever else the report should hold. NaN and infinity become `null`.
        answers: name of the file in `predictions/` to move; `None` if no answers were written.

    Example:
        >>> import dataclasses, tempfile
        >>> Arguments = dataclasses.make_dataclass("Arguments", ["dataset_name"])
        >>> folder = tempfile.mkdtemp()
        >>> write_report(folder, Arguments("/data/ChartQA"), {"eval_n": 2.0}, None)
        >>> read_json(f"{folder}/metrics.json")
        {'arguments': {'dataset_name': 'ChartQA'}, 'eval_n': 2.0}
    """
    output = Path(output_dir)
    keep_results(output, script)
    if answers:
        (output / "predictions" / answers).replace(output / PREDICTIONS_NAME)
        if not any((output / "predictions").iterdir()):
            (output / "predictions").rmdir()
    write_json(output / METRICS_NAME, as_json({"arguments": _arguments(script), **numbers}))


def keep_results(output_dir: str | Path, script: Any) -> None:
    """Rename the results of other arguments, so that they are not replaced: `metrics-1.json`, `predictions-1.jsonl`.

    Args:
        output_dir: the folder of the results.
        script: the arguments of the script that is about to write there, a dataclass.

    Example:
        >>> import dataclasses, tempfile
        >>> Arguments = dataclasses.make_dataclass("Arguments", ["dataset_name"])
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("ChartQA", "ChartQA", "own.csv"):
        ...     write_report(folder, Arguments(name), {}, None)
        >>> sorted(path.name for path in folder.iterdir())
        ['metrics-1.json', 'metrics.json']
    """
    output = Path(output_dir)
    if not (output / METRICS_NAME).is_file() or _recorded(output / METRICS_NAME) == as_json(_arguments(script)):
        return
    files = [path for name in (METRICS_NAME, PREDICTIONS_NAME) if (path := output / name).is_file()]
    for number in count(1):
        kept = [path.with_stem(f"{path.stem}-{number}") for path in files]
        if not any(path.exists() for path in kept):
            break
    for path, new in zip(files, kept, strict=True):
        path.rename(new)
    logger.info(
        "%s has results of other arguments, which are kept as %s", output, " and ".join(path.name for path in kept)
    )


def _arguments(script: Any) -> dict[str, Any]:
    return public_values(asdict(script))


def _recorded(report: Path) -> Any:
    try:
        return read_json(report).get("arguments")
    except ValueError:  # a damaged file may be of any arguments
        return None


def write_metrics(folder: str | Path, result: EvaluationResult, *, report: str | Path | None = None) -> Path:
    """Write the scores of an evaluation as the `metrics.json` of a folder.

    Args:
        folder: where to write it.
        result: the evaluation of the weights in the folder. Its prefix becomes `eval_`.
        report: a `metrics.json` that may exist already. If it holds the same accuracies, it is the report of a script
            on the same evaluation, which says more, and its content is written.

    Returns:
        The path of the file.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> metrics = {"test_relaxed_accuracy": 0.5, "test_n": 2.0}
        >>> result = EvaluationResult(step=10, prefix="test_", metrics=metrics, decoding={"num_beams": 4})
        >>> read_json(write_metrics(folder, result))
        {'eval_relaxed_accuracy': 0.5, 'eval_n': 2.0, 'step': 10, 'decoding': {'num_beams': 4}}
    """
    numbers = {key.replace(result.prefix, "eval_", 1): value for key, value in as_json(result.metrics).items()}
    content = None if report is None else _same_evaluation(Path(report), numbers)
    if content is None:
        content = {**numbers, "step": result.step, "decoding": as_json(result.decoding)}
        if result.part is not None:
            content["eval_dataset"] = result.part
        if result.extract is not None:
            content["extract"] = result.extract
        if result.interval != "wilson":
            content["interval"] = result.interval
        if result.signatures:
            content["signatures"] = dict(result.signatures)
    return write_json(Path(folder) / METRICS_NAME, content)


def _same_evaluation(report: Path, numbers: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of a report if its accuracies are those of `numbers`."""
    if not report.is_file():
        return None
    try:
        found = read_json(report)
    except ValueError:  # a damaged file is not the report of any evaluation
        return None
    keys = [key for key in numbers if "relaxed_accuracy" in key]
    keys = keys or [f"eval_{row.task}_{row.metric}" for row in task_rows(numbers, prefix="eval_")]
    return found if keys and all(found.get(key) == numbers[key] for key in keys) else None


def find_predictions(result: EvaluationResult | None, output_dir: str | Path) -> Path:
    """Return the file with the answers of an evaluation, also after `write_report` has moved it.

    Args:
        result: the evaluation; `None` if there was none.
        output_dir: the folder in which `write_report` puts `predictions.jsonl`.

    Raises:
        ValueError: there is no file with these answers.
    """
    written = None if result is None else result.predictions
    if written is not None and written.is_file():
        return written
    moved = Path(output_dir) / PREDICTIONS_NAME
    if result is not None and written is not None and moved.is_file():
        both = (read_predictions(moved)[: len(result.rows)], result.rows)
        found, expected = (as_json([{key: row.get(key) for key in FIELDS} for row in rows]) for rows in both)
        if found == expected:
            return moved
    raise ValueError(
        "there are no predictions of these weights to push: evaluate them with write_predictions=True first, or push "
        "without predictions"
    )
