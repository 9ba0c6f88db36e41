"""Line 6: questions that share a chart, or are packed into one sequence, are computed as if each were alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .examples import examples_on_one_chart
from .gradients import fresh_gradients, gradient_sample, relative_l2
from .report import CheckLine
from .rounding import in_full, relative_difference
from .subject import Subject, answers_of

__all__ = ["check_shared_charts"]

_NAME = "shared_charts"


def check_shared_charts(subject: Subject) -> CheckLine:
    """Compare logits, gradients and the scores of generation of rows that share a chart with those that do not."""
    adapter = subject.adapter
    if not adapter.groups_charts:
        words = "this family encodes a chart again for each of its questions, which are part of its input"
        return CheckLine(_NAME, "not applicable", words=words)
    rows = examples_on_one_chart(subject.examples)
    separate = subject.collate(rows)
    answers = answers_of(separate)
    expected, expected_gradient = _logits_and_gradient(subject, separate)
    ways = {"shared": subject.collate(rows, group_by_chart=True)}
    if adapter.packs_questions:
        ways["packed"] = subject.collate(rows, group_by_chart=True, pack_questions=True)
    differences: dict[str, dict[str, float]] = {}
    for name, batch in ways.items():
        found, gradient = _logits_and_gradient(subject, batch)
        differences[name] = {
            "logits": relative_difference(found, expected),
            "gradient": relative_l2(gradient, expected_gradient),
        }
    alone, together = (
        torch.cat(subject.dictate(subject.collate(rows, answers=False, group_by_chart=shares), answers))
        for shares in (False, True)
    )
    differences["shared"]["generation"] = relative_difference(together, alone)
    bound = subject.rounding.values
    bounds = {
        "logits": bound,
        "generation": bound,
        "gradient": subject.rounding.gradients,
    }
    # As a multiple of each bound, and shown relative to that of logits.
    number = max(bound * value / bounds[kind] for found in differences.values() for kind, value in found.items())
    fails = [
        f"{way} {kind} ({value:.1e}, at most {bounds[kind]:.1e})"
        for way, found in differences.items()
        for kind, value in found.items()
        if not value <= bounds[kind]
    ]
    words = f"{len(rows)} questions, two of them on one chart; {' and '.join(ways)}: logits, gradients, generation"
    if not adapter.packs_questions:
        words += "; questions are not packed in this family"
    if fails:
        words = f"these differ from charts alone: {', '.join(fails)}. Train with group_by_chart=False"
        if all(fail.startswith("packed") for fail in fails):
            words = f"these differ from charts alone: {', '.join(fails)}. Train with pack_questions=False"
    return CheckLine(_NAME, "fail" if fails else "pass", number, bound, words, {"relative_differences": differences})


def _logits_and_gradient(subject: Subject, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of the answer tokens and the gradient of the mean loss, in training mode without dropout."""
    subject.model.train()
    with fresh_gradients(subject.model):
        losses, outputs = subject.loss(batch)
        logits = in_full(outputs["logits"])
        losses.mean().backward()
        return logits, gradient_sample(subject.model)
