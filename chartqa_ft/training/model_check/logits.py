"""Line 3: the logits that training computes are those that generation chooses from."""

from __future__ import annotations

import torch

from .report import CheckLine
from .rounding import relative_difference
from .subject import Subject, answers_of

__all__ = ["check_training_logits"]


def check_training_logits(subject: Subject) -> CheckLine:
    """Compare the logits of a training batch with the scores of generation, which answers each question alone.

    The batch is computed in evaluation mode and, if the model is not random in it, in training mode.
    """
    batch = subject.collate(subject.examples)
    answers = answers_of(batch)
    generated = torch.cat(subject.scores_alone())
    with subject.answering():
        found = {"evaluation": subject.training_logits(batch)}
    subject.model.train()
    trained = [subject.training_logits(batch) for _ in range(2)]
    words = f"{len(answers)} questions, {len(generated)} answer tokens; in evaluation mode"
    if torch.equal(*trained):
        found["training"] = trained[0]
        words += " and in training mode"
    else:
        words += "; in training mode the model is random, even without dropout"
    differences = {mode: relative_difference(logits, generated) for mode, logits in found.items()}
    number, bound = max(differences.values()), subject.rounding.values
    unwritable = sum(
        bool(torch.isneginf(row[token]))
        for scores, answer in zip(subject.scores_alone(), answers, strict=True)
        for row, token in zip(scores, answer, strict=True)
    )
    if unwritable:
        words = f"generation may never write {unwritable} of the answer tokens (suppressed or bad words); {words}"
    if number > bound:
        words += "\nThe model is trained on other distributions than it answers from (masks, positions, or the prompt)"
    return CheckLine(
        "training_logits",
        "pass" if number <= bound and not unwritable else "fail",
        number,
        bound,
        words,
        {"relative_differences": differences, "unwritable_tokens": unwritable},
    )
