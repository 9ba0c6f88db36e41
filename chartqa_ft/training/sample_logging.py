"""Log sample predictions with their charts to TensorBoard, W&B and trackio: the same questions in every evaluation."""

from __future__ import annotations

import html
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from ..batching.records import as_records, is_stream
from ..hub.credentials import masked
from ..images.check import check_pixels
from ..images.opening import open_image
from ..images.rgb import to_rgb
from ..printable import printable
from ..reporting.pictures import draw_answers
from .evaluating import Evaluator
from .evaluation_lines import evaluation_prefix, name_of
from .trackers import trackers_of

logger = logging.getLogger(__name__)

__all__ = ["SAMPLES", "LogSamples", "chosen_rows"]

SAMPLES = 16
"""Number of predictions of a data set that are logged."""
SIDE = 480
"""Largest width and height in pixels of a chart that is logged."""
COLUMNS = ("step", "chart", "question", "answer", "prediction", "verdict")


class LogSamples(TrainerCallback):
    """Logs the predictions of some questions of each evaluation as a table, to those trackers that take one.

    W&B and trackio get a table `eval/<data set>/samples`, TensorBoard a picture and a text of that name. The questions
    are spread evenly over the data set, and are the same in every evaluation of it, the final one included.

    Args:
        evaluator: the evaluator of the trainer, which holds the rows of the evaluation that has just ended.
        callbacks: returns the callbacks of the trainer, among which the trackers are looked for.
        samples: number of questions of a data set.
    """

    def __init__(
        self, evaluator: Evaluator, callbacks: Callable[[], Sequence[TrainerCallback]], samples: int = SAMPLES
    ) -> None:
        self.evaluator, self.callbacks, self.samples = evaluator, callbacks, samples
        self._chosen: dict[str, list[int]] = {}
        self._warned = False

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        rows, prefix = self.evaluator.table, evaluation_prefix(metrics or {})
        if not state.is_world_process_zero or prefix is None or not rows:
            return
        found = [(tracker, log) for tracker in trackers_of(self.callbacks()) for log in _logs_of(tracker)]
        if not found:
            return
        name = name_of(prefix)
        part = name.removeprefix("final").removeprefix("_") if name.startswith("final") else name
        shown = chosen_rows(rows, self._chosen.get(part), self.samples)
        self._chosen[part] = [row["index"] for row in shown]
        samples = [_sample(row, self.evaluator.records, state.global_step) for row in shown]
        for tracker, log in found:
            try:
                log(tracker, f"{'/'.join(filter(None, ('eval', name)))}/samples", samples, state.global_step)
            except Exception as error:  # of a tracker: no reason to lose the training
                if not self._warned:
                    logger.warning(
                        "%s could not log sample predictions (%s: %s)",
                        type(tracker).__name__,
                        type(error).__name__,
                        printable(error),
                    )
                self._warned = True


def chosen_rows(
    rows: Sequence[Mapping[str, Any]], before: Sequence[int] | None, count: int
) -> list[Mapping[str, Any]]:
    """Return the rows to show: those with the row numbers `before`, or `count` rows at even distances.

    Args:
        rows: the rows of an evaluation, with `index`.
        before: row numbers of the last evaluation of the data set; they count if all of them are there.
        count: number of rows.

    Example:
        >>> [row["index"] for row in chosen_rows([{"index": number} for number in range(9)], None, 3)]
        [0, 3, 6]
        >>> [row["index"] for row in chosen_rows([{"index": number} for number in range(9)], [1, 8], 3)]
        [1, 8]
    """
    wanted = set(before or ())
    by_number = {row["index"]: row for row in rows if row["index"] in wanted}
    if before and len(by_number) == len(wanted):
        return [by_number[number] for number in before]
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def _sample(row: Mapping[str, Any], records: Any, step: int) -> dict[str, Any]:
    correct = row.get("correct")
    verdict = "no answer to compare" if correct is None else "right" if correct == 1.0 else "wrong"
    texts = {key: masked(printable(row.get(key))) for key in ("question", "answer", "prediction")}
    return {"step": step, "chart": _chart(records, row["index"]), **texts, "verdict": verdict, "correct": correct}


def _chart(records: Any, number: int) -> Image.Image:
    """Return the chart of a record in a size to look at; a blank one for a stream, which is not read again."""
    if records is None or is_stream(records):
        return Image.new("RGB", (1, 1), "white")
    opened = open_image(as_records(records)[number]["image"])
    check_pixels(opened, None)
    chart = to_rgb(opened).copy()
    chart.thumbnail((SIDE, SIDE))
    return chart


# ------------------------------------------------------------------ trackers
def _to_tensorboard(tracker: Any, name: str, samples: Sequence[Mapping[str, Any]], step: int) -> None:
    if tracker.tb_writer is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [{**sample, "image": sample["chart"]} for sample in samples]
        with Image.open(draw_answers(rows, Path(folder) / "samples.png")) as sheet:
            pixels = np.array(sheet.convert("RGB"))
    tracker.tb_writer.add_image(name, pixels, step, dataformats="HWC")
    titles = [title for title in COLUMNS if title != "chart"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    lines += [f"| {' | '.join(_cell(sample[title]) for title in titles)} |" for sample in samples]
    tracker.tb_writer.add_text(name, "\n".join(lines), step)
    tracker.tb_writer.flush()


def _cell(value: Any) -> str:
    """Return a value as the cell of a Markdown table, in which it is plain text."""
    text = html.escape(str(value)).replace("\n", " ")
    return "".join(f"&#{ord(sign)};" if sign in "|`*_[]\\~" else sign for sign in text)


def _to_wandb(tracker: Any, name: str, samples: Sequence[Mapping[str, Any]], step: int) -> None:
    import wandb

    if wandb.run is None:
        return
    rows = [[wandb.Image(sample[key]) if key == "chart" else sample[key] for key in COLUMNS] for sample in samples]
    wandb.log({name: wandb.Table(columns=list(COLUMNS), data=rows), "train/global_step": step})


def _to_trackio(tracker: Any, name: str, samples: Sequence[Mapping[str, Any]], step: int) -> None:
    import trackio

    rows = [[trackio.Image(sample[key]) if key == "chart" else sample[key] for key in COLUMNS] for sample in samples]
    trackio.log({name: trackio.Table(columns=list(COLUMNS), data=rows), "train/global_step": step})


_TAKING: dict[str, Callable[[Any, str, Sequence[Mapping[str, Any]], int], None]] = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
    "trackio": _to_trackio,
}
"""Name in `report_to` -> the function that logs to it."""


def _logs_of(tracker: TrainerCallback) -> list[Callable[[Any, str, Sequence[Mapping[str, Any]], int], None]]:
    kinds = integration_utils.INTEGRATION_TO_CALLBACK
    return [log for name, log in _TAKING.items() if isinstance(tracker, kinds[name])]
