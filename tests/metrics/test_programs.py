"""Programs of thought: what Python computes, within limits, and an error for everything else."""

from __future__ import annotations

import contextlib
import io
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chartqa_ft.metrics import (
    EXTRACTORS,
    VARIANTS,
    ProgramError,
    per_example_correctness,
    relaxed_accuracy,
    run_program,
)
from chartqa_ft.metrics.programs import find_program, program_answer
from chartqa_ft.metrics.programs.limits import MAX_PROGRAM

from ..security.fuzzing import fuzz, in_time


# ------------------------------------------------------------------ what is computed
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print(12 + 8)", "20"),
        ("a = 1\nb = a + 0.5\nprint(a, b)", "1 1.5"),
        ("values = {'Peru': 12.5, 'Chile': 10}\nprint(values['Peru'] - values['Chile'])", "2.5"),
        ("v = {'a': 3, 'b': 9}\nbest = 'a'\nfor k in v:\n    if v[k] > v[best]:\n        best = k\nprint(best)", "b"),
        ("v = [3, 9, 4]\nprint(sum(v) / len(v), min(v), max(v), sorted(v)[1], abs(-3), round(2.567, 1))",
         "5.333333333333333 3 9 4 3 2.6"),
        ("print(sum(x for x in [1, 5, 9] if x > 2))", "14"),
        ("print(sorted([3, 1, 2], reverse=True)[:2], max([], default=7))", "[3, 2] 7"),
        ("n = 0\nwhile 1:\n    n += 1\n    if n % 2:\n        continue\n    if n > 9:\n        break\nprint(n)", "10"),
        ("(a, b), c = (1, 2), 3\nd = e = a\nprint(a + b + c + d + e)", "8"),
        ("m = [[1, 2], [3, 4]]\nm[1][0] *= 10\nprint(m)", "[[1, 2], [30, 4]]"),
        ("a = [1]\nb = a\nb += [2]\nprint(a)", "[1, 2]"),
        ("d = {}\nfor w in ['x', 'y', 'x']:\n    d[w] = d[w] + 1 if w in d else 1\nprint(d)", "{'x': 2, 'y': 1}"),
        ("x = 1234.5\nprint(f'{x:,.2f} {50}% {\"a\"!r}')", "1,234.50 50% 'a'"),
        ("print(1 < 2 < 3 and not 1 == 2 or 5, 0 or 'no', None is None)", "True no True"),
        ("x = 5\ny = [x for x in range(3)]\nprint(x, y, {k: k * k for k in y})", "5 [0, 1, 2] {0: 0, 1: 1, 2: 4}"),
        ("print('a', 'b', sep='-', end='!')", "a-b!"),
        ("print('first')\nprint('20')\nprint()", "20"),
        ("max = max([3, 9])\nprint(max)", "9"),
        ("Answer = 7 > 3", "Yes"),
        ("Answer = 7 < 3", "No"),
        ("answer = [2017, 2023]", "[2017, 2023]"),
        ("answer = ['Peru', 'Chile']", "[Peru, Chile]"),
        ("ans = ['Peru']", "Peru"),
        ("ans = 1\nAnswer = 2", "2"),
        ("Answer = 1\nprint(2)", "2"),
    ],
)  # fmt: skip
def test_what_a_program_computes(program: str, expected: str) -> None:
    assert run_program(program) == expected


