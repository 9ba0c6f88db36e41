"""The text of every adapter: questions become prompts, answers become labels, and generated ids become answers."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import torch

from .tasks.task_text import TaskText
from .token_ids import LOCATION

logger = logging.getLogger(__name__)

IGNORE_INDEX = -100
"""Label of a position that is ignored by the loss (the default of `torch.nn.CrossEntropyLoss`)."""


_ORDINARY = re.compile(r"[ -;=-Z\\-z]*")
"""Texts in which no tokenizer reads a control token: printable ASCII characters without brackets."""


class AnswerTooLong(ValueError):
    """An answer has more tokens than the model has positions for it."""


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
    embeddings: int | None
    control_tokens: set[str]
    """Tokens that questions and answers must not contain."""
    reads_places: bool = False
    """Whether they must not contain anything like `<loc_1>` either (`token_ids.LOCATION`)."""
    _control_pattern: tuple[int, re.Pattern[str]] | None = None
    _control_ids: tuple[int, set[int]] | None = None

    def question_text(self, question: str) -> str:
        """Fill a question into the prompt template. Braces in the question are kept.

        Example:
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter_for(*tiny_unichart("test")).question_text("How much is {red}?")
            '<chartqa> How much is {red}? <s_answer>'
        """
        prompt = question.prompt if isinstance(question, TaskText) else self.prompt
        return prompt.replace("{question}", encodable(question))

    def check_question(self, example: Mapping[str, Any]) -> None:
        """Check that a question is text without control tokens, which would end the prompt or stand for a chart.

        Raises:
            ValueError: It is not; the message names the record.
        """
        if "question" not in example:
            columns = ", ".join(repr(name) for name in example)
            raise ValueError(
                f"a record has no 'question', but the columns {columns}: load the data with load_chartqa, or rename "
                "the column of questions to 'question'"
            )
        if not isinstance(example.get("question"), str):
            raise ValueError(
                f"{describe(example)}: the question is {shown(example.get('question'))}, not a str: correct or drop "
                "the record"
            )
        found = self._reserved_in(example["question"])
        if found:
            raise ValueError(
                f"{describe(example)}: the question holds {found!r}, which is a control token of this model: "
                "correct or drop the record"
            )
        read = self._read_as_reserved(example["question"])
        if read:
            raise ValueError(
                f"{describe(example)}: the tokenizer reads {read!r} in the question, which is a control token of this "
                "model: correct or drop the record"
            )

    def control_token_in(self, text: str) -> str | None:
        """Return the first control token that a text contains, or `None`.

        Example:
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter_for(*tiny_unichart("test")).control_token_in("What does <s_answer> mean?")
            '<s_answer>'
        """
        if self._control_pattern is None or self._control_pattern[0] != len(self.control_tokens):
            longest_first = sorted(self.control_tokens - {""}, key=len, reverse=True)
            places = [LOCATION.pattern] if self.reads_places else []
            pattern = "|".join([*(re.escape(token) for token in longest_first), *places]) or "(?!)"
            self._control_pattern = len(self.control_tokens), re.compile(pattern)
        found = self._control_pattern[1].search(text)
        return found[0] if found else None

    def check_texts(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> None:
        """Check all of the texts of records that can be checked without their images, as `encode` does.

        A subclass that encodes answers in its own way extends it. Answers that are empty are not checked.

        Raises:
            ValueError: A record could not be encoded; the message names it.
        """
        for example in examples:
            self.check_question(example)
            if with_answers and example.get("answer") != "":
                self.answer_text(example)

    def check_ids(
        self, examples: Sequence[Mapping[str, Any]], prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> None:
        """Check that the model has an embedding for every token of some texts.

        Raises:
            ValueError: A token was added to the tokenizer only; the message names the record.
        """
        if self.embeddings is None:
            return
        for row, example in enumerate(examples):
            ids = [*prompts[row], *(answers[row] if answers else [])]
            if ids and max(ids) >= self.embeddings:
                token = self.tokenizer.convert_ids_to_tokens(max(ids))
                raise ValueError(
                    f"{describe(example)} holds the token {token!r}, and the model has no embedding for it: call "
                    "chartqa_ft.adapters.vocabulary.grow_vocabulary(model, processor) before training"
                )

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of texts, without special tokens around them."""
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def answer_text(self, example: Mapping[str, Any]) -> str:
        """Return the answer of a record as text.

        Raises:
            ValueError: The record has no answer, or one that is not a text or a number, or that holds a control
                token.
        """
        answer = single_answer(example)
        if answer is None:
            raise ValueError(f"{describe(example)} has no answer to learn")
        text = encodable(str(answer))
        found = self._reserved_in(text)
        closing = getattr(self, "closing", None)  # decoding cuts an answer there
        if found or (closing and closing in text):
            found = found or closing
            raise ValueError(
                f"{describe(example)}: the answer {text!r} holds {found!r}, which no answer can hold because it is a "
                "control token of this model: correct or drop the record"
            )
        return text

    def _reserved_in(self, text: str) -> str | None:
        """Return the unknown token's text or the first control token that a text contains, or `None`."""
        unknown = getattr(self.tokenizer, "unk_token", None)
        return unknown if unknown and unknown in text else self.control_token_in(text)

    def _read_as_reserved(self, text: str) -> str | None:
        """Return a control token that the tokenizer reads in a text which does not spell it, or `None`.

        Normalizers drop invisible characters and replace full-width ones: `<s_\\u200banswer>` may become `<s_answer>`.
        """
        if _ORDINARY.fullmatch(text):
            return None
        reserved = (self.control_ids | self.eos_token_ids) - {self.unknown}
        found = [token for token in self.tokenize([encodable(text)])[0] if token in reserved]
        return self.tokenizer.decode(found[:1]) if found else None

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
        forbidden = self.eos_token_ids | (self.skipped_ids - {self.unknown}) | self.control_ids
        found = [token for token in ids if token in forbidden]
        if found:
            raise ValueError(
                f"{describe(example)}: the answer {example['answer']!r} holds {self.tokenizer.decode(found[:1])!r}, "
                "which no answer can hold because it is a special token of this tokenizer: correct or drop the record"
            )
        return [*ids, eos]

    @property
    def control_ids(self) -> set[int]:
        """The ids of `control_tokens`."""
        if self._control_ids is None or self._control_ids[0] != len(self.control_tokens):
            vocabulary = self.tokenizer.get_vocab()
            ids = {vocabulary[token] for token in self.control_tokens if token in vocabulary}
            self._control_ids = len(self.control_tokens), ids
        return self._control_ids[1]

    def cut_answer(self, example: Mapping[str, Any], answer: list[int], room: int) -> list[int]:
        """Return the first `room` tokens of an answer that is too long, if `on_long_answer` is `"warn"`.

        Raises:
            AnswerTooLong: `on_long_answer` is `"raise"`, or there is no room at all.
        """
        message = (
            f"{describe(example)}: the answer takes {len(answer)} tokens, {room} are left of max_length={self.limit}"
        )
        if self.on_long_answer == "raise" or room < 1:
            raise AnswerTooLong(
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


def single_answer(example: Mapping[str, Any]) -> Any:
    """Return the answer of a record: a text, a number or a date; `None` if it is missing.

    The only item of a list stands for the list. NaN and the missing values of pandas are missing answers.

    Raises:
        ValueError: The answer is a list of several items, bytes, infinite, an int with more digits than Python prints,
            or another object; the message names the record.

    Example:
        >>> single_answer({"answer": ["7"]}), single_answer({"answer": " 7"}), single_answer({"answer": float("nan")})
        ('7', '7', None)
    """
    answer: Any = _plain(example.get("answer"))
    if isinstance(answer, (list, tuple)) and len(answer) < 2:
        answer = _plain(answer[0]) if answer else None
    if isinstance(answer, str):
        return encodable(answer).strip()  # as `decode` returns it
    if _is_missing(answer):
        return None
    if isinstance(answer, (list, tuple, set, frozenset)):
        raise ValueError(
            f"{describe(example)}: the answer {shown(example['answer'])} is a {type(answer).__name__}, which would be "
            "learned with its brackets and quotes: give one text. If each item is right, train on one record per "
            "item, and score with relaxed_accuracy, whose references may be lists"
        )
    if isinstance(answer, (Real, Decimal)):
        return _printable(example, answer)
    if not hasattr(answer, "isoformat"):  # neither a date nor a time
        raise ValueError(
            f"{describe(example)}: the answer {shown(example['answer'])} is a {type(answer).__name__}, which would be "
            "learned as Python prints it: give it as text, or as a number"
        )
    return answer


def _plain(value: Any) -> Any:
    if isinstance(value, np.floating):
        return float(str(value))  # 0.1 in 32 bits is 0.1, not 0.10000000149011612
    if isinstance(value, (np.datetime64, np.timedelta64)):  # their `tolist` may count nanoseconds
        return None if np.isnat(value) else str(value)
    # Of numpy, torch and pandas; a memory view gives the numbers of its bytes.
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, memoryview) else value


