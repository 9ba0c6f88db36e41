"""`Task`: the prompt, the target, the metrics and the decoding of one kind of answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

QA_NAME = "qa"
"""The task of records without a `task`: a short answer to a question, scored by relaxed accuracy."""


class Task:
    """One kind of answer that models are trained and scored on. Subclass it and register the class for your own.

    Records name their task in the column `task`. Collator, trainer, evaluation, report and card ask the task for
    everything that depends on it.

    Example:
        >>> from chartqa_ft import Task
        >>> class ChartType(Task):
        ...     name = "chart_type"
        ...     prompt = "What kind of chart is this?"
        ...     max_new_tokens = 8
        >>> ChartType().score(["Bar", "pie"], ["bar", "line"])
        {'exact_match': 0.5, 'n': 2}
    """

    name: ClassVar[str]
    """The value in the column `task`; the metrics carry it (`eval_<name>_...`). Letters, digits and underscores."""
    prompt: ClassVar[str] = "{question}"
    """The template of the prompt for model families without one in `prompts`. With the field `{question}`, every
    record needs a question; without it, records need none."""
    prompts: ClassVar[Mapping[str, str]] = {}
    """`config.model_type` -> template of the prompt, for families that were trained with one of their own."""
    max_new_tokens: ClassVar[int | None] = None
    """The longest generated answer in tokens; `None` uses the training argument `generation_max_new_tokens`."""
    metric: ClassVar[str] = "exact_match"
    """The name of the main metric among those of `score`; it is the mean of `verdicts`, or close to it."""
    shows: ClassVar[str] = "text"
    """How reports show answers: as `"text"`, or as a `"table"`."""

    def prompt_for(self, model_type: str) -> str:
        """Return the template of the prompt for a model family, by its `config.model_type`."""
        return self.prompts.get(model_type, self.prompt)

    def for_adapter(self, adapter: Any) -> Task:
        """Return the task as an adapter uses it: this one, or one whose targets suit the tokenizer of the model."""
        return self

    def target(self, answer: str) -> str:
        """Return the text that the model learns to write for the answer of a record.

        Raises:
            ValueError: The answer is none of this task.
        """
        return answer

    def check_reference(self, answer: str) -> None:
        """Check that predictions can be scored against the answer of a record. It is called before an evaluation.

        Raises:
            ValueError: They cannot.
        """

    def verdicts(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return how good each prediction is, between 0 and 1: 1.0 if it equals its reference but for case and white
        space, else 0.0. The file of predictions holds it as `correct`."""
        pairs = zip(predictions, references, strict=True)
        return [float(given.split() == right.split()) for given, right in (map(str.casefold, pair) for pair in pairs)]

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Return the metrics of predictions, without the name of the task, and their number `n`.

        Args:
            predictions: What the model wrote, one text per record. There is at least one.
            references: The answers of the records.
        """
        verdicts = self.verdicts(predictions, references)
        return {self.metric: sum(verdicts) / len(verdicts), "n": len(verdicts)}

    def signatures(self) -> dict[str, str]:
        """Return what the metrics of `score` depend on, such as versions and settings, to be shown beside them."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
