"""`TaskText`: a question that carries the prompt of its task."""

from __future__ import annotations


class TaskText(str):
    """The question of a record with the prompt template of its task, for methods that take a question as text."""

    prompt: str
    """The template of the prompt."""

    def __new__(cls, text: str, prompt: str) -> TaskText:
        made = super().__new__(cls, text)
        made.prompt = prompt
        return made


def first_part(question: str, length: int) -> str:
    """Return the first characters of a question, without white space at their end, for the same prompt.

    Example:
        >>> first_part("How much is red?", 9)
        'How much'
    """
    part = question[:length].rstrip()
    return TaskText(part, question.prompt) if isinstance(question, TaskText) else part
