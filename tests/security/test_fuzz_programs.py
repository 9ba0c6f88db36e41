"""Programs in answers: whatever a model writes, there is an answer or a `ProgramError`, and soon."""

from __future__ import annotations

import ast

from hypothesis import given
from hypothesis import strategies as st

from chartqa_ft.metrics import ProgramError, run_program
from chartqa_ft.metrics.programs import program_answer

from .fuzzing import fuzz, in_time, texts

SNIPPETS = [
    "x", "y", "1", "0", "-1", "10**10", "1e308", "'a'", "[x, x]", "(x,)", "{x: y}", "[0] * 9999", "'a' * 9999", "None",
    "True", "x[0]", "x[0:2]", "x[::-1]", "x.y", "x()", "print(x)", "f'{x}'", "f'{x:.2f}'", "f'{x!r:>9}'", "lambda: x",
    "[x for x in y]", "{x: x for x in y}", "(x for x in y)", "x if y else x", "not x", "x ** y", "x * y", "*x",
    "x @ y", "x in y", "x is y", "range(x)", "sum(x)", "min(x, y)", "max(x, default=y)", "sorted(x, reverse=y)",
    "round(x, y)", "len(x)", "abs(x)", "open(x)", "__import__('os')", "(x := y)", "(yield x)", "await x", "...",
    "1j", "b''", "{1, 2}",
]  # fmt: skip
STATEMENTS = [
    "x = {}", "y = {}", "x, y = {}", "x[0] = {}", "y['a'] = {}", "x += {}", "x *= {}", "x **= {}", "x[0] += {}",
    "for x in {}: y = [y, x]", "while {}: x = [x]", "while {}: x += x",
    "if {}: x = y", "print({})", "Answer = {}", "{}",
    "for i in range(99): x = [x, x]", "for i in range(99): y = (y, {})", "del {}", "import {}", "def f(): {}",
    "try: {}\nfinally: pass", "return {}", "assert {}", "x: int = {}",
    "for x in {}: break", "continue", "pass",
]  # fmt: skip
LINES = st.builds(str.format, st.sampled_from(STATEMENTS), st.sampled_from(SNIPPETS))


def attempt(program: str) -> None:
    with in_time():
        try:
            answer = run_program(program)
        except ProgramError as error:
            answer = str(error)
        found = program_answer(program)
    assert answer
    assert len(answer) <= 10_000
    assert found is None or isinstance(found, str)


@fuzz(100)
@given(st.lists(LINES, max_size=8).map(lambda lines: "\n".join(["x, y = [1, 2], 3", *lines])))
def test_programs_of_any_pieces(program):
    attempt(program)


@fuzz(100)
@given(texts())
def test_any_text(text):
    attempt(text)
    attempt(f"print({text!r}, {text})")


@fuzz(100)
@given(st.data())
def test_any_syntax_tree_around_any_values(data):
    """Every kind of expression and statement that Python has, in a loop that grows its values."""
    values = data.draw(st.lists(st.sampled_from(SNIPPETS), min_size=2, max_size=4))
    body = data.draw(LINES).replace("\n", "\n        ")
    attempt(f"x = y = {values[0]}\nfor i in range(999):\n    if {values[1]}:\n        {body}\n    y = {values[-1]}")


def test_the_pieces_are_python():
    for snippet in SNIPPETS:
        ast.parse(f"print({snippet})")
    assert sum(_runs(f"x, y = [1, 2], [3]\nprint({snippet})") for snippet in SNIPPETS) > 15


def _runs(program):
    try:
        return bool(run_program(program))
    except ProgramError:
        return False
