r"""The final answer in a longer text: named steps that run before an answer is scored.

Models that reason before they answer write `... Answer: 20`, `\boxed{20}`, `<answer>20</answer>` or `...</think> 20`.
Scored as it stands, such a text is wrong. Extraction is off unless it is asked for by name, because it changes what is
scored; its name is stored with the score.

A text without the marker is scored unchanged, so that a bare `20` counts as well. `share_extracted` among the metrics
says in how many answers the marker was found.

`program` is of another kind: the text is a small Python program that computes the answer (program of thought). It is
interpreted, never executed (see `programs/`). A program that fails counts as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .programs import program_answer

Extractor = Callable[[str], "str | None"]

_ANSWER = re.compile(r"\banswer[*_`]*[ \t]*[:\uff1a]", re.IGNORECASE)
_ANSWER_IS = re.compile(r"\banswer(?: to (?:the|this) question)? is\b[ \t]*:?", re.IGNORECASE)
_OPENING_TAG = re.compile(r"<answer>", re.IGNORECASE)
_CLOSING_TAG = re.compile(r"</answer>", re.IGNORECASE)
_END_OF_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_BRACE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf)\s*\{([^{}]*)\}")
_MARKUP = "*_` \t"


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return found


def answer_line(text: str) -> str | None:
    """Return what follows the last `Answer:` on its line, or the next line that is not empty.

    Case does not matter, and `Final Answer:` is an `Answer:`. Markdown marks around the answer are dropped.

    Example:
        >>> answer_line("12 + 8 = 20\\n**Answer:** 20")
        '20'
    """
    found = _last(_ANSWER, text)
    if found is None:
        return None
    rest = (line.strip(_MARKUP) for line in text[found.end() :].splitlines())
    return next((line for line in rest if line), "").strip()


def answer_is(text: str) -> str | None:
    """Return what follows the last `answer is` on its line, without the period that ends the sentence.

    Example:
        >>> answer_is("So the answer is 20.")
        '20'
    """
    found = _last(_ANSWER_IS, text)
    if found is None:
        return None
    line = text[found.end() :].partition("\n")[0].strip().strip(_MARKUP)
    return line.removesuffix(".").strip(_MARKUP)


def boxed(text: str) -> str | None:
    r"""Return the content of the last complete `\boxed{...}`, with `\text{...}` and escaped characters as plain text.

    Example:
        >>> boxed(r"Hence $\boxed{\text{Peru}}$.")
        'Peru'
    """
    opened: list[int | None] = []  # where the content of each open brace begins; None for those that are not boxed
    begin, end = -1, -1
    for brace in _BRACE.finditer(text):
        if brace[0] == "}":
            start = opened.pop() if opened else None
            if start is not None and start > begin:
                begin, end = start, brace.start()
        elif brace[0][-1] == "{" and brace[0] != "\\{":
            opened.append(None if brace[0] == "{" else brace.end())
    return None if begin < 0 else _plain(text[begin:end])


def _plain(latex: str) -> str:
    latex = _LATEX_TEXT.sub(r"\1", latex).replace("{,}", ",")
    return re.sub(r"\\([%$#&_{}])|\\[,;:! ]", lambda match: match[1] or "", latex).strip()


def answer_tag(text: str) -> str | None:
    """Return what stands in the last `<answer>...</answer>`. A last tag that is not closed holds the rest of the text.

    Example:
        >>> answer_tag("<think>12 + 8</think><answer> 20 </answer>")
        '20'
    """
    found = _last(_OPENING_TAG, text)
    return None if found is None else _CLOSING_TAG.split(text[found.end() :], maxsplit=1)[0].strip()


def after_think(text: str) -> str | None:
    """Return what follows the last `</think>` or `</thinking>`.

    Example:
        >>> after_think("<think>12 + 8</think> 20")
        '20'
    """
    found = _last(_END_OF_THOUGHT, text)
    return None if found is None else text[found.end() :].strip()


def auto(text: str) -> str | None:
    r"""Apply `after_think`, `answer_tag`, `answer_line` and `boxed` in this order, each to what the one before left.

    Steps that find nothing change nothing. None if no step finds anything.

    Example:
        >>> auto(r"<think>12 + 8</think> The sum is 20. Answer: \boxed{20}")
        '20'
    """
    found = None
    for step in (after_think, answer_tag, answer_line, boxed):
        answer = step(text)
        if answer is not None:
            text = found = answer
    return found


EXTRACTORS: dict[str, Extractor] = {
    "answer_line": answer_line,
    "answer_is": answer_is,
    "boxed": boxed,
    "answer_tag": answer_tag,
    "after_think": after_think,
    "auto": auto,
    "program": program_answer,
}


def extractor_of(extract: str | Extractor | None) -> Extractor | None:
    """Return the function of a named extraction, the callable itself, or None for no extraction.

    Raises:
        ValueError: a name that is not in `EXTRACTORS`; the message lists those that are.
    """
    if extract is None or (callable(extract) and not isinstance(extract, str)):
        return extract
    if not isinstance(extract, str) or extract not in EXTRACTORS:
        raise ValueError(
            f"unknown extraction {extract!r} of answers; known are {', '.join(EXTRACTORS)}, None for no extraction, "
            "or any function of one text"
        )
    return EXTRACTORS[extract]


def extract_name(extract: str | Extractor | None) -> str | None:
    """Return the name that is stored with a score: of a callable its module and qualified name.

    Raises:
        ValueError: an unknown name.
    """
    step = extractor_of(extract)
    if step is None or isinstance(extract, str):
        return extract  # type: ignore[return-value]
    kind = step if hasattr(step, "__qualname__") else type(step)
    return f"{getattr(kind, '__module__', None) or 'builtins'}.{kind.__qualname__}"


def extracted(texts: Iterable[str], extract: str | Extractor | None) -> tuple[list[str], int]:
    r"""Return the answers to score, and in how many of the texts one was found. Other texts stay as they are.

    Args:
        extract: a name from `EXTRACTORS`, a callable that returns the answer in a text or None, or None for no
            extraction.

    Raises:
        ValueError: an unknown name.
        TypeError: a callable returns anything else.

    Example:
        >>> extracted(["The answer is 20. Answer: 20", "21"], "answer_line")
        (['20', '21'], 1)
    """
    step = extractor_of(extract)
    if step is None:
        return list(texts), 0
    answers, found = [], 0
    for text in texts:
        answer = step(text)
        if answer is not None and not isinstance(answer, str):
            raise TypeError(f"extract must return a str or None, and {extract_name(extract)} returned {answer!r}")
        answers.append(text if answer is None else answer)
        found += answer is not None
    return answers, found
