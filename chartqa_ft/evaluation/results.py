"""`EvaluationResult`: what an evaluation found about the weights of one step, and how checkpoints keep it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..batching.records import as_records, is_stream
from ..files import check_name_inside, file_inside, read_json, write_json
from ..hub.public import as_json

logger = logging.getLogger(__name__)

SCORES_NAME = "chartqa_scores.json"
_ADVICE = "resume from another checkpoint, or delete the file and evaluate again"
_STORED = ("step", "prefix", "metrics", "decoding", "rows", "part")
_STORED_SINCE: dict[str, Any] = {"extract": None, "interval": "wilson", "tasks": [], "signatures": {}}
"""Fields that files of earlier releases lack, with what they mean there."""
_IDENTIFYING = ("chart_id", "question", "answer")


@dataclass
class EvaluationResult:
    """What an evaluation found about the weights of one optimizer step."""

    step: int
    """The optimizer step of the weights."""
    prefix: str
    """The prefix of `metrics`, such as `"eval_"`."""
    metrics: dict[str, float]
    """The metrics as `evaluate` returned them."""
    decoding: dict[str, Any]
    """The generation settings, such as `num_beams`."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The first rows, with question, answer, prediction and verdict, to be shown on a model card."""
    predictions: Path | None = None
    """The file with all answers, if one was written."""
    records: Any = None
    """The evaluated records, used to find the charts of `rows`."""
    part: str | None = None
    """The name of `records` if the trainer has a dict of evaluation data sets."""
    extract: str | None = None
    """The name of the step that found the answers in the generated texts."""
    interval: str = "wilson"
    """How the intervals in `metrics` were computed."""
    tasks: list[str] = field(default_factory=list)
    """The tasks of the records beside `qa`."""
    signatures: dict[str, str] = field(default_factory=dict)
    """What the metrics of these tasks depend on, such as the settings and version of BLEU."""

    def chart(self, row: Mapping[str, Any]) -> Any:
        """Return the image of one of `rows`, or `None` if `records` is a stream or does not hold that row."""
        if self.records is None or is_stream(self.records) or row["index"] >= len(self.records):
            return None
        record = as_records(self.records)[row["index"]]
        same = all(as_json(record.get(key)) == as_json(row.get(key)) for key in _IDENTIFYING)
        return record["image"] if same else None


def part_of(records: Any, eval_dataset: Any) -> str | None:
    """Return the name of `records` in a dict of evaluation data sets, or `None` if it is none of them.

    Example:
        >>> easy, hard = ["a"], ["b"]
        >>> part_of(hard, {"easy": easy, "hard": hard})
        'hard'
    """
    parts = eval_dataset if isinstance(eval_dataset, dict) else {}
    return next((name for name, part in parts.items() if part is records), None)


def is_own(records: Any, eval_dataset: Any) -> bool:
    """Return whether records are the evaluation data of a trainer, or one of its data sets.

    Example:
        >>> easy, hard = ["a"], ["b"]
        >>> is_own(hard, {"easy": easy, "hard": hard}), is_own(["b"], hard)
        (True, False)
    """
    parts = eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]
    return any(part is records for part in parts)


def write_scores(results: Mapping[int, EvaluationResult], checkpoint: str | Path, output_dir: str | Path) -> Path:
    """Write the results of a run into a checkpoint, as `chartqa_scores.json`.

    The paths of prediction files are stored relative to `output_dir`, so that the folder can be moved.

    Args:
        results: step -> result.
        checkpoint: the folder of the checkpoint.
        output_dir: the output folder of the run.

    Returns:
        The path of the file, which appears whole or not at all.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> result = EvaluationResult(step=5, prefix="eval_", metrics={"eval_n": 2.0}, decoding={"num_beams": 1})
        >>> write_scores({5: result}, folder, folder).name
        'chartqa_scores.json'
        >>> read_scores(folder, folder) == {5: result}
        True
    """
    entries = []
    for result in results.values():
        entry: dict[str, Any] = {name: getattr(result, name) for name in (*_STORED, *_STORED_SINCE)}
        answers = result.predictions
        entry["predictions"] = None
        if answers is not None and answers.is_relative_to(output_dir):
            entry["predictions"] = answers.relative_to(output_dir).as_posix()
        entries.append(entry)
    return write_json(Path(checkpoint) / SCORES_NAME, as_json(entries))


def _answers(output_dir: str | Path, name: Any) -> Path | None:
    """Return the predictions file that a checkpoint names, `None` if there is none.

    A push with `push_predictions` publishes it, and a downloaded checkpoint may name any file: only a regular file
    `predictions/*.jsonl` of the output folder counts.
    """
    if name != "predictions.jsonl" and not (str(name).startswith("predictions/") and str(name).endswith(".jsonl")):
        check_name_inside(name, where=SCORES_NAME)
        raise ValueError(f"{SCORES_NAME} names the file {name!r}, which is no predictions/*.jsonl")
    try:
        return file_inside(output_dir, name, where=SCORES_NAME)
    except OSError:
        return None
    except ValueError as error:
        check_name_inside(name, where=SCORES_NAME)
        logger.warning("%s: these predictions are not used", error)
        return None


def read_scores(
    checkpoint: str | Path, output_dir: str | Path, eval_dataset: Any = None
) -> dict[int, EvaluationResult]:
    """Read what `write_scores` wrote: step -> result. Empty if the checkpoint has no such file.

    Args:
        checkpoint: the folder to resume from.
        output_dir: the folder in which prediction files are looked up, in its subfolder `predictions`; a file that no
            longer exists, or is a link, becomes `None`.
        eval_dataset: the records in which the charts of the rows are looked up, or a dict of several.

    Raises:
        ValueError: the file is damaged, or names a file that cannot hold predictions; the message names it.
    """
    path = Path(checkpoint) / SCORES_NAME
    if not path.is_file():
        return {}
    entries = read_json(path, kind=list, advice=_ADVICE)
    try:
        found = {}
        for entry in entries:
            stored = {name: entry[name] for name in _STORED}
            stored |= {name: entry.get(name, copy(default)) for name, default in _STORED_SINCE.items()}
            answers = None if entry["predictions"] is None else _answers(output_dir, entry["predictions"])
            records = eval_dataset.get(entry["part"]) if isinstance(eval_dataset, dict) else eval_dataset
            found[entry["step"]] = EvaluationResult(**stored, predictions=answers, records=records)
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error or type(error).__name__}): {_ADVICE}") from error
