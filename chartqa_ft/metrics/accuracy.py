"""Relaxed accuracy of ChartQA: the verdicts on many answers, and their means by source and question type.

See `correctness.py` for single answers, `intervals.py` for intervals, `table.py` for tables and `comparison.py` for
comparing two systems. Scores are fractions between 0 and 1 in every dict, and percent only in tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from .answers import as_text, to_number
from .chartqapro import flags_of
from .clustered import chart_numbers
from .correctness import FLAGGED, best_score, scorer_of, variant_name
from .entries import chart_labels, group_labels, listed, prediction_text, target_texts, truth, whole_number
from .extraction import Extractor, extracted
from .intervals import check_confidence, mean
from .limits import INTERVALS, Group, MeanLimits
from .notation import DETECTED, Notation, chosen_variant, to_point

__all__ = ["per_example_correctness", "relaxed_accuracy"]

METRIC = "relaxed_accuracy"
SPLITS = ("human", "augmented")
"""The two halves of ChartQA's splits: questions written by people, and generated ones."""
# The question types of ChartQAPro that lmms-eval scores by exact match, unlike the official script.
CHOICE_QUESTION_TYPES = frozenset({"fact_checking", "multi_choice"})

Item = TypeVar("Item")


def per_example_correctness(
    *,
    predictions: Iterable[object],
    references: Iterable[object],
    variant: str = "pix2struct",
    year_flags: Sequence[object] | None = None,
    question_types: Sequence[str | None] | None = None,
    exact_choice: bool = False,
    extract: str | Extractor | None = None,
) -> list[float]:
    """Return the `relaxed_correctness` of each prediction with its reference, in order.

    Args:
        predictions, references: one entry per question, as in `relaxed_correctness`.
        variant: as in `relaxed_correctness`, or `"detect_decimal_comma"`, which is `decimal_comma` or `pix2struct` as
            all references together decide (see `notation.find_notation`).
        year_flags: for the variants of ChartQAPro, the data set's `Year` value of each question ("YES", "NO", a
            boolean or a list).
        question_types: for the variants of ChartQAPro, the data set's `Question Type` of each question.
        exact_choice: for the variants of ChartQAPro, score Fact Checking and Multi Choice questions by exact match, as
            lmms-eval does and the official script does not. Needs `question_types`.
        extract: a name from `EXTRACTORS` or a callable that finds the answer in each prediction (see `extraction.py`).
            `None` scores predictions as they are.

    Raises:
        ValueError: the variant or extraction is unknown, lengths differ (the message gives them), or
            `exact_choice` is set without `question_types`, or a question has no label.
        TypeError: an argument or an entry of a list is of a wrong type; the message names it.

    Example:
        >>> per_example_correctness(predictions=["104", "Peru", "no"], references=["100", "Chile", "No"])
        [1.0, 0.0, 1.0]
    """
    texts, targets = _texts(predictions, references)
    texts, _ = extracted(texts, extract)
    if variant_name(variant) == DETECTED:
        variant, _ = chosen_variant(DETECTED, targets)
    return _verdicts(
        texts, targets, variant, year_flags=year_flags, question_types=question_types, exact_choice=exact_choice
    )


def _texts(predictions: Iterable[object], references: Iterable[object]) -> tuple[list[str], list[str | list[str]]]:
    texts = [
        p if type(p) is str else prediction_text(p, f"predictions[{i}]")
        for i, p in enumerate(listed("predictions", predictions))
    ]
    targets = [
        t if type(t) is str else target_texts(t, f"references[{i}]")
        for i, t in enumerate(listed("references", references))
    ]
    if len(texts) != len(targets):
        raise ValueError(f"there are {len(texts)} predictions and {len(targets)} references; one of each per question")
    return texts, targets


def _same_length(name: str, given: Iterable[object] | None, n: int) -> list[object] | None:
    if given is None:
        return None
    values = listed(name, given)
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
    if kinds is not None:
        kinds = group_labels("question_types", kinds)
    if truth("exact_choice", exact_choice) and kinds is None:
        raise ValueError("exact_choice=True needs question_types, to know which questions are multiple choice")
    scorer = scorer_of(variant)
    if variant_name(variant) in FLAGGED and (flags is not None or exact_choice):
        if flags is not None:
            flags = [flags_of(flag, f"year_flags[{i}]") for i, flag in enumerate(flags)]
        return [
            best_score(
                text,
                target,
                scorer_of(
                    variant,
                    year_flags=None if flags is None else flags[i],
                    exact=exact_choice and kinds is not None and _slug(kinds[i]) in CHOICE_QUESTION_TYPES,
                ),
            )
            for i, (text, target) in enumerate(zip(texts, targets, strict=True))
        ]
    return [
        scorer(text, target) if type(target) is str else best_score(text, target, scorer)
        for text, target in zip(texts, targets, strict=True)
    ]


