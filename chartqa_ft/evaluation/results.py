"""What evaluations found out about the weights of a run's steps, and how a checkpoint keeps it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..hub.public import as_json

SCORES_NAME = "chartqa_scores.json"
_STORED = ("step", "prefix", "metrics", "decoding", "rows", "part")
_IDENTIFYING = ("chart_id", "question", "answer")


@dataclass
class EvaluationResult:
    """What an evaluation found out about the weights of one optimizer step."""

    step: int
    prefix: str
    metrics: dict[str, float]
    """As `evaluate` returned them, with their prefix."""
    decoding: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The first rows, with question, answer, prediction and verdict."""
    predictions: Path | None = None
    """The file of all answers, where one was written."""
    records: Any = None
    """What was evaluated, where it can be indexed by row: for the charts of `rows`."""
    part: str | None = None
    """Its name, where the trainer has several evaluation data sets."""

    def chart(self, row: Mapping[str, Any]) -> Any:
        """The image of one of `rows`; `None` where the data is a stream, or other data than was evaluated."""
        # Not by __getitem__: streams have one, for columns.
        if not hasattr(self.records, "__len__") or row["index"] >= len(self.records):
            return None
        record = self.records[row["index"]]
        same = all(as_json(record.get(key)) == as_json(row.get(key)) for key in _IDENTIFYING)
        return record["image"] if same else None


def part_of(records: Any, eval_dataset: Any) -> str | None:
    """The name of `records` in a dict of evaluation data sets; `None` where it is none of them."""
    parts = eval_dataset if isinstance(eval_dataset, dict) else {}
    return next((name for name, part in parts.items() if part is records), None)


def write_scores(scores: Mapping[int, EvaluationResult], checkpoint: str | Path, output_dir: str | Path) -> Path:
    """Write the scores of a run beside the weights in a checkpoint, as JSON; the file appears whole or not at all.

    Files of answers are named from `output_dir` on, so that the folder may be moved.
    """
    entries = []
    for score in scores.values():
        entry = {name: getattr(score, name) for name in _STORED}
        answers = score.predictions
        inside = answers is not None and answers.is_relative_to(output_dir)
        entries.append({**entry, "predictions": answers.relative_to(output_dir).as_posix() if inside else None})
    path = Path(checkpoint) / SCORES_NAME
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(as_json(entries), indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def read_scores(
    checkpoint: str | Path, output_dir: str | Path, eval_dataset: Any = None
) -> dict[int, EvaluationResult]:
    """Step -> scores, as `write_scores` left them; empty for a checkpoint that has none (of another trainer).

    Args:
        checkpoint: the folder to resume from.
        output_dir: where files of answers are looked for; those that are gone are forgotten.
        eval_dataset: the records to find the charts of the rows in, or a dict of such.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    path = Path(checkpoint) / SCORES_NAME
    if not path.is_file():
        return {}
    try:
        found = {}
        for entry in json.loads(path.read_text(encoding="utf-8")):
            stored = {name: entry[name] for name in _STORED}
            file = None if entry["predictions"] is None else Path(output_dir) / entry["predictions"]
            records = eval_dataset.get(entry["part"]) if isinstance(eval_dataset, dict) else eval_dataset
            answers = file if file is not None and file.is_file() else None
            found[entry["step"]] = EvaluationResult(**stored, predictions=answers, records=records)
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error or type(error).__name__}): resume from another checkpoint, or delete the file "
            "and evaluate again"
        ) from error
