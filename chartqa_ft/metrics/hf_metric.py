"""Relaxed accuracy as a Hugging Face `evaluate.Metric`, for scripts and tools that use that interface."""

from __future__ import annotations

import json
from collections.abc import Iterable

import datasets
import evaluate

from .accuracy import relaxed_accuracy
from .entries import group_labels, listed, prediction_text, target_texts

_DESCRIPTION = "Relaxed accuracy of chart question answering: numbers within 5 %, other answers equal ignoring case."
_INPUTS = """
Args:
    predictions: the answers, one per question: strings, numbers or None.
    references: the labels, one per question; a list of accepted answers is a label too.
    sources: optionally "human", "augmented" or "unknown" per question.
    variant: as in `chartqa_ft.relaxed_accuracy`, like every other keyword of it. Default: the metric's config name, or
        "pix2struct".
Returns:
    The dict of `chartqa_ft.relaxed_accuracy`.
"""
_CITATION = """@inproceedings{masry-etal-2022-chartqa,
  title = {{C}hart{QA}: A Benchmark for Question Answering about Charts with Visual and Logical Reasoning},
  author = {Masry, Ahmed and Long, Do and Tan, Jia Qing and Joty, Shafiq and Hoque, Enamul},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2022},
  year = {2022},
}"""


class RelaxedAccuracy(evaluate.Metric):
    """Relaxed accuracy with the `add`, `add_batch` and `compute` of any `evaluate` metric.

    `compute()` returns exactly what `relaxed_accuracy` returns for the same questions. No network is needed. Answers
    pass through evaluate's string columns as JSON, so that lists, None and lone surrogates arrive unchanged. The
    source is stored with the label, so that `evaluate.combine` need not know about it.

    Example:
        >>> import tempfile
        >>> metric = RelaxedAccuracy("unichart", cache_dir=tempfile.mkdtemp())
        >>> metric.add_batch(predictions=["0.0", "Peru"], references=["0", "Chile"])
        >>> metric.compute()["relaxed_accuracy"]
        0.5
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")}),
            reference_urls=["https://arxiv.org/abs/2203.10244"],
        )

    def add(self, *, prediction: object, reference: object, source: str | None = None) -> None:
        """Add one answer, its label and, optionally, its source."""
        super().add(
            prediction=_packed_answer(prediction, "prediction"),
            reference=_packed_label(reference, group_labels("source", [source])[0], "reference"),
        )

    def add_batch(
        self,
        *,
        predictions: Iterable[object],
        references: Iterable[object],
        sources: Iterable[str | None] | None = None,
    ) -> None:
        """Add several answers with their labels and, optionally, sources. ValueError if lengths differ."""
        predictions, references = listed("predictions", predictions), listed("references", references)
        sources = [None] * len(references) if sources is None else group_labels("sources", listed("sources", sources))
        if not len(predictions) == len(references) == len(sources):
            raise ValueError(
                f"there are {len(predictions)} predictions, {len(references)} references and {len(sources)} sources; "
                "one of each per question"
            )
        super().add_batch(
            predictions=[_packed_answer(answer, f"predictions[{i}]") for i, answer in enumerate(predictions)],
            references=[
                _packed_label(*pair, f"references[{i}]")
                for i, pair in enumerate(zip(references, sources, strict=True))
            ],
        )

    def compute(
        self,
        *,
        predictions: Iterable[object] | None = None,
        references: Iterable[object] | None = None,
        sources: Iterable[str | None] | None = None,
        **options: object,
    ) -> dict[str, float | int] | None:
        """Return the metrics of everything added since the last `compute`, and of the answers given here."""
        if (predictions is None) != (references is None):
            raise ValueError("compute needs predictions and references, or neither after add or add_batch")
        if predictions is not None and references is not None:
            self.add_batch(predictions=predictions, references=references, sources=sources)
        elif sources is not None:
            raise ValueError("compute takes sources with predictions and references: pass those of add_batch to it")
        return super().compute(**options)

    def _compute(
        self, *, predictions: list[str], references: list[str], variant: str | None = None, **options
    ) -> dict:
        if variant is None:
            variant = "pix2struct" if self.config_name == "default" else self.config_name
        labels = [json.loads(reference) for reference in references]
        return relaxed_accuracy(
            predictions=[json.loads(prediction) for prediction in predictions],
            references=[label for label, _ in labels],
            sources=[source for _, source in labels],
            variant=variant,
            **options,
        )


def _packed_answer(prediction: object, where: str) -> str:
    return json.dumps(prediction_text(prediction, where))


def _packed_label(reference: object, source: str | None, where: str) -> str:
    return json.dumps([target_texts(reference, where), source])
