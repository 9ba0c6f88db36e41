"""What a case is, how its outcome is judged, and what the cases share.

A case builds one bad input in a temporary folder and calls the library as a user would. It is *handled* when the
result is exactly right, and *clear* when an error of a sensible type names the record, file, column or argument before
the first training step. Everything else is wrong: silently, or with an unclear error.
"""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import TrainerCallback

from chartqa_ft import ChartQATrainer, adapter_for, relaxed_correctness
from tests.support.common import arguments, drawn_charts, tiny

CLEAR = (ValueError, TypeError, OSError, NotImplementedError, ImportError)
"""Types that a clear error may have. KeyError, AttributeError, IndexError and RuntimeError are crashes."""
HANDLED, REFUSED, SILENT, UNCLEAR = "handled", "clear", "silently wrong", "unclear"
SECONDS = 20
"""A case that takes longer than this hangs."""

Call = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        group: images, records, tables, folders or configurations.
        name: unique in its group.
        call: builds the input in the given empty folder, hands it to the library and returns what it made of it.
        names: a clear error names one of these (in any case). Empty: no error is right.
        right: whether the value returned is right; `None`: only an error is.
        said: a value that is not right in itself is accepted where a warning holds all these words.
    """

    group: str
    name: str
    call: Call
    names: tuple[str, ...] = ()
    right: Callable[[Any], bool] | None = None
    said: tuple[str, ...] = ()


class Outcome(NamedTuple):
    kind: str
    note: str

    @property
    def is_wrong(self) -> bool:
        return self.kind in (SILENT, UNCLEAR)


CASES: dict[tuple[str, str], Case] = {}


def add(
    group: str,
    name: str,
    call: Call,
    *names: str,
    right: Callable[[Any], bool] | None = None,
    said: tuple[str, ...] = (),
) -> None:
    """Register a case. Without `right` only an error that names one of `names` is right."""
    assert (group, name) not in CASES, f"two cases are called {group}/{name}"
    CASES[group, name] = Case(group, name, call, names, right, said)


# ------------------------------------------------------------------------------------------------------------ judging
class _HangsError(BaseException):
    pass


class Steps(TrainerCallback):
    """Counts the training steps of all trainers of a case."""

    done = 0

    def on_step_end(self, *_: Any, **__: Any) -> None:
        Steps.done += 1


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise _HangsError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _heard() -> Iterator[Callable[[], str]]:
    """Collect warnings: log records from level WARNING on, and Python's."""
    buffer = io.StringIO()
    handler = logging.StreamHandler(buffer)
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("chartqa_ft")
    logger.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            yield lambda: buffer.getvalue() + "\n".join(str(warning.message) for warning in caught)
        finally:
            logger.removeHandler(handler)


def judge(case: Case) -> Outcome:
    """Run a case and say what came of it."""
    Steps.done = 0
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="bad_", ignore_cleanup_errors=True) as folder, _heard() as heard:
        try:
            with _alarm():
                value = case.call(Path(folder))
        except _HangsError:
            return Outcome(UNCLEAR, f"hangs for {SECONDS} s")
        except Exception as error:
            return _judge_error(case, error)
        said = heard()
        try:
            is_right = case.right is not None and bool(case.right(value))
        except Exception as error:
            return Outcome(SILENT, f"the result cannot be compared: {_short(error)}")
        if is_right or (case.said and all(word.lower() in said.lower() for word in case.said)):
            return Outcome(HANDLED, "")
        return Outcome(SILENT, f"got {repr(value)[:200]}")


def _judge_error(case: Case, error: Exception) -> Outcome:
    message = str(error).lower()
    is_clear = isinstance(error, CLEAR) and any(name.lower() in message for name in case.names)
    if is_clear and not Steps.done:
        return Outcome(REFUSED, "")
    after = f" after {Steps.done} steps" if Steps.done else ""
    return Outcome(UNCLEAR, _short(error) + after)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:220]}".replace("\n", " ")


