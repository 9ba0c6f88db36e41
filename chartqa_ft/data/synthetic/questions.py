"""Drawn charts with questions: data of the canonical columns that needs no download.

The answers follow from the drawn numbers, so a model trained on these charts can be checked without doubt; the
questions copy ChartQA's two sources: `"augmented"` looks one value up, `"human"` asks for a step of reasoning.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .drawing import AXIS_MAX, BASE_SIZE, CHART_TYPES, COLORS, PIE_STEP, PIE_TOTAL, Chart, draw_chart

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
    """A question on one chart. `source` is `"human"` for reasoning and `"augmented"` for a look-up, as in ChartQA."""

    question: str
    answer: str
    question_type: str

    @property
    def source(self) -> str:
        return "augmented" if self.question_type == "value" else "human"


def make_chart(seed: int, index: int, chart_type: str) -> Chart:
    """The chart of number `index`; a pure function of its arguments, on every platform.

    Charts are drawn at random until their checksum falls into the class of the seed (`seed` modulo `SEED_CLASSES`), so
    seeds of different classes (1 and 2, say) never share a chart, however many are drawn: held-out charts are held out
    by construction. Seeds of one class can meet by chance, as can two charts of one seed.

    Raises:
        ValueError: for an unknown `chart_type`.
    """
    if chart_type not in CHART_TYPES:
        raise ValueError(f"chart_types may hold {CHART_TYPES}, got {chart_type!r}")
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
    """Questions on a chart, each with exactly one right answer: an extreme that two marks share is not asked for."""
    named = dict(zip(chart.names, chart.values, strict=True))
    unequal = [(a, b) for a in chart.names for b in chart.names if named[a] != named[b]]

    def pick(items: Sequence, kind: str) -> list:
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
) -> Dataset:
    """Draw charts and ask questions on them.

    Args:
        n_charts: how many charts to draw, at least one.
        seed: which charts: the same arguments give the same data set, and the first charts of a longer one. Seeds that
            differ modulo `SEED_CLASSES` (8) share no chart: take 0 to train and 1 to hold out, for example.
        image_size: side of the square images in pixels, text and lines scaled with it.
        chart_types: types that take turns, out of `"bar"`, `"line"` and `"pie"`; name one twice to double its share.
        questions_per_chart: the most questions of each of `QUESTION_TYPES` on one chart; 0 or absent for none. There
            are fewer where a chart has fewer marks, or where two marks share an extreme.

    Returns:
        One row per question, those of a chart next to each other, with the canonical columns `image` (PNG bytes,
        decoded on access), `question`, `answer`, `source`, `chart_id`, and beside them `chart_type` and
        `question_type` (strings).

    Raises:
        ValueError: for no charts, an unknown chart or question type, a negative number of questions, or a size below
            `charts.MIN_SIZE`.
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Features, Image, Value
    from datasets.table import InMemoryTable

    _check_arguments(n_charts, chart_types, questions_per_chart)
    names = ("question", "answer", "source", "chart_id", "chart_type", "question_type")
    features = Features({"image": Image(), **{name: Value("string") for name in names}})
    schema = pa.schema(
        [("image", pa.struct({"bytes": pa.binary(), "path": pa.string()})), *((n, pa.string()) for n in names)]
    )
    digest = hashlib.sha256(
        repr((n_charts, seed, image_size, tuple(chart_types), sorted(questions_per_chart.items()))).encode()
    )
    batches = [
        pa.RecordBatch.from_pylist(rows, schema=schema)
        for rows in _chunks(n_charts, seed, image_size, tuple(chart_types), questions_per_chart)
    ]
    table = InMemoryTable(pa.Table.from_batches(batches, schema=schema))
    return Dataset(table, info=DatasetInfo(features=features), fingerprint=digest.hexdigest()[:16])


def _check_arguments(n_charts: int, chart_types: Sequence[str], questions_per_chart: Mapping[str, int]) -> None:
    if n_charts < 1:
        raise ValueError(f"n_charts must be at least 1, got {n_charts}")
    if isinstance(chart_types, str) or not chart_types or set(chart_types) - set(CHART_TYPES):
        raise ValueError(f"chart_types must be a sequence out of {CHART_TYPES}, got {chart_types!r}")
    if set(questions_per_chart) - set(QUESTION_TYPES):
        raise ValueError(f"questions_per_chart may name {QUESTION_TYPES}, got {tuple(questions_per_chart)}")
    if min(questions_per_chart.values(), default=0) < 0 or not any(questions_per_chart.values()):
        raise ValueError(
            f"questions_per_chart must ask at least one question and no negative number: {questions_per_chart}"
        )


def _chunks(
    n_charts: int, seed: int, image_size: int, chart_types: tuple[str, ...], per_chart: Mapping[str, int]
) -> Iterator[list[dict]]:
    """Rows in lists of limited length: an Arrow array of bytes holds 2 GiB at most."""
    rows: list[dict] = []
    for index in range(n_charts):
        chart = make_chart(seed, index, chart_types[index % len(chart_types)])
        buffer = io.BytesIO()
        draw_chart(chart, image_size).save(buffer, "PNG", compress_level=1)
        image = {"bytes": buffer.getvalue(), "path": None}
        for question in ask(chart, random.Random(f"questions:{seed}:{index}"), per_chart):
            rows.append(
                {
                    "image": image,
                    "question": question.question,
                    "answer": question.answer,
                    "source": question.source,
                    "chart_id": f"synthetic-{seed}-{index:06d}",
                    "chart_type": chart.chart_type,
                    "question_type": question.question_type,
                }
            )
        if len(rows) >= _ROWS_PER_CHUNK:
            yield rows
            rows = []
    if rows:
        yield rows