def _slug(name: object) -> str:
    return re.sub(r"\W+", "_", as_text(name).strip().lower()).strip("_") or "unknown"


def _groups(items: list[Item], labels: Iterable[object] | None, prefix: str) -> dict[str, list[Item]]:
    """Group verdicts or charts by label: `human`, `augmented`, or `prefix` and the slug of the label."""
    groups: dict[str, list[Item]] = {}
    names: dict[object, str | None] = {None: None}
    for item, label in zip(items, labels or (), strict=labels is not None):
        if label not in names:
            names[label] = _group_name(label, prefix)
        name = names[label]
        if name is not None:
            groups.setdefault(name, []).append(item)
    return groups


def source_of(label: object) -> str | None:
    """Return the name of a source: `human` and `augmented` in any case, other names unchanged, None if unknown.

    Example:
        >>> source_of(" Human"), source_of("My set"), source_of("Unknown")
        ('human', 'My set', None)
    """
    folded = "" if label is None else as_text(label).strip().lower()
    if folded in ("", "unknown"):
        return None
    return folded if folded in SPLITS else as_text(label)


def _group_name(label: object, prefix: str) -> str | None:
    name = source_of(label)
    if name is None or (prefix == "source_" and name in SPLITS):
        return name
    return prefix + _slug(label)


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
    year_flags: Iterable[object] | None = None,
    question_types: Iterable[str | None] | None = None,
    exact_choice: bool = False,
    diagnostics: bool = True,
    extract: str | Extractor | None = None,
    chart_ids: Iterable[object] | None = None,
) -> dict[str, float | int]:
    """Return the share of right answers: pooled, by source, and the mean of ChartQA's two splits, with intervals.

    Args:
        predictions, references: one entry per question, as in `relaxed_correctness`.
        sources: `"human"`, `"augmented"` or `"unknown"` (or None) per question, in any case and with outer white
            space. Any other name is a source too.
        variant, year_flags, question_types, exact_choice, extract: as in `per_example_correctness`.
        confidence: the confidence level of the intervals.
        interval: `"wilson"` (closed form), `"bootstrap"` (percentiles over `n_resamples` resampled sets of
            questions, drawn with `seed`; stratified by source for the mean of splits, but not for the pooled figure),
            or `"clustered"` (sandwich estimate for questions that share charts, see `clustered.py`).
        chart_ids: the chart of each question, for `"clustered"`. Questions without one (None or "") count as being on
            charts of their own.
        diagnostics: also report why answers may have been counted wrong or right.

    Returns:
        A flat dict of floats (fractions) and ints, as a Trainer can log it:

        - `relaxed_accuracy` (pooled over all questions) and `n`;
        - for each source present, `relaxed_accuracy_human` and `n_human`, `relaxed_accuracy_augmented` and
          `n_augmented`, or `relaxed_accuracy_source_{name}` and `n_source_{name}` for any other source. Questions of
          unknown source count only in the pooled figure;
        - `relaxed_accuracy_mean_of_splits`, what papers call "avg", only if both human and augmented are present. It
          equals the pooled figure on the official test set (1,250 + 1,250), but not on unbalanced subsets;
        - for each type in `question_types`, `relaxed_accuracy_type_{name}` and `n_type_{name}`;
        - the limits of each of these accuracies, `..._ci_low` and `..._ci_high`, and `relaxed_accuracy_confidence`.
          The mean of splits combines the Wilson limits of its parts after Zou & Donner 2008 (see
          `intervals.mean_of_wilson_intervals`);
        - diagnostics, as shares of all predictions: `share_trailing_dot` (after white space), `share_percent`,
          `share_comma`, `share_dollar` (containing that character), `share_empty` (only white space),
          `share_unparsable_number` (not a number although a label is one); and `accuracy_lenient`,
          `accuracy_strict_year`: the pooled figure under those variants. A lenient score above the default points to
          formatting rather than reading; a strict_year score below it shows what the 5 % tolerance on years hides;
        - `share_decimal_comma`, the share of labels that are numbers with a decimal comma, if there are any. A warning
          is logged if the variant does not read them. For `detect_decimal_comma`, `read_decimal_comma` is 1.0 if it
          found decimal commas, else 0.0;
        - with `extract`, `share_extracted`: the share of predictions in which an answer was found. The others are
          scored unchanged;
        - with clustered intervals, `n_charts`. A group of questions that are all on one chart has no limits.

    Raises:
        ValueError: there are no questions, lengths differ (the message gives them), the variant or interval is
            unknown, a number is out of range, or a question has no label.
        TypeError: an argument or an entry of a list is of a wrong type; the message names it.

    Example:
        >>> metrics = relaxed_accuracy(
        ...     predictions=["104", "Peru"], references=["100", "Chile"], sources=["human", "augmented"]
        ... )
        >>> metrics["relaxed_accuracy"], metrics["relaxed_accuracy_human"], metrics["n"]
        (0.5, 1.0, 2)
    """
    confidence = check_confidence(confidence)
    n_resamples, seed = whole_number("n_resamples", n_resamples, 1), whole_number("seed", seed, 0)
    diagnostics = truth("diagnostics", diagnostics)
    if not isinstance(interval, str) or interval not in INTERVALS:
        raise ValueError(f"interval must be 'wilson', 'bootstrap' or 'clustered', and is {interval!r}")
    if interval == "clustered" and chart_ids is None:
        raise ValueError("interval='clustered' needs chart_ids=, the chart of each question")
    texts, targets = _texts(predictions, references)
    if not texts:
        variant_name(variant)
        raise ValueError("relaxed accuracy of no predictions is undefined: the list of predictions is empty")
    labels = _same_length("sources", sources, len(texts))
    kinds = _same_length("question_types", question_types, len(texts))
    charts = _same_length("chart_ids", chart_ids, len(texts))
    labels = None if labels is None else group_labels("sources", labels)
    kinds = None if kinds is None else group_labels("question_types", kinds)
    texts, found = extracted(texts, extract)
    chosen, notation = chosen_variant(variant_name(variant), targets)
    verdicts = _verdicts(
        texts, targets, chosen, year_flags=year_flags, question_types=kinds, exact_choice=exact_choice
    )
    numbers = chart_numbers(chart_labels(charts or []))
    clusters = {"": numbers}
    if interval == "clustered":
        clusters |= {**_groups(numbers, labels, "source_"), **_groups(numbers, kinds, "type_")}
    groups = {"": verdicts, **_groups(verdicts, labels, "source_"), **_groups(verdicts, kinds, "type_")}

    metrics: dict[str, float | int] = {}
    limits_by = MeanLimits(interval, confidence, n_resamples, seed)
    for name, group in groups.items():
        key = _join(METRIC, name)
        metrics[key] = mean(group)
        metrics[_join("n", name)] = len(group)
        limits = limits_by.of(Group(name, group, clusters.get(name, ())))
        if limits is not None:
            metrics[f"{key}_ci_low"], metrics[f"{key}_ci_high"] = limits
    if all(split in groups for split in SPLITS):
        key = f"{METRIC}_mean_of_splits"
        metrics[key] = math.fsum(metrics[f"{METRIC}_{split}"] for split in SPLITS) / 2
        limits = limits_by.of_mean([Group(split, groups[split], clusters.get(split, ())) for split in SPLITS])
        if limits is not None:
            metrics[f"{key}_ci_low"], metrics[f"{key}_ci_high"] = limits
    metrics[f"{METRIC}_confidence"] = confidence
    if interval == "clustered":
        metrics["n_charts"] = len(set(numbers))
    if extract is not None:
        metrics["share_extracted"] = found / len(texts)
    if variant_name(variant) == DETECTED:
        metrics["read_decimal_comma"] = float(chosen == "decimal_comma")
    if diagnostics:
        metrics.update(_diagnostics(texts, targets, chosen, notation))
    return metrics


