"""The text of every adapter: questions become prompts, answers become labels, and generated ids become answers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

logger = logging.getLogger(__name__)

IGNORE_INDEX = -100
"""Label of a position that is ignored by the loss (the default of `torch.nn.CrossEntropyLoss`)."""


class TextSide:
    """The part of an `Adapter` that handles texts and token ids."""

    tokenizer: Any
    prompt: str
    """Template of the prompt, with the field `{question}`."""
    on_long_answer: str
    """`"raise"` or `"warn"`."""
    cut_answers: int
    """Number of answers that have been truncated."""
    limit: int
    """Maximum length of prompt + answer in tokens; `setup` of a family may lower it."""
    eos_token_ids: frozenset[int]
    """Ids that end an answer."""
    pad_token_id: int
    unknown: int | None
    """Id of the unknown token."""
    skipped_ids: set[int]
    """Ids that are not part of the text of an answer."""
    control_tokens: set[str]
    """Tokens that a question must not contain."""

    def question_text(self, question: str) -> str:
        """Fill a question into the prompt template. Braces in the question are kept.

        Example:
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter_for(*tiny_unichart("test")).question_text("How much is {red}?")
            '<chartqa> How much is {red}? <s_answer>'
        """
        return self.prompt.replace("{question}", encodable(question))

    def check_question(self, example: Mapping[str, Any]) -> None:
        """Check that a question contains no control token, which would end the prompt or stand for a chart.

        Raises:
            ValueError: It contains one; the message names the record.
        """
        found = [token for token in self.control_tokens if token in example["question"]]
        if found:
            raise ValueError(
                f"{describe(example)}: the question holds {found[0]!r}, which is a control token of this model: "
                "correct or drop the record"
            )

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of texts, without special tokens around them."""
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def answer_text(self, example: Mapping[str, Any]) -> str:
        """Return the answer of a record as text.

        Raises:
            ValueError: The record has no answer, or one that is not a text or a number.
        """
        if example.get("answer") is None:
            raise ValueError(f"{describe(example)} has no answer to learn")
        if isinstance(example["answer"], (list, tuple, set, frozenset, dict, bytes, bytearray)):
            kind = type(example["answer"]).__name__
            raise ValueError(
                f"{describe(example)}: the answer {example['answer']!r} is a {kind}, which would be learned with its "
                "brackets and quotes: give one text, as load_chartqa does"
            )
        return encodable(str(example["answer"]))

    def answered_rows(
        self, examples: Sequence[Mapping[str, Any]], make: Callable[[list[int]], list[list[int]]]
    ) -> list[list[int]]:
        """Return `make(rows)` for the rows whose answer is not empty, and `[]`, no label, for each of the others."""
        rows = [row for row, example in enumerate(examples) if example.get("answer") != ""]
        answers: list[list[int]] = [[] for _ in examples]
        for row, answer in zip(rows, make(rows) if rows else [], strict=True):
            answers[row] = answer
        return answers

    def end(self, example: Mapping[str, Any], ids: list[int], eos: int | None = None) -> list[int]:
        """Return the ids of an answer with exactly one EOS at the end.

        Args:
            example: The record, for the error message.
            ids: Ids of the answer, with or without EOS.
            eos: The EOS to append if `ids` has none; `None` uses the one of the tokenizer.

        Raises:
            ValueError: The answer contains a special token, so the model would learn only what is before it.
        """
        if ids and ids[-1] in self.eos_token_ids:
            ids, eos = ids[:-1], ids[-1]
        elif eos is None:
            eos = self.tokenizer.eos_token_id
        found = [token for token in ids if token in self.eos_token_ids or token in self.skipped_ids - {self.unknown}]
        if found:
            raise ValueError(
                f"{describe(example)}: the answer {example['answer']!r} holds {self.tokenizer.decode(found[:1])!r}, "
                "which no answer can hold because it is a special token of this tokenizer: correct or drop the record"
            )
        return [*ids, eos]

    def cut_answer(self, example: Mapping[str, Any], answer: list[int], room: int) -> list[int]:
        """Return the first `room` tokens of an answer that is too long, if `on_long_answer` is `"warn"`.

        Raises:
            ValueError: `on_long_answer` is `"raise"`, or there is no room at all.
        """
        message = (
            f"{describe(example)}: the answer takes {len(answer)} tokens, {room} are left of max_length={self.limit}"
        )
        if self.on_long_answer == "raise" or room < 1:
            raise ValueError(
                f"{message}. Raise max_length, drop the record, or pass on_long_answer='warn' to truncate it."
            )
        self.cut_answers += 1
        logger.warning("%s; it is truncated (%d answers truncated so far in this process)", message, self.cut_answers)
        return answer[:room]

    def padded(self, answers: torch.LongTensor) -> torch.LongTensor:
        """Replace everything after the first EOS by `pad_token_id`: int64 of shape (rows, length).

        Beam search pads with EOS if the padding id is 0, which upstream takes for a missing one.
        """
        ends = torch.isin(answers, torch.tensor(sorted(self.eos_token_ids), device=answers.device)).int()
        return answers.masked_fill(ends.cumsum(dim=1) - ends > 0, self.pad_token_id)

    def decode(self, ids: torch.Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Decode answers up to their first EOS, without special tokens and surrounding spaces.

        Args:
            ids: Ids of answers or labels, shape (rows, length). -100 is skipped.

        Example:
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter = adapter_for(*tiny_unichart("test"))
            >>> adapter.decode(adapter.tokenize([" 12.5 %</s> 7"]))
            ['12.5 %']
        """
        return [self.clean(self.tokenizer.decode(self.answer_ids(row))) for row in torch.as_tensor(ids).tolist()]

    def answer_ids(self, row: Sequence[int]) -> list[int]:
        """Return the ids of one generated row that belong to the text of the answer."""
        kept = []
        for token in row:
            if token in self.eos_token_ids:
                break
            if token != IGNORE_INDEX and token not in self.skipped_ids:
                kept.append(token)
        return kept

    def clean(self, text: str) -> str:
        """Return decoded text as the answer to be scored: without surrounding whitespace."""
        return text.strip()


def encodable(text: str) -> str:
    r"""Replace lone surrogates, which no tokenizer accepts, by U+FFFD.

    Example:
        >>> encodable("5 \ud83d %") == "5 \ufffd %"
        True
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def has_answer(example: Mapping[str, Any]) -> bool:
    """Return whether a record has an answer: not None, NaN (a missing value of pandas), or an empty or blank text.

    Example:
        >>> has_answer({"answer": 0}), has_answer({"answer": " "}), has_answer({})
        (True, False, False)
    """
    answer = example.get("answer")
    if isinstance(answer, str):
        return bool(answer.strip())
    return answer is not None and not (isinstance(answer, float) and math.isnan(answer))


def describe(example: Mapping[str, Any]) -> str:
    """Return how error messages name a record: by chart and question.

    Example:
        >>> describe({"chart_id": "17.png", "question": "How much is red?"})
        "record (chart_id='17.png', question='How much is red?')"
    """
    return f"record (chart_id={example.get('chart_id')!r}, question={example.get('question')!r})"
