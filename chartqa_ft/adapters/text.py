"""The text side of every adapter: questions become prompts, answers become labels, and generated ids answers again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

logger = logging.getLogger(__name__)

IGNORE_INDEX = -100
"""The label of a position that takes no part in the loss (the convention of `torch.nn.CrossEntropyLoss`)."""


class TextSide:
    """What an `Adapter` does with texts and their ids; see there for what it is made of."""

    tokenizer: Any
    prompt: str
    """How a question is put, with the field `{question}`."""
    on_long_answer: str
    """`"raise"` or `"warn"`."""
    cut_answers: int
    """How many answers have been cut."""
    limit: int
    """The longest prompt + answer that the model takes, in tokens."""
    eos_token_ids: frozenset[int]
    pad_token_id: int
    unknown: int | None
    """The id of the unknown token."""
    skipped_ids: set[int]
    """Ids that are no part of an answer's text."""
    control_tokens: set[str]
    """Tokens that no question may spell."""

    def question_text(self, question: str) -> str:
        """The prompt with the question in its place (braces in a question stay as they are)."""
        return self.prompt.replace("{question}", encodable(question))

    def check_question(self, example: Mapping[str, Any]) -> None:
        """Refuse a question that spells a special token: it would end the prompt, or stand for a chart.

        Raises:
            ValueError: it does; the message names the record.
        """
        spelt = [token for token in self.control_tokens if token in example["question"]]
        if spelt:
            raise ValueError(
                f"{describe(example)}: the question holds {spelt[0]!r}, which is a control token of this model: "
                "correct or drop the record"
            )

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def answer_text(self, example: Mapping[str, Any]) -> str:
        """The answer of a record as text.

        Raises:
            ValueError: it has none.
        """
        if example.get("answer") is None:
            raise ValueError(f"{describe(example)} has no answer: encode it with with_answers=False")
        return encodable(str(example["answer"]))

    def end(self, example: Mapping[str, Any], ids: list[int], eos: int | None = None) -> list[int]:
        """`ids` with one eos at the end (`eos`, where `ids` has none yet; `None`: the tokenizer's). An answer that
        spells a marker or an eos would be learnt up to there."""
        if ids and ids[-1] in self.eos_token_ids:
            ids, eos = ids[:-1], ids[-1]
        elif eos is None:
            eos = self.tokenizer.eos_token_id
        spelt = [token for token in ids if token in self.eos_token_ids or token in self.skipped_ids - {self.unknown}]
        if spelt:
            raise ValueError(
                f"{describe(example)}: the answer {example['answer']!r} holds {self.tokenizer.decode(spelt[:1])!r}, "
                "which no answer can hold because it is a special token of this tokenizer: correct or drop the record"
            )
        return [*ids, eos]

    def cut_answer(self, example: Mapping[str, Any], answer: list[int], room: int) -> list[int]:
        """The first `room` tokens of an answer that is too long, or an error (`on_long_answer`)."""
        message = (
            f"{describe(example)}: the answer takes {len(answer)} tokens, {room} are left of max_length={self.limit}"
        )
        if self.on_long_answer == "raise" or room < 1:
            raise ValueError(f"{message}. Raise max_length, drop the record, or pass on_long_answer='warn' to cut it.")
        self.cut_answers += 1
        logger.warning("%s; it is cut (answers cut so far in this process: %d)", message, self.cut_answers)
        return answer[:room]

    def padded(self, answers: torch.LongTensor) -> torch.LongTensor:
        """Answers (rows, length) with `pad_token_id` behind the first eos: beam search fills up with eos where the
        padding's id is 0, because upstream takes that for none."""
        ends = torch.isin(answers, torch.tensor(sorted(self.eos_token_ids), device=answers.device)).int()
        return answers.masked_fill(ends.cumsum(dim=1) - ends > 0, self.pad_token_id)

    def decode(self, ids: torch.Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Answer ids, shape (rows, length) -> answers: up to the first eos, without special tokens and outer spaces.

        Also takes labels: positions of -100 are passed over.
        """
        return [self.clean(self.tokenizer.decode(self.answer_ids(row))) for row in torch.as_tensor(ids).tolist()]

    def answer_ids(self, row: Sequence[int]) -> list[int]:
        """The ids of one generated row that belong to the answer's text."""
        kept = []
        for token in row:
            if token in self.eos_token_ids:
                break
            if token != IGNORE_INDEX and token not in self.skipped_ids:
                kept.append(token)
        return kept

    def clean(self, text: str) -> str:
        """The last, visible step between decoded text and the scored answer: outer whitespace is dropped."""
        return text.strip()


def encodable(text: str) -> str:
    """`text` with U+FFFD for lone surrogates, which no tokenizer takes; everything else stays as it is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def describe(example: Mapping[str, Any]) -> str:
    """How an error names a record: by chart and question."""
    return f"record (chart_id={example.get('chart_id')!r}, question={example.get('question')!r})"