def _join(*parts: str) -> str:
    return "_".join(part for part in parts if part)


def _is_number(text: str) -> bool:
    number = to_number(text)
    return number is not None and math.isfinite(number)


def _diagnostics(
    texts: list[str], targets: list[str | list[str]], variant: str, notation: Notation
) -> dict[str, float]:
    n = len(texts)
    shares = {
        "share_trailing_dot": sum(text.rstrip().endswith(".") for text in texts) / n,
        "share_percent": sum("%" in text for text in texts) / n,
        "share_comma": sum("," in text for text in texts) / n,
        "share_dollar": sum("$" in text for text in texts) / n,
        "share_empty": sum(not text or text.isspace() for text in texts) / n,
    }
    if notation.comma:
        shares["share_decimal_comma"] = notation.comma / n
    if variant == "decimal_comma":
        # The variants below read numbers with a decimal point.
        texts = [to_point(text) or text for text in texts]
        targets = [
            to_point(target) or target if isinstance(target, str) else [to_point(item) or item for item in target]
            for target in targets
        ]
    unparsable = 0
    for text, target in zip(texts, targets, strict=True):
        if to_number(text) is None:
            unparsable += _is_number(target) if isinstance(target, str) else any(map(_is_number, target))
    return {
        **shares,
        "share_unparsable_number": unparsable / n,
        "accuracy_lenient": mean(_verdicts(texts, targets, "lenient")),
        "accuracy_strict_year": mean(_verdicts(texts, targets, "strict_year")),
    }