# ------------------------------------------------------------------ what is not
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        # names, attributes, calls and definitions
        ("import os", "Import is not supported"),
        ("from os import system", "ImportFrom is not supported"),
        ("__import__('os')", "calling __import__ is not supported"),
        ("print(open('/etc/passwd'))", "calling open is not supported"),
        ("eval('1')", "calling eval"),
        ("getattr(1, 'real')", "calling getattr"),
        ("().__class__", "Attribute is not supported"),
        ("print(''.join(['a']))", "calling anything but a name"),
        ("(lambda: 1)()", "calling anything but a name"),
        ("f = sum", "the name 'sum' has no value"),
        ("print(__builtins__)", "the name '__builtins__' has no value"),
        ("sum = 3\nprint(sum([1]))", "line 2: 'sum' is a variable"),
        ("print = 3\nprint(3)", "line 2: 'print' is a variable"),
        ("print(1, file=2)", r"print\(\) does not support the argument file"),
        ("max([1], key=abs)", "does not support the argument key"),
        ("max(**{})", "does not support the argument None"),
        ("def f(): pass", "FunctionDef is not supported"),
        ("class A: pass", "ClassDef"),
        ("x = lambda: 1", "Lambda"),
        ("try:\n    pass\nfinally:\n    pass", "Try"),
        ("with a: pass", "With"),
        ("del x", "Delete"),
        ("match 1:\n    case 1: pass", "Match"),
        ("(y := 3)", "NamedExpr"),
        ("yield 1", "Yield"),
        ("await x", "Await"),
        ("print(*[1])", "Starred"),
        ("{1, 2}", "Set is not supported"),
        ("a, *b = [1, 2]", "assignment to Starred"),
        ("x = [1]\nx[0:1] = [2]", "takes no items at a value of type slice"),
        ("[x async for x in [1]]", "async"),
        ("for x in [1]: pass\nelse: pass", "else after a loop"),
        ("break", "outside of a loop"),
        ("1 << 70", "LShift"),
        ("~1", "Invert"),
        ("b'1'", "constant of type bytes"),
        ("1j", "constant of type complex"),
        ("(-8) ** 0.5", "complex number"),
        ("1 is 1", "`is` is only supported with"),
        # errors of Python
        ("1 / 0", "ZeroDivisionError"),
        ("[1][5]", "IndexError"),
        ("{'a': 1}['b']", "KeyError"),
        ("1 < 'a'", "TypeError"),
        ("1 + 'a'", r"\+ is not supported between a value of type int and a value of type str"),
        ("{[1]: 2}", "TypeError"),
        ("1e308 * 10 // 1\nround(1e308 * 10)", "line 2: OverflowError"),
        ("print(", "SyntaxError"),
        ("\x00", "null bytes"),
        ("\ud800", "UnicodeEncodeError"),
        ("9" * 5000, "SyntaxError"),
        ("a, b = [1, 2, 3]", "3 values cannot be assigned to 2 names"),
        ("[y for x in [1] if y for y in [x]]", "the name 'y' has no value"),
        ("d = {1: 1}\nfor k in d:\n    d[k + 1] = 1", "RuntimeError"),
        # no answer
        ("20", "it prints nothing"),
        ("", "it prints nothing"),
        ("print()", "it prints nothing"),
        ("answer = None", "it prints nothing"),
        # time, memory and the stack
        ("10**10**10", "1024 bits"),
        ("2.0 ** 10**300", "OverflowError"),
        ("x = 2\nwhile True: x = x * x", "1024 bits"),
        ("while True: pass", "too many steps"),
        ("for i in range(10**9): pass", "a range would have"),
        ("for i in range(10**30): pass", "OverflowError"),
        ("1.5 in range(10**9)", "a range would have"),
        ("for i in range(9999):\n    for j in range(9999): pass", "too many steps"),
        ("[0] * 10**9", "a list would have"),
        ("10**9 * (0,)", "a tuple would have"),
        ("('a' * 9999) * 9999", "a str would have"),
        ("x = 'a'\nwhile True: x += x", "a str would have"),
        ("x = [1]\nfor v in x: x += [v]", "too many steps|a list would have"),
        ("x = [1]\nwhile True: x *= 2", "a list would have"),
        ("d = {i: 0 for i in range(2000)}", "a dict would have"),
        ("'%1000000000d' % 1", "% is not supported"),
        ("f'{1:1000000000}'", "the format '1000000000'"),
        ("f'{1:.1000000000f}'", "the format"),
        ("n = 9\nf'{1:{n}}'", "computed format"),
        ("round(5, -10**9)", "decimal places"),
        ("sum([[1]] * 9999, [])", "only supported for numbers"),
        ("x = [0]\nx[0] = x\nprint(x)", "more than 100 levels"),
        ("x = [1]\nfor i in range(60): x = [x, x]\nprint(x)", "too many steps"),
        ("x = [1]\nfor i in range(60): x = [x, x]\nx == x[0]", "too many steps"),
        ("x = [1]\nfor i in range(60): x = [x, x]\nsorted(x)", "too many steps"),
        ("x = ()\nfor i in range(9999): x = (x,)\n{x: 1}", "more than 100 levels"),
        ("x = ()\nfor i in range(9999): x = (x,)\nAnswer = x", "more than 100 levels"),
        ("x = ['a' * 9999] * 9999\nsorted(x)", "too many steps"),
        ("while True: print('a' * 999)", "prints more than"),
        ("(" * 5000, "SyntaxError"),
        ("-" * 5000 + "1", "MemoryError|RecursionError"),
        ("1" + "+1" * 4000, "nested more than|RecursionError"),
        ("1" + "+1" * 150, "nested more than 100 levels"),
        ("x = 1 #" + "a" * MAX_PROGRAM, "more than 10000 characters"),
    ],
)
def test_what_is_refused(program: str, reason: str) -> None:
    with in_time(), pytest.raises(ProgramError, match=reason) as error:
        run_program(program)
    assert len(str(error.value)) < 250