def _is_missing(value: Any) -> bool:
    """Return whether a value is `None`, NaN of any type, or what pandas has for a missing value or time."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and math.isnan(value)


def _printable(example: Mapping[str, Any], answer: Any) -> Any:
    """Return a number that is finite and has a form as text."""
    if isinstance(answer, (float, Decimal)) and not math.isfinite(answer):
        raise ValueError(
            f"{describe(example)}: the answer {answer} is not finite, and no prediction equals it: correct or drop "
            "the record"
        )
    try:
        str(answer)
    except ValueError as error:  # an int, or a fraction of such
        raise ValueError(
            f"{describe(example)}: the answer is a number of more than {sys.get_int_max_str_digits()} digits, which "
            "Python does not print: correct or drop the record"
        ) from error
    return answer


def has_answer(example: Mapping[str, Any]) -> bool:
    """Return whether a record has an answer: not None, NaN, a missing value of pandas, or an empty or blank text.

    Example:
        >>> has_answer({"answer": 0}), has_answer({"answer": " "}), has_answer({}), has_answer({"answer": ["7"]})
        (True, False, False, True)
    """
    answer = single_answer(example)
    return answer is not None and answer != ""


def describe(example: Mapping[str, Any]) -> str:
    """Return how error messages name a record: by chart and question.

    Example:
        >>> describe({"chart_id": "17.png", "question": "How much is red?"})
        "record (chart_id='17.png', question='How much is red?')"
    """
    task = "" if example.get("task") in (None, "", "qa") else f", task={shown(example['task'])}"
    return f"record (chart_id={shown(example.get('chart_id'))}, question={shown(example.get('question'))}{task})"


def shown(value: Any) -> str:
    """Return the `repr` of a value for a message; of its type where Python or the value's class refuses one.

    Example:
        >>> shown("a"), shown(10**5000)
        ("'a'", '<int>')
    """
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
