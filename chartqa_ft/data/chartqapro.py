"""The published prompts of ChartQAPro: five types of questions, asked for an answer, for reasoning or for a program.

Source: Masry et al. 2025, arXiv:2504.05506, tables 6 (direct), 7 (chain of thought) and 8 (program of thought). The
typographic quotes around the items of lists are written as straight ones, which scorers read.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

_INTRO = {
    "Factoid": "You are given a factoid question that you need to answer based on the provided image.",
    "Multi Choice": "You are given a question along with different possible answers. You need to select the correct "
    "answer from them based on the provided image.",
    "Hypothetical": "You are given a hypothetical question that you need to answer based on the provided image.",
    "Fact Checking": "You are given a fact statement that you need to assess based on {where}the provided image.",
    "Conversational": "You are given a multi-turn conversation, and your job is to answer the final question based on "
    "the conversation history and the information in the provided image.",
}
_LEAD = {
    "direct": "Your answer should be",
    "cot": "You need to think step-by-step, but your final answer should be",
    "pot": "You need to write an executable python code that calculates and prints the final answer, but your final "
    "answer should be",
}
_PHRASE = "a single word, number, or phrase."
_WANTED = {
    "Multi Choice": "one of the options letters only: a, b, c or d (just the letter itself without any additional "
    "text).",
    "Fact Checking": "either true or false (without any additional text).",
}
_IMAGE = "the information in the provided image"
_UNANSWERABLE = f"If the question is unanswerable based on {_IMAGE}, your answer should be unanswerable."
_UNITS = (
    "Do not generate units. But if numerical units such as million, m, billion, B, or K are required, use the exact "
    "notation shown in the chart."
)
_SEVERAL = "If there are multiple {final}answers, put them in brackets using this format ['Answer1', 'Answer2']."
_END = {
    "direct": "Remember to generate the final answer only without any additional text!",
    "cot": 'Remember to think step-by-step and format the final answer in a separate sentence like "The answer is X"',
    "pot": "Remember to return a python code only without any additional text.",
}

QUESTION_TYPES = tuple(_INTRO)
STYLES = {"direct": None, "cot": "answer_is", "pot": "program"}
"""Styles of prompts, and the extraction that finds the answer in what a model writes (`extract=`)."""


def chartqapro_prompt(question: str, question_type: str, *, style: str = "direct") -> str:
    """Return the published prompt for a question of ChartQAPro.

    Args:
        question: the question as `load_chartqa` gives it: with its paragraph and the earlier turns of a dialogue.
        question_type: one of `QUESTION_TYPES`, in any case.
        style: `"direct"`, `"cot"` (chain of thought) or `"pot"` (program of thought).

    Raises:
        ValueError: the type of question or the style is unknown.

    Example:
        >>> lines = chartqapro_prompt("Tea sold most.", "Fact Checking", style="cot").splitlines()
        >>> print(lines[0])
        You are given a fact statement that you need to assess based on the information in the provided image.
        >>> print(lines[-1])
        Question: Tea sold most.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(map(repr, STYLES))}, and is {style!r}")
    kind = _kind(question_type)
    is_direct = style == "direct"
    intro = _INTRO[kind].format(where="" if is_direct else "the information in ")
    body = f"{_LEAD[style]} {_WANTED.get(kind, _PHRASE)} {_UNANSWERABLE}"
    if kind not in _WANTED:
        body += f" {_UNITS}"
    several = _SEVERAL.format(final="" if is_direct else "final ")
    asked = f"Question: {question}"
    if kind == "Conversational":
        # The turns of a dialogue are lines that begin with their own "Question:".
        has_turns = re.search(r"^Question: .*^Question: ", question, re.MULTILINE | re.DOTALL)
        asked = f"Conversation:\n{question if has_turns else asked}"
    return "\n".join((intro, body, several, _END[style], asked))


def with_chartqapro_prompts(dataset: Any, *, style: str = "direct") -> Any:
    """Return records of ChartQAPro whose questions are the published prompts.

    Ask a model with them as they are, by the template `prompt="{question}"`, and score its answers by
    `variant="chartqapro_official"`, after the extraction that `STYLES` names for the style. Programs are interpreted,
    never executed.

    Args:
        dataset: a `Dataset`, `IterableDataset` or a dictionary of them, with the columns `question` and
            `question_type`.
        style: as in `chartqapro_prompt`.

    Raises:
        ValueError: the style is unknown, there is no column `question_type`, or a type of question is unknown.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"question": ["Most sold?"], "question_type": ["Factoid"]})
        >>> with_chartqapro_prompts(rows)["question"][0].splitlines()[-1]
        'Question: Most sold?'
    """
    chartqapro_prompt("", QUESTION_TYPES[0], style=style)  # an unknown style is refused here, also for a stream
    parts = dataset.values() if hasattr(dataset, "values") else [dataset]
    for part in parts:
        names = part.column_names
        if names is not None and "question_type" not in names:
            raise ValueError("the records have no column 'question_type', which ChartQAPro has: its prompts need it")
    return dataset.map(partial(_prompted, style=style), input_columns=["question", "question_type"])


def _prompted(question: str, question_type: str, *, style: str) -> dict[str, str]:
    return {"question": chartqapro_prompt(question, question_type, style=style)}


def _kind(question_type: object) -> str:
    key = " ".join(re.split(r"[\s_-]+", str(question_type).strip().lower()))
    for kind in QUESTION_TYPES:
        if kind.lower() == key:
            return kind
    raise ValueError(
        f"question_type must be one of {', '.join(map(repr, QUESTION_TYPES))}, and is {str(question_type)!r:.80}"
    )
