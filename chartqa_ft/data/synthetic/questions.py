"""Synthetic charts with questions: data with the canonical columns that needs no download.

The answers follow from the drawn values, so they are always right. The questions imitate ChartQA's two sources:
`"augmented"` questions look up one value, `"human"` questions need a step of reasoning.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import operator
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drawing import AXIS_MAX, BASE_SIZE, CHART_TYPES, COLORS, PIE_STEP, PIE_TOTAL, Chart, draw_chart, whole_number
from .tasks import TASKS, summary_of, table_of

if TYPE_CHECKING:
    from datasets import Dataset

QUESTION_TYPES = ("value", "count", "extreme", "comparison", "difference")
QUESTIONS_PER_CHART: dict[str, int] = {"value": 6, "count": 1, "extreme": 2, "comparison": 2, "difference": 1}
SEED_CLASSES = 8
MARK_COUNTS = (2, 3, 4, 5)
MARK_WEIGHTS = (4, 3, 2, 1)
MARK_WORDS = {"bar": "bars", "line": "points", "pie": "slices"}

_ROWS_PER_CHUNK = 10_000


@dataclass(frozen=True)
class Question:
    """A question about one chart, with its answer."""

    question: str
    answer: str
    question_type: str

    @property
    def source(self) -> str:
        """`"human"` for reasoning, `"augmented"` for a look-up, as in ChartQA."""
        return "augmented" if self.question_type == "value" else "human"


def make_chart(seed: int, index: int, chart_type: str) -> Chart:
    """Return chart number `index` of a seed; the same arguments give the same chart on every platform.

    Random charts are generated until the checksum of one falls into the class of the seed (`seed` modulo
    `SEED_CLASSES`). Seeds of different classes (1 and 2, for example) therefore never share a chart, however many
    there are: held-out charts are held out by construction. Two charts of the same class can be equal by chance.

    Raises:
        ValueError: `chart_type` is unknown.
    """
    if chart_type not in CHART_TYPES:
        raise ValueError(f"chart_type must be one of {CHART_TYPES}, got {chart_type!r}")
    rng = random.Random(f"chart:{seed}:{index}:{chart_type}")
    while True:
        count = rng.choices(MARK_COUNTS, MARK_WEIGHTS)[0]
        names = tuple(rng.sample(list(COLORS), count))
        if chart_type == "pie":
            cuts = sorted(rng.sample(range(1, PIE_TOTAL // PIE_STEP), count - 1))
            edges = [0, *cuts, PIE_TOTAL // PIE_STEP]
            values = tuple(PIE_STEP * (b - a) for a, b in itertools.pairwise(edges))
        else:
            values = tuple(rng.randint(1, AXIS_MAX) for _ in range(count))
        if zlib.crc32(f"{chart_type} {names} {values}".encode()) % SEED_CLASSES == seed % SEED_CLASSES:
            return Chart(chart_type, names, values)


def ask(chart: Chart, rng: random.Random, per_chart: Mapping[str, int] = QUESTIONS_PER_CHART) -> list[Question]:
    """Return questions about a chart, each with exactly one right answer: no question about a shared extreme."""
    named = dict(zip(chart.names, chart.values, strict=True))
    unequal = [(a, b) for a in chart.names for b in chart.names if named[a] != named[b]]

    def pick(items: Sequence[Any], kind: str) -> list[Any]:
        return rng.sample(items, min(per_chart.get(kind, 0), len(items)))

    questions = [Question(f"How much is {n}?", str(named[n]), "value") for n in pick(chart.names, "value")]
    counts = [Question(f"How many {MARK_WORDS[chart.chart_type]} are there?", str(len(named)), "count")]
    questions += pick(counts, "count")
    extremes = []
    for word, value in (("largest", max(chart.values)), ("smallest", min(chart.values))):
        winners = [n for n in chart.names if named[n] == value]
        if len(winners) == 1:
            extremes.append(Question(f"Which color is {word}?", winners[0], "extreme"))
    questions += pick(extremes, "extreme")
    for a, b in pick(unequal, "comparison"):
        answer = "Yes" if named[a] > named[b] else "No"
        questions.append(Question(f"Is {a} larger than {b}?", answer, "comparison"))
    for a, b in pick([(a, b) for a, b in unequal if named[a] > named[b]], "difference"):
        questions.append(Question(f"What is {a} minus {b}?", str(named[a] - named[b]), "difference"))
    return questions


def synthetic_chartqa(
    n_charts: int,
    *,
    seed: int,
    image_size: int = BASE_SIZE,
    chart_types: Sequence[str] = CHART_TYPES,
    questions_per_chart: Mapping[str, int] = QUESTIONS_PER_CHART,
    tasks: Sequence[str] = ("qa",),
) -> Dataset:
    """Generate charts and questions about them.

    Args:
        n_charts: Number of charts, at least one.
        seed: Seed of the charts. The same arguments give the same dataset, and a larger `n_charts` only adds charts.
            Seeds that differ modulo `SEED_CLASSES` (8) share no chart: use 0 to train and 1 to evaluate, for example.
        image_size: Width and height of the images in pixels; text and lines are scaled with it.
        chart_types: Types to alternate between, from `"bar"`, `"line"` and `"pie"`; list one twice to double its
            share.
        questions_per_chart: Largest number of questions per chart for each of `QUESTION_TYPES`; 0 or absent for none.
            There are fewer if a chart has fewer marks, or if two marks share an extreme.
        tasks: What to draw the charts for: `"qa"`, `"table"` (one row with the data table of each chart) and
            `"summary"` (one row with a sentence about it).

    Returns:
        One row per question, with the questions on a chart next to each other. The columns are the canonical ones,
        `image` (PNG bytes, decoded on access), `question`, `answer`, `source`, `chart_id`, and in addition
        `chart_type` and `question_type` (strings). With other tasks than `"qa"` there is a column `task` too; the
        `question_type` of their rows is the task, and their `question` is empty.

    Raises:
        TypeError: An argument is of a wrong type; the message names it.
        ValueError: There are no charts, a task, a chart or question type is unknown, a number of questions is
            negative, or the images are smaller than `drawing.MIN_SIZE`.

    Example:
        >>> from chartqa_ft import synthetic_chartqa
        >>> dataset = synthetic_chartqa(2, seed=0)
        >>> len(set(dataset["chart_id"])), dataset[0]["image"].size
        (2, (96, 96))
        >>> dataset.column_names
        ['image', 'question', 'answer', 'source', 'chart_id', 'chart_type', 'question_type']
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Features, Image, Value
    from datasets.table import InMemoryTable

    n_charts, seed = whole_number("n_charts", n_charts), whole_number("seed", seed)
    image_size = whole_number("image_size", image_size)
    _check_arguments(n_charts, chart_types, questions_per_chart)
    tasks = _checked_tasks(tasks)
    questions_per_chart = {kind: operator.index(count) for kind, count in questions_per_chart.items()}
    names: tuple[str, ...] = ("question", "answer", "source", "chart_id", "chart_type", "question_type")
    names = names if tasks == ("qa",) else (*names, "task")
    features = Features({"image": Image(), **{name: Value("string") for name in names}})
    schema = pa.schema(
        [("image", pa.struct({"bytes": pa.binary(), "path": pa.string()})), *((n, pa.string()) for n in names)]
    )
    described: tuple[Any, ...] = (n_charts, seed, image_size, tuple(chart_types), sorted(questions_per_chart.items()))
    digest = hashlib.sha256(repr(described if tasks == ("qa",) else (*described, tasks)).encode())
    batches = [
        pa.RecordBatch.from_pylist(rows, schema=schema)
        for rows in _chunks(n_charts, seed, image_size, tuple(chart_types), questions_per_chart, tasks)
    ]
    table = InMemoryTable(pa.Table.from_batches(batches, schema=schema))
    return Dataset(table, info=DatasetInfo(features=features), fingerprint=digest.hexdigest()[:16])


