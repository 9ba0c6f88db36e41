"""The tables of a report as HTML: scores, the comparison of two runs, mistakes, and the rules behind them."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.accuracy import source_of
from ..metrics.clustered import chart_numbers
from ..metrics.intervals import mean, paired_comparison
from ..metrics.limits import Group, MeanLimits
from ..metrics.mistakes import ANSWER_RULES, MISTAKE_RULES, QUESTION_RULES
from .report_rows import shown
from .task_rows import MEASURES, QA, task_of

ALL = "all questions"


def score_tables(runs: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str], interval: str = "wilson") -> str:
    """Return a table of each run: accuracy by source, their mean and the pooled accuracy, with intervals.

    Args:
        runs: the rows of each run.
        names: the name of each run; not shown if there is one only.
        interval: the kind of interval, as in `relaxed_accuracy`.
    """
    tables, limits = [], MeanLimits(interval)
    for name, run in zip(names, runs, strict=True):
        known = [row for row in run if row["correct"] is not None]
        groups = _groups(known)
        whole = groups.pop(ALL, None)
        lines = [
            _score_line(part, mean(group.verdicts), limits.of(group), len(group.verdicts))
            for part, group in (groups.items() if len(groups) > 1 else ())
        ]
        if {"human", "augmented"} <= set(groups):
            splits = [groups[part] for part in ("human", "augmented")]
            both = mean([mean(split.verdicts) for split in splits])
            n = sum(len(split.verdicts) for split in splits)
            lines.append(_score_line("mean of splits", both, limits.of_mean(splits), n))
        if whole is not None:
            lines.append(_score_line(ALL, mean(whole.verdicts), limits.of(whole), len(known)))
        unknown = len(run) - len(known)
        if unknown:
            lines.append(["without an answer to compare", "", "", f"{unknown:,}"])
        tables.append(table(["questions", "accuracy [%]", "95 % interval", "n"], lines, name if len(runs) > 1 else ""))
    return f'<div class="columns">{"".join(tables)}</div>'


def task_scores(runs: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> str:
    """Return the mean scores of tasks beside short answers as a table; "" if there are none.

    Args:
        runs: the rows of each run.
        names: the name of each run; not shown if there is one only.
    """
    lines = []
    for name, run in zip(names, runs, strict=True):
        for task in dict.fromkeys(map(task_of, run)):
            scores = [row["correct"] for row in run if task_of(row) == task and row["correct"] is not None]
            if task != QA and scores:
                cells = [shown(task), MEASURES.get(task, "score"), f"{100 * mean(scores):.2f}", f"{len(scores):,}"]
                lines.append([name, *cells] if len(runs) > 1 else cells)
    heads = [*(["run"] if len(runs) > 1 else []), "task", "score of one answer", "mean [%]", "n"]
    return f'<div class="columns">{table(heads, lines, "Other tasks")}</div>' if lines else ""


def _groups(rows: Sequence[Mapping[str, Any]]) -> dict[str, Group]:
    """Return the verdicts by source, and those on all rows as `ALL`."""
    charts = chart_numbers(row["chart_id"] for row in rows)
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        source = source_of(row["source"])
        if source is not None:
            places.setdefault(source, []).append(place)
    found = dict(sorted(places.items(), key=_human_first))
    if rows:
        found[ALL] = list(range(len(rows)))
    return {
        name: Group("" if name == ALL else name, [rows[p]["correct"] for p in those], [charts[p] for p in those])
        for name, those in found.items()
    }


def _human_first(item: tuple[str, Any]) -> tuple[int, str]:
    known = ("human", "augmented")
    return (known.index(item[0]) if item[0] in known else len(known)), item[0]


def _score_line(part: str, accuracy: float, limits: tuple[float, float] | None, n: int) -> list[str]:
    shown_limits = "" if limits is None else f"{100 * limits[0]:.2f} - {100 * limits[1]:.2f}"
    return [part, f"{100 * accuracy:.2f}", shown_limits, f"{n:,}"]


def comparison(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return the section that compares two runs on the same questions: differences with paired intervals.

    Args:
        a, b: the rows of the runs, in the same order.
        names: their names.
    """
    pairs = [(one, other) for one, other in zip(a, b, strict=True) if None not in (one["correct"], other["correct"])]
    groups: dict[str, list[tuple[float, float]]] = {}
    for one, other in pairs:
        source = source_of(one["source"])
        if source is not None:
            groups.setdefault(source, []).append((one["correct"], other["correct"]))
    parts = sorted(groups.items(), key=_human_first) if len(groups) > 1 else []
    lines = []
    for part, verdicts in (*parts, (ALL, [(one["correct"], other["correct"]) for one, other in pairs])):
        if not verdicts:
            continue
        result = paired_comparison(*map(list, zip(*verdicts, strict=True)))
        lines.append(
            [
                part,
                f"{100 * result['difference']:+.2f}",
                f"{100 * result['difference_ci_low']:+.2f} to {100 * result['difference_ci_high']:+.2f}",
                f"{result['p_value']:.3g}",
                f"{result['b_better']:,}",
                f"{result['a_better']:,}",
                f"{result['n']:,}",
            ]
        )
    head = ["questions", "difference [points]", "95 % interval", "p (McNemar)", "better", "worse", "n"]
    body = table(head, lines, f"{names[1]} minus {names[0]}") if lines else "<p>No question has an answer.</p>"
    return (
        f'<section aria-labelledby="comparison"><h2 id="comparison">Comparison</h2>{body}'
        "<p class='note'>Paired by question. The interval is Newcombe's for verdicts of right and wrong, else a "
        "bootstrap; p is that of McNemar's exact test. The filter Change below shows the questions that are better or "
        "worse.</p></section>"
    )


