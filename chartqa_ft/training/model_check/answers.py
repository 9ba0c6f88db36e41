"""Line 4: questions that are answered together get the answers that they get alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .report import CheckLine
from .rounding import relative_difference
from .subject import Subject, answers_of

__all__ = ["check_batched_answers", "compare_answers"]


class Compared(NamedTuple):
    """What a comparison of generated answers found."""

    differ: int
    """Number of tokens that differ."""
    tokens: int
    """Number of tokens that were compared."""
    rows: list[int]
    """The rows with other answers."""
    margin: float
    """The largest margin at which two answers part, relative to the spread of the logits; 0 if none do."""


def check_batched_answers(subject: Subject) -> CheckLine:
    """Answer questions of unequal length on charts of unequal size together and alone, greedily and with beams.

    Answers in 16 bits may differ where two tokens are equally likely up to rounding. The scores of the given answers
    are compared as well, since wrong scores need not change the most likely token.
    """
    examples = list(subject.examples)
    batch = subject.collate(examples, answers=False)
    answers = answers_of(subject.collate(examples))
    scores = torch.cat(subject.dictate(batch, answers))
    number, bound = relative_difference(scores, torch.cat(subject.scores_alone())), subject.rounding.values
    tie = subject.rounding.ties
    words, details, fails = [], dict[str, Any](), number > bound
    for name, beams in (("greedy", 1), (f"{subject.num_beams} beams", subject.num_beams)):
        alone = [
            subject.generate(subject.collate([example], answers=False), num_beams=beams)[0] for example in examples
        ]
        together = subject.generate(batch, num_beams=beams)
        found = compare_answers(subject, examples, together, alone, beams=beams)
        details[name] = found._asdict()
        text = f"{name}: {found.differ} of {found.tokens} tokens differ"
        if found.rows:
            is_tie = subject.rounding.is_narrow and found.margin <= tie
            text += (
                f" in {len(found.rows)} answers, which part at a margin of {found.margin:.1e} of the logits' spread"
            )
            text += f" (up to {tie:.1e} is a tie)" if subject.rounding.is_narrow else ""
            fails |= not is_tie
        words.append(text)
    words.append(f"logits of {len(examples)} questions together and alone")
    if fails:
        words.append("An answer depends on what is answered beside it (padding, masks or positions of prompts)")
    return CheckLine(
        "batched_answers",
        "fail" if fails else "pass",
        number,
        bound,
        "\n".join([words[-1], "; ".join(words[:-1])]) if fails else "; ".join(words),
        details,
    )


def compare_answers(
    subject: Subject,
    examples: Sequence[Any],
    found: Sequence[Sequence[int]],
    expected: Sequence[Sequence[int]],
    *,
    beams: int = 1,
) -> Compared:
    """Compare generated answers token by token, and measure how close the choice was where they part.

    For greedy decoding that is the difference of the two logits, for beam search the smaller one of that and the
    difference of the two answers' mean log-probabilities.

    Args:
        subject: The model, which scores both answers of a row that differs.
        examples: The questions.
        found: Ids of the answers.
        expected: Ids of the answers that they should be.
        beams: Number of beams of both.
    """
    padding = subject.adapter.pad_token_id
    differ = tokens = 0
    rows, margins = [], [0.0]
    for row, (one, other) in enumerate(zip(found, expected, strict=True)):
        length = max(len(_cut(one, padding)), len(_cut(other, padding)))
        tokens += length
        places = [place for place in range(length) if one[place] != other[place]]
        differ += len(places)
        if places:
            rows.append(row)
            margins.append(_margin(subject, examples[row], list(one), list(other), places[0], beams))
    return Compared(differ, tokens, rows, max(margins))


def _cut(ids: Sequence[int], padding: int) -> list[int]:
    ids = list(ids)
    while ids and ids[-1] == padding:
        ids.pop()
    return ids


def _margin(subject: Subject, example: Any, one: list[int], other: list[int], place: int, beams: int) -> float:
    padding = subject.adapter.pad_token_id
    batch = subject.collate([example], answers=False)
    answers = [_cut(ids, padding) or ids[:1] for ids in (one, other)]
    scores = [subject.dictate(batch, [answer])[0] for answer in answers]
    step = scores[1][min(place, len(scores[1]) - 1)]
    finite = step[~torch.isneginf(step)]
    spread = float((finite - finite.mean()).square().mean().sqrt()) or 1.0
    margin = abs(float(step[one[place]] - step[other[place]]))
    if beams > 1:
        means = [
            float(row.log_softmax(dim=-1).gather(1, torch.tensor(answer)[:, None]).mean())
            for row, answer in zip(scores, answers, strict=True)
        ]
        margin = min(margin, abs(means[0] - means[1]))
    return margin / spread
