"""The YAML block of a model card: what the Hub reads, with the scores, and the scores back from it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...metrics.correctness import variant_name
from ..public import hub_name, last_part
from .facts import CardFacts, licences, plain

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

CARD_NAME = "README.md"
METRIC = "relaxed_accuracy"
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def metadata(facts: CardFacts) -> ModelCardData:
    from huggingface_hub import ModelCardData

    results, base, dataset = _results(facts), hub_name(facts.base_model), hub_name(facts.dataset)
    adapter = facts.settings.get("adapter")
    stated, name, link = licences(facts), facts.licence_name, facts.licence_link
    if all(_LICENCE.fullmatch(one) for one in stated):
        licence: Any = stated[0] if len(stated) == 1 else stated or "unknown"
    else:  # no identifiers: the Hub takes them by name alone
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
        datasets=[dataset] if dataset else None,
        metrics=[METRIC] if results else None,
        tags=[
            "chartqa_ft",
            "chart-question-answering",
            "visual-question-answering",
            *(["lora"] if facts.kind == "lora" else []),
            *([str(adapter)] if adapter else []),
        ],
        model_name=last_part(facts.name, folders_only=True) if results else None,
        eval_results=results or None,
    )


def read_card(path_or_text: str | Path) -> dict[str, float | int]:
    """The numbers of a card's model-index, as `relaxed_accuracy` gives them: fractions, limits of intervals, n.

    Args:
        path_or_text: a card's file, the folder that holds it, or its text.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the YAML block cannot be read, or a percentage in it is not that of the fraction beside it.
    """
    from huggingface_hub import ModelCard

    if isinstance(path_or_text, Path) or "\n" not in path_or_text:
        path = Path(path_or_text)
        path = path / CARD_NAME if path.is_dir() else path
        path_or_text = path.read_bytes().decode("utf-8-sig")
    metrics: dict[str, float | int] = {}
    for result in ModelCard(path_or_text).data.eval_results or ():
        details = result.metric_args or {}
        if result.metric_type != METRIC or "questions" not in details:
            continue
        part = details["questions"]
        key = METRIC if part == "pooled" else f"{METRIC}_{part}"
        fraction = details["fraction"]
        if _percent(fraction) != result.metric_value:
            raise ValueError(
                f"the card says {result.metric_value} % and {fraction} for {key}: one of them was changed by hand"
            )
        metrics[key] = fraction
        if part != "mean_of_splits":
            metrics["n" if part == "pooled" else f"n_{part}"] = details["n"]
        for end in ("ci_low", "ci_high"):
            if end in details:
                metrics[f"{key}_{end}"] = details[end]
        if "confidence" in details:
            metrics[f"{METRIC}_confidence"] = details["confidence"]
    return metrics


@dataclass(frozen=True)
class Row:
    part: str
    """`human`, `augmented`, `mean_of_splits`, `pooled`, `source_...`, `type_...`."""
    fraction: float
    n: int
    low: float | None
    high: float | None

    @property
    def title(self) -> str:
        return re.sub("^(source|type)_", "", self.part).replace("_", " ")

    @property
    def percent(self) -> str:
        return f"{100 * self.fraction:.2f}"

    @property
    def interval(self) -> str:
        return "" if self.low is None or self.high is None else f"{100 * self.low:.2f} - {100 * self.high:.2f}"


def table_rows(facts: CardFacts) -> list[Row]:
    """What there is to report, in the order of a table. Rows without a finite accuracy or an n are absent."""
    prefix = facts.metric_prefix
    metrics = {
        str(key)[len(prefix) :]: number
        for key, value in facts.metrics.items()
        if str(key).startswith(prefix) and math.isfinite(number := _number(value))
    }
    others = [key[2:] for key in metrics if key.startswith(("n_source_", "n_type_"))]
    rows = []
    for part in ("human", "augmented", *sorted(others), "mean_of_splits", "pooled"):
        key = METRIC if part == "pooled" else f"{METRIC}_{part}"
        names = {"pooled": ["n"], "mean_of_splits": ["n_human", "n_augmented"]}.get(part, [f"n_{part}"])
        if key in metrics and all(name in metrics for name in names):
            n = sum(int(metrics[name]) for name in names)
            rows.append(Row(part, metrics[key], n, metrics.get(f"{key}_ci_low"), metrics.get(f"{key}_ci_high")))
    return rows


def _results(facts: CardFacts) -> list[EvalResult]:
    """The rows for the model-index: percent with two digits, and beside it what it was before it was rounded."""
    from huggingface_hub import EvalResult

    dataset = facts.dataset or "unknown"
    scored = {"variant": variant_name(facts.metric_variant), **plain(facts.decoding), "step": facts.step}
    return [
        EvalResult(
            task_type="visual-question-answering",
            task_name="Chart question answering",
            dataset_type=hub_name(facts.dataset) or last_part(dataset),
            dataset_name=last_part(dataset),
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
        for row in table_rows(facts)
    ]


def confidence_of(facts: CardFacts) -> float:
    return _number(facts.metrics.get(f"{facts.metric_prefix}{METRIC}_confidence", 0.95))


def _percent(fraction: float) -> float:
    return float(f"{100 * fraction:.2f}")


def _number(value: Any) -> float:
    """Numbers of any library as Python's; NaN for all else. Integers stay integers."""
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