def mistake_tables(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return tables of kinds of mistakes, types of questions and types of answers.

    Args:
        rows: the rows of `report_rows.explained_rows`.
        names: the names of the runs, one or two.
    """
    keys = [("correct", "kind"), ("other_correct", "other_kind")][: len(names)]
    kinds = [
        Counter(row[kind] for row in rows if row[verdict] is not None and row[verdict] < 1) for verdict, kind in keys
    ]
    two = len(names) > 1
    head = ["kind of mistake"]
    for name in names:
        head += [f"{name}: n" if two else "n", f"{name}: % of mistakes" if two else "% of mistakes"]
    lines = []
    for kind in MISTAKE_RULES:
        if any(count[kind] for count in kinds):
            lines.append([kind])
            for count in kinds:
                lines[-1] += [f"{count[kind]:,}", f"{100 * count[kind] / max(1, count.total()):.1f}"]
    tables = [table(head, lines, "Kinds of mistakes")] if lines else []
    for key, caption in (("question_type", "Types of questions"), ("answer_type", "Types of answers")):
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if all(row[verdict] is not None for verdict, _ in keys):
                groups.setdefault(row[key], []).append(row)
        lines = [
            [group, *(f"{100 * mean([row[verdict] for row in those]):.1f}" for verdict, _ in keys), f"{len(those):,}"]
            for group, those in sorted(groups.items(), key=lambda item: -len(item[1]))
        ]
        columns = [f"{name}: accuracy [%]" if two else "accuracy [%]" for name in names]
        if lines:
            tables.append(table([key.replace("_", " "), *columns, "n"], lines, caption))
    return "".join(tables)


def rule_lists() -> str:
    """Return the rules by which questions, answers and mistakes get their types, as lists."""
    lists = []
    for caption, rules in (
        ("Types of questions. A row that names its question_type keeps it. Otherwise the", QUESTION_RULES),
        ("Types of answers. The", ANSWER_RULES),
        ("Kinds of mistakes. The", MISTAKE_RULES),
    ):
        items = "".join(f"<li>{html.escape(name)}: {html.escape(rule)}</li>" for name, rule in rules.items())
        lists.append(f"<p>{caption} first rule that fits decides.</p><ol>{items}</ol>")
    return "".join(lists)


def table(head: Sequence[str], lines: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return an HTML table; all texts are escaped.

    Example:
        >>> table(["n"], [["<b>"]])
        '<div class="scroll"><table><thead>...<td>&lt;b&gt;</td></tr></tbody></table></div>'
    """
    top = f"<caption>{html.escape(shown(caption))}</caption>" if caption else ""
    cells = "".join(f'<th scope="col">{html.escape(shown(cell))}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(shown(cell))}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="scroll"><table>{top}<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