def _checked_tasks(tasks: Sequence[str]) -> tuple[str, ...]:
    listed = isinstance(tasks, Sequence) and not isinstance(tasks, str)
    if not listed or not tasks or any(task not in TASKS for task in tasks) or len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks must be a sequence of tasks from {TASKS}, each once, got {tasks!r}")
    return tuple(tasks)


def _check_arguments(n_charts: int, chart_types: Sequence[str], questions_per_chart: Mapping[str, int]) -> None:
    if n_charts < 1:
        raise ValueError(f"n_charts must be at least 1, got {n_charts}")
    listed = isinstance(chart_types, Sequence) and not isinstance(chart_types, str)
    if not listed or not chart_types or any(kind not in CHART_TYPES for kind in chart_types):
        raise ValueError(f"chart_types must be a sequence of types from {CHART_TYPES}, got {chart_types!r}")
    if not isinstance(questions_per_chart, Mapping):
        raise TypeError(f"questions_per_chart must be a dict of numbers, got {questions_per_chart!r}")
    if set(questions_per_chart) - set(QUESTION_TYPES):
        raise ValueError(
            f"the keys of questions_per_chart must be from {QUESTION_TYPES}, got {tuple(questions_per_chart)}"
        )
    for kind, count in questions_per_chart.items():
        whole_number(f"questions_per_chart[{kind!r}]", count)
    if min(questions_per_chart.values(), default=0) < 0 or not any(questions_per_chart.values()):
        raise ValueError(
            f"questions_per_chart must allow at least one question and no negative number, got {questions_per_chart}"
        )


def _chunks(
    n_charts: int,
    seed: int,
    image_size: int,
    chart_types: tuple[str, ...],
    per_chart: Mapping[str, int],
    tasks: tuple[str, ...],
) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in lists of limited length: an Arrow array of bytes holds at most 2 GiB."""
    rows: list[dict[str, Any]] = []
    for index in range(n_charts):
        chart = make_chart(seed, index, chart_types[index % len(chart_types)])
        buffer = io.BytesIO()
        draw_chart(chart, image_size).save(buffer, "PNG", compress_level=1)
        image = {"bytes": buffer.getvalue(), "path": None}
        common = {"image": image, "chart_id": f"synthetic-{seed}-{index:06d}", "chart_type": chart.chart_type}
        asked = ask(chart, random.Random(f"questions:{seed}:{index}"), per_chart) if "qa" in tasks else []
        for question in asked:
            rows.append(
                {
                    **common,
                    "question": question.question,
                    "answer": question.answer,
                    "source": question.source,
                    "question_type": question.question_type,
                    "task": "qa",
                }
            )
        for task, answer_of in (("table", table_of), ("summary", summary_of)):
            if task in tasks:
                own = {"answer": answer_of(chart), "source": "unknown", "question_type": task, "task": task}
                rows.append({**common, "question": "", **own})
        if len(rows) >= _ROWS_PER_CHUNK:
            yield rows
            rows = []
    if rows:
        yield rows
