"""What a script writes for people beside the predictions: `answers.png`, `curves.png` and `report.html`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..batching.records import is_stream
from ..evaluation.report import PREDICTIONS_NAME
from ..metrics import export_tables
from ..metrics.predictions import is_short_answer, read_predictions
from ..reporting import draw_answers, write_report
from ..reporting.training_log import training_series
from ..training.arguments import ChartQATrainingArguments
from ..training.trainer import ChartQATrainer
from .arguments import ResultArguments

logger = logging.getLogger(__name__)

DRAWN = 12
"""Number of answers in `answers.png`."""


def check_pictures(script: ResultArguments, args: ChartQATrainingArguments) -> None:
    """Refuse a report without predictions, before anything is computed.

    Raises:
        ValueError: `--report` is set, and no predictions are written.

    Example:
        >>> check_pictures(ResultArguments(report=True), ChartQATrainingArguments(output_dir="out", use_cpu=True))
    """
    if script.report and not args.write_predictions:
        raise ValueError("--report shows the predictions that are written: leave out --write_predictions False")


def write_pictures(script: ResultArguments, trainer: ChartQATrainer, records: Any) -> list[Path]:
    """Write `answers.png`, `curves.png` and, with `--report`, `report.html` beside `predictions.jsonl`.

    The scores are written before, so a picture that cannot be written is a warning and no error. Call it on the main
    process.

    Args:
        script: Arguments of the script.
        trainer: The trainer, after the evaluation and `evaluation.report.write_report`.
        records: The evaluated records, which have the charts. A stream has none that could be found again.

    Returns:
        The files written.
    """
    trained = trainer.state.global_step > 0 and any(training_series(trainer.state.log_history))
    return _written(
        script,
        Path(trainer.args.output_dir),
        None if is_stream(records) else records,
        answered=trainer.args.write_predictions,
        plot=trainer.plot if trained else None,
        interval=trainer.args.metric_interval,
    )


def write_answer_pictures(script: ResultArguments, folder: Path, records: Any) -> list[Path]:
    """Write `answers.png` and, with `--report`, `report.html` beside the `predictions.jsonl` of an evaluation.

    Args:
        script: Arguments of the script.
        folder: The folder with the predictions.
        records: The evaluated records, which have the charts.

    Returns:
        The files written.
    """
    interval = getattr(script, "metric_interval", "wilson")
    return _written(script, folder, records, answered=True, plot=None, interval=interval)


def _written(
    script: ResultArguments,
    folder: Path,
    images: Any,
    *,
    answered: bool,
    plot: Callable[[], Path | None] | None,
    interval: str,
) -> list[Path]:
    predictions = folder / PREDICTIONS_NAME
    answered = answered and predictions.is_file()

    def answers() -> Path:
        first = "mistakes" if script.answers_picture == "mistakes" else None
        rows = read_predictions(predictions)
        rows = [row for row in rows if is_short_answer(row)] or rows
        return draw_answers(rows, folder / "answers.png", images=images, first=first, count=DRAWN)

    def report() -> Path:
        path = folder / "report.html"
        return write_report(predictions, path, images=images, tables=_tables(script), interval=interval)

    def tables() -> Path | None:
        export_tables(predictions, folder / "tables")
        return folder / "tables"

    steps = {
        "tables": tables if answered and getattr(script, "write_tables", False) else None,
        "answers.png": answers if answered and images is not None and script.answers_picture != "none" else None,
        "curves.png": plot,
        "report.html": report if answered and script.report else None,
    }
    written = []
    for name, write in steps.items():
        try:
            path = None if write is None else write()
        except (OSError, ValueError) as error:
            logger.warning("%s could not be written: %s", folder / name, error)
            continue
        if path is not None:
            written.append(path)
    return written


def _tables(script: ResultArguments) -> Path | None:
    """Return the folder of the tables of a split in the original layout of ChartQA, or `None`."""
    name, split = getattr(script, "dataset_name", None), getattr(script, "eval_split", None)
    if not name or not split:
        return None
    folder = Path(name) / re.split(r"\W", split)[0] / "tables"
    return folder if folder.is_dir() else None