def test_a_program_changes_nothing_outside(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for program in ("open('x', 'w')", "__import__('os').mkdir('x')", "exec('import os')", "breakpoint()", "exit()"):
        with pytest.raises(ProgramError):
            run_program(program)
    assert list(tmp_path.iterdir()) == []


def test_programs_share_no_variables() -> None:
    run_program("x = 5\nprint(x)")
    with pytest.raises(ProgramError, match="the name 'x' has no value"):
        run_program("print(x)")


def test_the_deepest_programs_run_in_threads_and_deep_in_a_stack() -> None:
    program = "print(" + "1+" * 80 + "1)"
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(run_program(program)))
    thread.start()
    thread.join()
    assert found == ["81"]

    def deeper(levels: int) -> str | None:
        return program_answer(program) if not levels else deeper(levels - 1)

    free = sys.getrecursionlimit() - len(__import__("inspect").stack())
    answer = deeper(free - 60)
    assert answer is not None
    assert answer in ("81", "<ProgramError>")


def test_only_a_text_is_a_program() -> None:
    with pytest.raises(TypeError, match="a program is a string, and this is a int"):
        run_program(20)


# ------------------------------------------------------------------ in longer texts
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20", None),
        ("The answer is 20.", None),
        ("```\n20\n```", None),
        ("print(20)", "20"),
        ("a = 12; print(a + 8)", "20"),
        ("if 1 < 2: print('yes')", "yes"),
        ("Let me compute.\n```python\nprint(20)\n```\nDone.", "20"),
        ("```py\nprint(5)\n```\nno:\n```python\nprint(20)\n```", "20"),
        ("```python\nprint(20)", "20"),
        ("```\nprint(20)\n```", "20"),
        ("```python\nprint(20)\n```\n```text\nsome output\n```", "20"),
        ("<step>Y = [12, 8]</step>\n<step>Answer = sum(Y)</step>", "20"),
        ("<step>Y = [12, 8]</step><step>Answer = Y[0] > Y[1]</step>", "Yes"),
        ("answer = 20", "20"),
        ("answer == 20", None),
        ("```python\nimport numpy as np\nprint(1)\n```", "<ProgramError>"),
    ],
)
def test_programs_in_longer_texts(text: str, expected: str | None) -> None:
    assert program_answer(text) == expected
    assert EXTRACTORS["program"](text) == expected