# ------------------------------------------------------------------------------------------------------------ shared
QUESTION = "How many cups?"

RED, GREEN, BLUE, YELLOW = (220, 20, 20), (20, 160, 20), (20, 20, 220), (230, 230, 10)


@cache
def _picture(width: int, height: int, colours: tuple) -> Image.Image:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for index, colour in enumerate(colours):
        left, top = index % 2 * width // 2, index // 2 * height // 2
        draw.rectangle((left, top, left + max(width // 2, 1) - 1, top + max(height // 2, 1) - 1), fill=colour)
    return image


def picture(width: int = 48, height: int = 40, colours: tuple = (RED, GREEN, BLUE, YELLOW)) -> Image.Image:
    """A picture with a colour in each quarter, so that a turned or mirrored one is another."""
    return _picture(width, height, colours).copy()


def encoded(kind: str = "PNG", image: Image.Image | None = None, **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    (picture() if image is None else image).save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def model_and_adapter() -> tuple[Any, Any]:
    """A tiny model, not to be changed, and its adapter."""
    model, processor = tiny()
    return model.eval(), adapter_for(model, processor)


def adapter() -> Any:
    return model_and_adapter()[1]


def record(**changes: Any) -> dict[str, Any]:
    return {"image": picture(), "question": QUESTION, "answer": "7", "chart_id": "a.png", "source": "human", **changes}


def taught(rows: Any) -> list[str]:
    """What a model learns to answer to each row."""
    return [adapter().decode(adapter().encode([row])["labels"])[0] for row in rows]


def scored(rows: Any) -> tuple[list[str], list[float]]:
    """What a model learns to answer to each row, and the score of a model that answers just that."""
    rows = list(rows)
    answers = taught(rows)
    return answers, [
        relaxed_correctness(prediction=answer, target=row["answer"]) for answer, row in zip(answers, rows, strict=True)
    ]


def teaches(*answers: str) -> Callable[[Any], bool]:
    """Right if these answers are taught and a model that gives them scores 1 throughout."""
    return lambda value: value == (list(answers), [1.0] * len(answers))


def charts(n: int = 4) -> datasets.Dataset:
    return drawn_charts().select(range(n))


def no_rows() -> Iterator[dict[str, Any]]:
    """Yield the rows of an empty stream."""
    yield from ()


def new_trainer(folder: Path, **changes: Any) -> ChartQATrainer:
    """A trainer of a fresh tiny model: changes go to the trainer where it takes them, else to its arguments."""
    names = (
        "model",
        "args",
        "train_dataset",
        "eval_dataset",
        "processing_class",
        "adapter",
        "callbacks",
        "optimizers",
    )
    names += ("compute_metrics", "peft_config", "data_collator", "compute_loss_func", "model_init")
    names += ("preprocess_logits_for_metrics", "optimizer_cls_and_kwargs")
    own = {name: changes.pop(name) for name in names if name in changes}
    if "args" not in own:
        own["args"] = arguments(folder / "out", **{"generation_max_new_tokens": 3, "log_level": "error", **changes})
    model, processor = tiny()
    own.setdefault("model", model)
    if "adapter" not in own:
        own.setdefault("processing_class", processor)
    own.setdefault("train_dataset", charts())
    own.setdefault("eval_dataset", charts())
    trainer = ChartQATrainer(**own)
    trainer.add_callback(Steps())
    return trainer


def train(folder: Path, **changes: Any) -> ChartQATrainer:
    """Train for one step (unless told otherwise), as a user would; returns the trainer."""
    trainer = new_trainer(folder, **changes)
    trainer.train()
    return trainer


@cache
def _usual_loss(seed: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        return train(Path(folder), train_sampling_strategy="sequential").state.log_history[0]["loss"]


def same_loss(value: Any) -> bool:
    """Right if a trainer's first loss is that of the same records and settings without the bad input."""
    trainer = value
    return bool(np.isclose(trainer.state.log_history[0]["loss"], _usual_loss(0), rtol=1e-5))
