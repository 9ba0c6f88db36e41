"""The program in an answer, and the answer that it computes."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from .interpreter import Interpreter
from .limits import MAX_PROGRAM, Limits, ProgramError
from .operations import to_text

FAILED = "<ProgramError>"
"""The answer of a program that fails. It has no part of the program in it, so that no program can make it right."""
ANSWERS = ("Answer", "answer", "ans")
"""Variables that hold the answer of a program that prints nothing."""

_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*$", re.MULTILINE)
_STEP = re.compile(r"<step>(.*?)(?:</step>|$)", re.MULTILINE)
_MARK = re.compile(r"(?:^|[;:])[ \t]*(?:print[ \t]*\(|(?:Answer|answer|ans)[ \t]*=[^=])", re.MULTILINE)
_PYTHON = frozenset({"python", "python3", "py"})
# What Python's parser and operators raise.
_FAILURES = (ArithmeticError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError, ValueError)


def find_program(text: str) -> str | None:
    """Return the program in an answer, or None if there is none.

    It is the last block between lines of three backticks that is marked as Python or looks like a program, else the
    lines between `<step>` and `</step>`, which TinyChart writes, else the whole text if it looks like a program. A
    text looks like a program if a statement in it begins with `print(`, `answer =`, `Answer =` or `ans =`. A last
    block that is not closed holds the rest of the text.

    Example:
        >>> find_program("```python\\nprint(12 + 8)\\n```"), find_program("20")
        ('print(12 + 8)', None)
    """
    found, fences = None, list(_FENCE.finditer(text))
    for opening, closing in zip(fences[::2], [*fences[1::2], None], strict=False):
        block = text[opening.end() : None if closing is None else closing.start()].strip("\n")
        if opening[1].lower() in _PYTHON or _MARK.search(block):
            found = block
    if found is not None:
        return found
    steps = _STEP.findall(text)
    if steps:
        return "\n".join(step.strip() for step in steps)
    return text.strip() if _MARK.search(text) else None


def run_program(program: str) -> str:
    """Return the answer that a program computes. It is interpreted within limits: no code of it is executed.

    The supported part of Python is listed in `interpreter.py`, the limits in `limits.py`. Functions are `sum`, `min`,
    `max`, `len`, `abs`, `round`, `sorted`, `range` and `print`.

    Returns:
        The last line that is printed and not empty, as the prompts of ChartQAPro ask for. Of a program that prints
        nothing, the value of `Answer` (as in TinyChart), `answer` or `ans`: truth values as `Yes` and `No`, a list of
        one item as this item, and other lists in ChartQA's notation, `[2017, 2023]`.

    Raises:
        ProgramError: the program is not supported, fails, exceeds a limit or has no answer. Nothing else is raised for
            any string.
        TypeError: `program` is not a string.

    Example:
        >>> run_program("values = [12, 8, 4]\\nprint(sum(v for v in values if v > 5))")
        '20'
        >>> run_program("print(open('/etc/passwd'))")
        Traceback (most recent call last):
        ...
        chartqa_ft.metrics.programs.limits.ProgramError: line 1: calling open is not supported, only sum, min, max, \
len, abs, round, sorted, range and print
    """
    if not isinstance(program, str):
        raise TypeError(f"a program is a string, and this is a {type(program).__name__}")
    limits = Limits()
    interpreter = Interpreter(limits)
    try:
        interpreter.run(_parsed(program))
        return _answer(interpreter, limits)
    except ProgramError as error:
        raise ProgramError(_with_line(interpreter.line, str(error))) from None
    except _FAILURES as error:
        raise ProgramError(_with_line(interpreter.line, f"{type(error).__name__}: {error}")) from None


def _parsed(program: str) -> ast.Module:
    if len(program) > MAX_PROGRAM:
        raise ProgramError(f"it has more than {MAX_PROGRAM} characters")
    with warnings.catch_warnings():
        # The parser warns of "\d" in a text, which does not concern the user.
        warnings.simplefilter("ignore")
        return ast.parse(program)


def _with_line(line: int, message: str) -> str:
    message = " ".join(message.split())
    return (f"line {line}: " if line else "") + (message if len(message) <= 200 else message[:197] + "...")


def _answer(interpreter: Interpreter, limits: Limits) -> str:
    interpreter.line = 0
    lines = [line.strip() for line in interpreter.printed.splitlines() if line.strip()]
    if lines:
        return lines[-1]
    value = next((interpreter.names[name] for name in ANSWERS if name in interpreter.names), None)
    if value is None:
        raise ProgramError(f"it prints nothing and sets none of {', '.join(ANSWERS)}")
    return _spelled(limits, value)


def _spelled(limits: Limits, value: Any) -> str:
    if type(value) is bool:
        return "Yes" if value else "No"
    if type(value) not in (list, tuple):
        return to_text(limits, value)
    limits.deep(value)
    if len(value) == 1:
        return _spelled(limits, value[0])
    return "[" + ", ".join(_spelled(limits, one) for one in value) + "]"


def program_answer(text: str) -> str | None:
    """Return the answer that the program in a text computes; None if there is no program.

    A program that fails gives `<ProgramError>`, which counts as wrong; `run_program` tells the reason.

    Example:
        >>> program_answer("```python\\nprint(12 + 8)\\n```"), program_answer("20")
        ('20', None)
        >>> program_answer("print(12 / 0)")
        '<ProgramError>'
    """
    program = find_program(text)
    if program is None:
        return None
    try:
        return run_program(program)
    except ProgramError:
        return FAILED