def test_a_block_is_found_without_its_fence() -> None:
    assert find_program("```python\nif 1:\n    print(2)\n```") == "if 1:\n    print(2)"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_program_that_fails_is_wrong_for_every_label(variant: str) -> None:
    labels = ["1", "", "0", "P", "<", "nan", "inf", "[1, 2]", '""', "Peru, and a label of many more words"]
    texts = [f"print({{}}[{label!r}])" for label in labels]
    assert per_example_correctness(predictions=texts, references=labels, variant=variant, extract="program") == (
        [0.0] * len(labels)
    )


def test_programs_run_only_if_asked_for() -> None:
    asked = {"predictions": ["print(12 + 8)", "20", "print(1 / 0)"], "references": ["20", "20", "20"]}
    assert per_example_correctness(**asked) == [0.0, 1.0, 0.0]
    assert per_example_correctness(**asked, extract="auto") == [0.0, 1.0, 0.0]
    metrics = relaxed_accuracy(**asked, extract="program")
    assert (metrics["relaxed_accuracy"], metrics["share_extracted"]) == (2 / 3, 2 / 3)


# ------------------------------------------------------------------ agreement with Python
_NUMBERS = st.one_of(st.integers(-20, 99), st.sampled_from([0.5, 2.25, 12.5, -0.1])).map(str)
_NAMES = st.sampled_from("abc")


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner),
        st.builds("({} ** {})".format, inner, st.integers(-1, 3)),
        st.builds("({} {} {})".format, inner, st.sampled_from(["<", "<=", "==", "!=", ">", "and", "or"]), inner),
        st.builds("({} < {} <= {})".format, inner, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(not {})".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("round({}, {})".format, inner, st.integers(-2, 3)),
        st.builds("abs({})".format, inner),
        st.builds("{}({})".format, st.sampled_from(["sum", "min", "max", "len", "sorted"]), lists),
        st.builds("{}[{}]".format, lists, st.integers(-2, 2)),
        st.builds("{}[{}:{}]".format, lists, st.integers(-2, 2), st.integers(-2, 2)),
        st.builds("sum({} for c in {} if c {} {})".format, inner, lists, st.sampled_from("<>"), inner),
        st.builds("[{} for a in {}]".format, inner, lists),
        st.builds("{{{}: {}}}[{}]".format, inner, inner, inner),
        st.builds("({} in {})".format, inner, lists),
        st.builds("f'{{{}:.2f}}'".format, inner),
        st.builds("({} + {})".format, lists, lists),
        lists,
    )


_VALUES = st.recursive(st.one_of(_NUMBERS, _NAMES), _combined, max_leaves=5)
_LINES = st.one_of(
    st.builds("{} = {}".format, _NAMES, _VALUES),
    st.builds("{} {}= {}".format, _NAMES, st.sampled_from("+-*"), st.one_of(_NUMBERS, _NAMES)),
    st.builds("a, b = {}, {}".format, _VALUES, _VALUES),
    st.builds("if {}:\n    {} = {}\nelse:\n    print({})".format, _VALUES, _NAMES, _VALUES, _NAMES),
    st.builds("for a in [{}, {}, {}]:\n    if {}: break\n    b = {}".format, *[_VALUES] * 5),
    st.builds("for a in range({}):\n    c = {}".format, st.integers(0, 3), _VALUES),
    st.builds("print({}, {})".format, _VALUES, _VALUES),
)


def python(program: str) -> str | None:
    """What Python prints last, or None if it raises."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(program, {})  # programs of the strategies above only
    except Exception:
        return None
    return out.getvalue().strip().splitlines()[-1]


@fuzz(40)
@given(st.lists(_LINES, max_size=5).map(lambda lines: "\n".join(["a, b, c = 3, 1.5, [7]", *lines, "print(a, b, c)"])))
def test_programs_compute_what_python_computes(program: str) -> None:
    expected = python(program)
    try:
        found: str | None = run_program(program)
    except ProgramError:
        found = None
    assert found == expected, program
