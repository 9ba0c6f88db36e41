"""Texts that need no tokenizer to know that they can be encoded: the scan of all texts leaves them to two searches."""

from __future__ import annotations

import re

from .base import ANSWER_TOKENS, Adapter
from .pixels import unchanged

_PROBE = "Qz7Qz"
_SPARE = 16
"""Number of tokens that a tokenizer may add to a text, such as the mark of its beginning, and more."""
_ENCODING = (
    *("check_texts", "check_ids", "answer_text", "answer_rows", "answers_after", "fitting_answers", "rows"),
    *("question_text", "prompt_text", "prompt_ids", "chat_text", "conversation", "tokenize", "check_length", "end"),
    *("control_token_in", "check_question", "answered_rows", "cut_answer", "cut_question", "clean"),
)


class PlainTexts:
    """Recognizes questions and answers that an adapter can encode, without encoding them.

    These are texts of printable ASCII characters without the beginning of any added token, and so short that they fit
    even if every character is a token. Most questions and answers about charts are such texts. All others have to be
    encoded to find out.

    Args:
        adapter: The adapter. If a subclass or a function of the user encodes texts, no text is taken for plain.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> plain = PlainTexts(adapter_for(*tiny_unichart("test")))
        >>> plain("How much is red?", "7 %"), plain("What is </s>?", "7"), plain("How much?", "7 " * 300)
        (True, False, False)
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter, self.copies = adapter, 1
        added = getattr(adapter.tokenizer, "added_tokens_decoder", {})
        forbidden = adapter.eos_token_ids | (adapter.skipped_ids - {adapter.unknown}) | adapter.control_ids
        has_rows = adapter.embeddings is None or max([len(adapter.tokenizer) - 1, *added]) < adapter.embeddings
        self.room = 0
        """Number of characters of a question, as often as the prompt holds it, and its answer."""
        if has_rows and forbidden <= set(added) and unchanged(adapter, _ENCODING):
            frame, self.copies = _frame(adapter)
            self.room = adapter.limit - frame - _SPARE
        self.answer_room = min(ANSWER_TOKENS, adapter.limit // 4)
        closing = getattr(adapter, "closing", None)
        tokens = {token.content.strip() for token in added.values()} | adapter.control_tokens | {closing or ""}
        parts = [re.escape(token) for token in sorted(tokens - {""}) if token[0] not in "<["]
        self._special = re.compile("|".join(["[^ -~]|[<\\[{]", *parts]))
        self._written = self._characters() if self.room > 0 else frozenset()

    def __call__(self, question: str, answer: str) -> bool:
        """Return whether the record can be encoded; `False` if it is not known."""
        answer_length = max(len(answer), self.answer_room)
        if self.copies * len(question) + answer_length > self.room:
            return False
        return self._special.search(question) is None and self._special.search(answer) is None

    def is_read_back(self, answer: str) -> bool:
        """Return whether decoding the tokens of a plain answer gives the answer; `False` if it is not known."""
        return self._written.issuperset(answer)

    def _characters(self) -> frozenset[str]:
        """Return the printable ASCII characters that decoding gives back."""
        adapter = self.adapter
        if getattr(adapter.tokenizer, "clean_up_tokenization_spaces", False):
            return frozenset()  # it replaces words too
        characters = list(map(chr, range(ord(" "), ord("~") + 1)))
        ids = adapter.tokenize([f" {character}" for character in characters])
        read = [adapter.clean(adapter.tokenizer.decode(adapter.answer_ids(row))) for row in ids]
        return frozenset(char for char, text in zip(characters, read, strict=True) if text == char.strip())


def _frame(adapter: Adapter) -> tuple[int, int]:
    """Return how many tokens a prompt has besides the question, and how often it holds the question."""
    make = getattr(adapter, "prompt_text", adapter.question_text)
    text = make(_PROBE)
    around = sum(len(getattr(adapter, name, ())) for name in ("start", "opening", "lead"))
    return len(adapter.tokenize([text])[0]) + around, max(1, text.count(_PROBE))
