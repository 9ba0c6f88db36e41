"""The tasks that UniChart was trained on: short answers, open answers, tables and summaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...metrics.tables import Table, check_size, parse_table, per_example_table_scores, table_scores, write_table
from ...metrics.texts import per_example_text_scores, text_scores
from .prompts import OPEN_QA_PROMPTS, SUMMARY_PROMPTS, TABLE_FORMATS, TABLE_PROMPTS
from .registry import register_task
from .task import QA_NAME, Task


@register_task
class QA(Task):
    """A short answer to a question, scored by relaxed accuracy. Its prompt is that of the adapter.

    It is the task of records without one. Its metrics have no task in their names (`eval_relaxed_accuracy`), and
    `evaluation.scoring` computes them together with those of its sources.
    """

    name = QA_NAME
    metric = "relaxed_accuracy"


class TextTask(Task):
    """A text of some sentences, scored by BLEU and ROUGE (`chartqa_ft.text_scores`).

    It needs the packages of the extra `text`. The verdict on one text is its ROUGE-L.

    Args:
        variant: The settings of BLEU, as in `text_scores`.
        tokenizer: The words of ROUGE, likewise.
    """

    max_new_tokens = 256
    metric = "bleu"

    def __init__(self, variant: str = "default", tokenizer: str = "rouge_score") -> None:
        self.variant, self.tokenizer = variant, tokenizer

    def for_adapter(self, adapter: Any) -> Task:
        """Return the task, if the packages that score it are installed.

        Raises:
            ImportError: A package is missing.
            ValueError: There is no such variant or tokenizer.
        """
        self._scores(["a"], ["a"])
        return self

    def verdicts(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return the ROUGE-L of each text."""
        each = per_example_text_scores(predictions, references, variant=self.variant, tokenizer=self.tokenizer)
        return [scores["rougeL"] for scores in each]

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Return the metrics of `chartqa_ft.text_scores`, without the signatures."""
        scores = self._scores(predictions, references, n_resamples=1000)
        return {name: value for name, value in scores.items() if not isinstance(value, str)}

    def signatures(self) -> dict[str, str]:
        """Return the signatures of BLEU and ROUGE."""
        return {name: value for name, value in self._scores(["a"], ["a"]).items() if isinstance(value, str)}

    def _scores(
        self, predictions: Sequence[str], references: Sequence[str], n_resamples: int = 0
    ) -> dict[str, float | int | str]:
        return text_scores(
            predictions, references, variant=self.variant, tokenizer=self.tokenizer, n_resamples=n_resamples
        )


@register_task
class OpenQA(TextTask):
    """An answer of some sentences to a question, as in OpenCQA."""

    name = "open_qa"
    prompts = OPEN_QA_PROMPTS


@register_task
class Summary(TextTask):
    """A paragraph about a chart, as in Chart-to-Text. Records need no question."""

    name = "summary"
    prompt = "Summarize the chart in a few sentences."
    prompts = SUMMARY_PROMPTS


@register_task
class TableExtraction(Task):
    """The data table of a chart as text. Records need no question.

    Answers are tables in any linearization that `chartqa_ft.parse_table` reads. They are learned in the one that the
    family was trained with, or in one that the tokenizer can write; predictions are read in all of them.

    Args:
        format: The linearization of targets, one of `chartqa_ft.metrics.TABLE_FORMATS`. `None` chooses it.

    Example:
        >>> TableExtraction(format="unichart").target("Year,EU\\n2019,1204\\n2020,nan")
        'Year | EU & 2019 | 1204 & 2020 | nan'
    """

    name = "table"
    prompt = "Convert the chart to a table. Write one row per line, with its cells divided by |."
    prompts = TABLE_PROMPTS
    max_new_tokens = 512
    metric = "rms_f1"
    shows = "table"

    def __init__(self, format: str | None = None) -> None:
        write_table(Table(), format or "lines")  # an unknown name is an error here
        self.format = format

    def for_adapter(self, adapter: Any) -> Task:
        """Return the task with the linearization of the model's family, or one that its tokenizer can write."""
        if self.format is not None:
            return self
        published = TABLE_FORMATS.get(adapter.model_type, "lines")
        probe = Table(("a", "b"), [("1", "2")])
        candidates = dict.fromkeys((published, "lines", "unichart"))
        can_write = (
            format for format in candidates if parse_table(_read_back(adapter, write_table(probe, format))) == probe
        )
        return type(self)(next(can_write, published))

    def target(self, answer: str) -> str:
        table = parse_table(answer)
        if not table.rows:
            raise ValueError(f"the answer {answer!r:.80} is no table: it needs a header and at least one row")
        return write_table(table, self.format or "lines")

    def check_reference(self, answer: str) -> None:
        """Check that the table of a record is not too large to be scored."""
        check_size(answer)

    def verdicts(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return the RMS F1 of each table."""
        return [each["rms_f1"] for each in per_example_table_scores(predictions, references)]

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Return the metrics of `chartqa_ft.table_scores`."""
        return table_scores(predictions, references)


def _read_back(adapter: Any, text: str) -> str:
    """Return an answer as the tokenizer of an adapter gives it back."""
    return adapter.decode(adapter.tokenize([f" {text}"]))[0]
