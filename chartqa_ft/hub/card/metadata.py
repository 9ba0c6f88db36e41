"""The metadata of a model card, which the Hub reads: write the scores to it, and read them back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import read_text
from ...metrics.accuracy import METRIC
from ...metrics.correctness import variant_name
from ...metrics.table import ScoreRow, as_number, table_rows
from ..public import hub_name, short_name, without_folders
from .base_licence import safe_link
from .facts import CardFacts, licences, peft_method, plain

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

CARD_NAME = "README.md"
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def metadata(facts: CardFacts) -> ModelCardData:
    """Return the metadata of a card, with its scores as a model-index.

    Example:
        >>> data = metadata(CardFacts(name="alice/model", kind="lora", base_model="bob/base", licence="mit"))
        >>> data.library_name, data.base_model_relation, data.license
        ('peft', 'adapter', 'mit')
    """
    from huggingface_hub import ModelCardData

    results, base = _results(facts), hub_name(facts.base_model)
    datasets = dict.fromkeys(filter(None, map(hub_name, (facts.dataset, *facts.other_datasets))))
    adapter = facts.settings.get("adapter")
    stated, name, link = licences(facts), facts.licence_name, safe_link(facts.licence_link)
    if all(_LICENCE.fullmatch(one) for one in stated):
        licence: Any = stated[0] if len(stated) == 1 else stated or "unknown"
    else:  # not identifiers of the Hub, which takes other licenses by name only
        words = "-".join(re.sub("[^a-z0-9.-]+", "-", one.lower()).strip("-.") for one in stated).strip("-.")
        licence, name = "other", name or words or "unnamed"
    return ModelCardData(
        license=licence,
        license_name=name if licence == "other" else None,
        license_link=link if licence == "other" else None,
        library_name="peft" if facts.kind == "lora" else "transformers",
        pipeline_tag="image-text-to-text",
        base_model=base,
        base_model_relation=None if base is None else "adapter" if facts.kind == "lora" else "finetune",
        datasets=list(datasets) or None,
        metrics=[METRIC] if results else None,
        tags=[
            "chartqa_ft",
            "chart-question-answering",
            "visual-question-answering",
            *([_tag(method)] if facts.kind == "lora" and (method := peft_method(facts)) else []),
            *([str(adapter)] if adapter else []),
        ],
        model_name=without_folders(facts.name) if results else None,
        eval_results=results or None,
    )


def read_card(path_or_text: str | Path) -> dict[str, float | int]:
    """Read the scores in a card's metadata back, as `relaxed_accuracy` returns them: fractions, intervals and n.

    Args:
        path_or_text: a card's file, the folder that contains it, or its text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the metadata cannot be read or do not end, or a percentage in it does not match the fraction beside
            it; the message names the file.

    Example:
        >>> from chartqa_ft.hub import render_card
        >>> metrics = {"relaxed_accuracy": 0.6624, "n": 2500}
        >>> read_card(render_card(CardFacts(name="alice/model", kind="full", metrics=metrics)))
        {'relaxed_accuracy': 0.6624, 'n': 2500, 'relaxed_accuracy_confidence': 0.95}
    """
    where = "the card"
    try:
        if isinstance(path_or_text, Path) or "\n" not in path_or_text:
            path = Path(path_or_text)
            path = path / CARD_NAME if path.is_dir() else path
            where = str(path)
            path_or_text = read_text(path)
        return _scores(path_or_text)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        raise ValueError(f"the scores in {where} cannot be read: {reason}") from error


def _scores(text: str) -> dict[str, float | int]:
    from huggingface_hub import ModelCard

    from ..yaml_text import card_metadata

    card_metadata(text)  # within bounds, before upstream reads them
    metrics: dict[str, float | int] = {}
    for result in ModelCard(text).data.eval_results or ():
        details = result.metric_args or {}
        if result.metric_type != METRIC or "questions" not in details:
            continue
        part = details["questions"]
        key = METRIC if part == "pooled" else f"{METRIC}_{part}"
        fraction = _number(details, "fraction")
        if _percent(fraction) != result.metric_value:
            raise ValueError(
                f"it says {result.metric_value!r:.60} % and {fraction} for {key}: one of them was changed by hand"
            )
        metrics[key] = fraction
        if part != "mean_of_splits":
            metrics["n" if part == "pooled" else f"n_{part}"] = _number(details, "n")
        for end in ("ci_low", "ci_high"):
            if end in details:
                metrics[f"{key}_{end}"] = _number(details, end)
        if "confidence" in details:
            metrics[f"{METRIC}_confidence"] = _number(details, "confidence")
    return metrics


def _number(details: Mapping[str, Any], name: str) -> float | int:
    value = as_number(details[name])
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a number, and is {details[name]!r:.60}")
    return value


def _results(facts: CardFacts) -> list[EvalResult]:
    """Return the rows of the model-index: percent with two digits, and the unrounded fraction beside it."""
    from huggingface_hub import EvalResult

    dataset = facts.dataset or "unknown"
    scored = {"variant": variant_name(facts.metric_variant), **plain(facts.decoding), "step": facts.step}
    if facts.metric_extract is not None:
        scored["extract"] = facts.metric_extract
    if facts.metric_interval != "wilson":
        scored["interval"] = facts.metric_interval
    return [
        EvalResult(
            task_type="visual-question-answering",
            task_name="Chart question answering",
            dataset_type=hub_name(facts.dataset) or short_name(dataset),
            dataset_name=short_name(dataset),
            dataset_split=facts.eval_split if facts.eval_part is None else facts.eval_part,
            dataset_revision=facts.dataset_revision,
            metric_type=METRIC,
            metric_name=f"Relaxed accuracy, {row.title} (%)",
            metric_value=_percent(row.fraction),
            metric_config=scored["variant"],
            metric_args={
                **scored,
                "questions": row.part,
                "n": row.n,
                "fraction": row.fraction,
                "ci_low": row.low,
                "ci_high": row.high,
                "confidence": confidence_of(facts),
            },
        )
        for row in score_rows(facts)
    ]


def score_rows(facts: CardFacts) -> list[ScoreRow]:
    """Return the rows of the card's table of scores.

    Example:
        >>> facts = CardFacts(name="alice/model", kind="full", metrics={"relaxed_accuracy": 0.6624, "n": 2500})
        >>> [(row.title, row.percent) for row in score_rows(facts)]
        [('pooled', '66.24')]
    """
    return table_rows(facts.metrics, prefix=facts.metric_prefix)


def confidence_of(facts: CardFacts) -> float:
    """Return the confidence level of the card's intervals.

    Example:
        >>> confidence_of(CardFacts(name="alice/model", kind="full"))
        0.95
    """
    return as_number(facts.metrics.get(f"{facts.metric_prefix}{METRIC}_confidence", 0.95))


def _tag(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "peft"


def _percent(fraction: float) -> float:
    return float(f"{100 * fraction:.2f}")
