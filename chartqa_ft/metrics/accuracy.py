"""Relaxed accuracy of ChartQA: verdicts of many answers, their aggregation by source, and the table that shows them.

What makes a single answer right is in `variants.py`, how sure a score is in `statistics.py`, the comparison of two
systems in `comparison.py`; their public names are importable from here. Scores are fractions between 0 and 1 in every
dict and percent in tables only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from .correctness import _score, _scorer, as_targets, as_text, to_number, variant_name
from .intervals import (
    bootstrap_means,
    check_confidence,
    mean,
    mean_of_wilson_intervals,
    percentile_interval,
    wilson_interval,
)

__all__ = ["per_example_correctness", "relaxed_accuracy"]

# The question types whose items lmms-eval scores by exact match in ChartQAPro, and the official script does not.
CHOICE_QUESTION_TYPES = frozenset({"fact_checking", "multi_choice"})
_SPLITS = ("human", "augmented")


def per_example_correctness(
    *,
    predictions: Iterable[object],
    references: Iterable[object],
    variant: str = "pix2struct",
    year_flags: Sequence[object] | None = None,
    question_types: Sequence[str | None] | None = None,
    exact_choice: bool = False,
) -> list[float]:
    """`relaxed_correctness` of each (prediction, reference) pair, in order.

    Args:
        year_flags: for `chartqapro`, per question the data set's `Year` value ("YES", "NO", a boolean or a list).
        question_types: for `chartqapro`, the data set's `Question Type` of each question.
        exact_choice: score Fact Checking and Multi Choice questions by exact match, as lmms-eval does and the official
            ChartQAPro script does not. Needs `question_types`.

    Raises:
        ValueError: an unknown variant, unequal lengths (the message names them), or `exact_choice` without types.
        TypeError: a single string where a list of them belongs.
    """
    texts, targets = _texts(predictions, references)
    return _verdicts(
        texts, targets, variant, year_flags=year_flags, question_types=question_types, exact_choice=exact_choice
    )


def _texts(predictions: Iterable[object], references: Iterable[object]) -> tuple[list[str], list[str | list[str]]]:
    for name, given in (("predictions", predictions), ("references", references)):
        if isinstance(given, (str, bytes)):
            raise TypeError(
                f"{name} must be a list with one entry per question, and is the single text {given[:40]!r}"
            )
    texts = [p if type(p) is str else as_text(p) for p in predictions]
    targets = [t if type(t) is str else as_targets(t) for t in references]
    if len(texts) != len(targets):
        raise ValueError(f"there are {len(texts)} predictions and {len(targets)} references; one of each per question")
    return texts, targets


def _same_length(name: str, given: Iterable[object] | None, n: int) -> list[object] | None:
    if given is None:
        return None
    values = list(given)
    if len(values) != n:
        raise ValueError(f"there are {n} predictions and {len(values)} {name}; one of each per question")
    return values


def _verdicts(
    texts: list[str],
    targets: list[str | list[str]],
    variant: str,
    *,
    year_flags: Iterable[object] | None = None,
    question_types: Iterable[object] | None = None,
    exact_choice: bool = False,
) -> list[float]:
    flags = _same_length("year_flags", year_flags, len(texts))
    kinds = _same_length("question_types", question_types, len(texts))
    if exact_choice and kinds is None:
        raise ValueError("exact_choice=True needs question_types, to know which questions are multiple choice")
    scorer = _scorer(variant)
    if variant_name(variant) == "chartqapro" and (flags is not None or exact_choice):
        return [
            _score(
                text,
                target,
                _scorer(
                    variant,
                    year_flags=None if flags is None else flags[i],
                    exact=exact_choice and _slug(kinds[i]) in CHOICE_QUESTION_TYPES,
                ),
            )
            for i, (text, target) in enumerate(zip(texts, targets, strict=True))
        ]
    return [
        scorer(text, target) if type(target) is str else _score(text, target, scorer)
        for text, target in zip(texts, targets, strict=True)
    ]


def _slug(name: object) -> str:
    return re.sub(r"\W+", "_", as_text(name).strip().lower()).strip("_") or "unknown"


def _groups(verdicts: list[float], labels: Iterable[object] | None, prefix: str) -> dict[str, list[float]]:
    """Verdicts by label: key = `human`, `augmented`, or `prefix` + the label in lower case, `_` for other signs."""
    groups: dict[str, list[float]] = {}
    names: dict[object, str | None] = {None: None, "unknown": None, "": None}
    if prefix == "source_":
        names.update({split: split for split in _SPLITS})
    for verdict, label in zip(verdicts, labels or (), strict=labels is not None):
        if label not in names:
            names[label] = prefix + _slug(label)
        name = names[label]
        if name is not None:
            groups.setdefault(name, []).append(verdict)
    return groups


def relaxed_accuracy(
    *,
    predictions: Iterable[object],
    references: Iterable[object],
    sources: Iterable[str | None] | None = None,
    variant: str = "pix2struct",
    confidence: float = 0.95,
    interval: str = "wilson",
    n_resamples: int = 10_000,
    seed: int = 0,
    year_flags: Sequence[object] | None = None,
    question_types: Sequence[str | None] | None = None,
    exact_choice: bool = False,
    diagnostics: bool = True,
) -> dict[str, float | int]:
    """Share of right answers: pooled, by source, and the mean of the two ChartQA splits, with intervals.

    Args:
        predictions, references: one entry per question, as in `relaxed_correctness`.
        sources: `"human"`, `"augmented"` or `"unknown"` (also None) per question. Any other name is a source too.
        variant, year_flags, question_types, exact_choice: as in `per_example_correctness`.
        confidence: of the intervals.
        interval: `"wilson"` (closed form) or `"bootstrap"` (percentiles over `n_resamples` resampled sets of
            questions, drawn with `seed`; for the mean of splits stratified by source, for the pooled figure not).
        diagnostics: also report why answers may have been counted wrong or right.

    Returns:
        A flat dict of floats (fractions) and ints, as a Trainer can log it:

        - `relaxed_accuracy` (pooled over all questions) and `n`;
        - for each source present `relaxed_accuracy_human` and `n_human`, `relaxed_accuracy_augmented` and
          `n_augmented`; `relaxed_accuracy_source_{name}` and `n_source_{name}` for a source of another name. A source
          that is absent has no key. Questions of unknown source count in the pooled figure only;
        - `relaxed_accuracy_mean_of_splits`, what papers call "avg", only if both human and augmented are present. It
          equals the pooled figure on the official test set (1,250 + 1,250) and on no unbalanced subset;
        - for each type in `question_types` `relaxed_accuracy_type_{name}` and `n_type_{name}`;
        - beside each of these accuracies its limits, `..._ci_low` and `..._ci_high`, and their
          `relaxed_accuracy_confidence`. The mean of splits combines the Wilson limits of its parts after Zou & Donner
          2008 (`statistics.mean_of_wilson_intervals`);
        - diagnostics, as shares of all predictions: `share_trailing_dot` (after white space), `share_percent`,
          `share_comma`, `share_dollar` (containing the sign), `share_empty` (nothing but white space),
          `share_unparsable_number` (no number although a label is one); and `accuracy_lenient`,
          `accuracy_strict_year`: the pooled figure under those variants. Lenient a point above the default means
          formatting, not reading; strict_year below it shows what the 5 % tolerance of years gives away.

    Raises:
        ValueError: no questions, unequal lengths (named), an unknown variant or interval, confidence outside (0, 1).
        TypeError: a single string where a list of them belongs.
    """
    check_confidence(confidence)
    if interval not in ("wilson", "bootstrap"):
        raise ValueError(f"interval must be 'wilson' or 'bootstrap', and is {interval!r}")
    texts, targets = _texts(predictions, references)
    if not texts:
        variant_name(variant)
        raise ValueError("relaxed accuracy of no predictions is undefined: the list of predictions is empty")
    sources = _same_length("sources", sources, len(texts))
    kinds = _same_length("question_types", question_types, len(texts))
    verdicts = _verdicts(
        texts, targets, variant, year_flags=year_flags, question_types=kinds, exact_choice=exact_choice
    )
    groups = {"": verdicts, **_groups(verdicts, sources, "source_"), **_groups(verdicts, kinds, "type_")}

    metrics: dict[str, float | int] = {}
    samples = {}
    for name, group in groups.items():
        key = _join("relaxed_accuracy", name)
        metrics[key] = mean(group)
        metrics[_join("n", name)] = len(group)
        if interval == "wilson":
            limits = wilson_interval(metrics[key], len(group), confidence=confidence)
        else:
            samples[name] = bootstrap_means(group, n_resamples=n_resamples, seed=seed, stream=name)
            limits = percentile_interval(samples[name], confidence=confidence)
        metrics[f"{key}_ci_low"], metrics[f"{key}_ci_high"] = limits
    if all(split in groups for split in _SPLITS):
        key = "relaxed_accuracy_mean_of_splits"
        parts = [(metrics[f"relaxed_accuracy_{split}"], len(groups[split])) for split in _SPLITS]
        metrics[key] = math.fsum(accuracy for accuracy, _ in parts) / 2
        if interval == "wilson":
            limits = mean_of_wilson_intervals(parts, confidence=confidence)
        else:
            limits = percentile_interval((samples["human"] + samples["augmented"]) / 2, confidence=confidence)
        metrics[f"{key}_ci_low"], metrics[f"{key}_ci_high"] = limits
    metrics["relaxed_accuracy_confidence"] = confidence
    if diagnostics:
        metrics.update(_diagnostics(texts, targets))
    return metrics


def _join(*parts: str) -> str:
    return "_".join(part for part in parts if part)


def _is_number(text: str) -> bool:
    number = to_number(text)
    return number is not None and math.isfinite(number)


def _diagnostics(texts: list[str], targets: list[str | list[str]]) -> dict[str, float]:
    n = len(texts)
    unparsable = 0
    for text, target in zip(texts, targets, strict=True):
        if to_number(text) is None:
            unparsable += _is_number(target) if type(target) is str else any(map(_is_number, target))
    return {
        "share_trailing_dot": sum(text.rstrip().endswith(".") for text in texts) / n,
        "share_percent": sum("%" in text for text in texts) / n,
        "share_comma": sum("," in text for text in texts) / n,
        "share_dollar": sum("$" in text for text in texts) / n,
        "share_empty": sum(not text or text.isspace() for text in texts) / n,
        "share_unparsable_number": unparsable / n,
        "accuracy_lenient": mean(_verdicts(texts, targets, "lenient")),
        "accuracy_strict_year": mean(_verdicts(texts, targets, "strict_year")),
    }
