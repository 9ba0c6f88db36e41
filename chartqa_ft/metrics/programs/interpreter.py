"""A walk through the syntax tree of a program that computes what Python would, for the part of Python listed here.

Statements: assignments (also to several names, to items, and `+=`), expressions, `if`, `for`, `while`, `break`,
`continue`, `pass`. Expressions: numbers, texts, lists, tuples, dicts, list and dict comprehensions, arithmetic,
comparisons, `and`, `or`, `not`, `a if b else c`, indices, slices, simple f-strings, and calls of the functions in
`functions.FUNCTIONS` and of `print`. Everything else is a `ProgramError`: attributes, imports, definitions, other
calls. Nothing is passed to `eval`, `exec` or `compile`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .functions import FUNCTIONS, KEYWORDS
from .limits import CONTAINERS, MAX_DEPTH, MAX_TEXT, Limits, ProgramError
from .operations import binary, compare, formatted, item, set_item, to_text, unary

_LAZY = frozenset({"sum", "min", "max", "sorted"})
"""Functions that take a generator, `sum(x for x in values)`."""


class Interpreter:
    """Run one program.

    Args:
        limits: Counts its steps.

    Attributes:
        names: The variables and their values.
        printed: What was printed.
        line: The line of the statement that runs.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.names: dict[str, Any] = {}
        self.printed = ""
        self.line = 0

    def run(self, program: ast.Module) -> None:
        """Run all statements.

        Raises:
            ProgramError: a part is not supported, or a limit is exceeded. Errors of Python's operators, such as
                `ZeroDivisionError`, are raised as they are.
        """
        check_depth(program)
        if self._block(program.body) is not None:
            raise ProgramError("break or continue outside of a loop")

    # ------------------------------------------------------------------ statements
    def _block(self, body: Sequence[ast.stmt]) -> str | None:
        """Run statements; return "break" or "continue" if one of them ends a round of the loop around it."""
        for statement in body:
            self.limits.spend()
            self.line = statement.lineno
            run = _STATEMENTS.get(type(statement))
            if run is None:
                raise ProgramError(f"{type(statement).__name__} is not supported")
            signal = run(self, statement)
            if signal is not None:
                return signal
        return None

    def _expression(self, node: ast.Expr) -> None:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print":
            self._print(call)
        else:
            self.value(call)

    def _assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self._bind(target, value)

    def _bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Subscript):
            set_item(self.limits, self.value(target.value), self.value(target.slice), value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            values = list(self._items(value))
            if len(values) != len(target.elts):
                raise ProgramError(f"{len(values)} values cannot be assigned to {len(target.elts)} names")
            for part, one in zip(target.elts, values, strict=True):
                self._bind(part, one)
        else:
            raise ProgramError(f"assignment to {type(target).__name__} is not supported")

    def _assign_changed(self, node: ast.AugAssign) -> None:
        kind, target = type(node.op), node.target
        if isinstance(target, ast.Name):
            left = self._variable(target)
            self.names[target.id] = binary(self.limits, kind, left, self.value(node.value), in_place=True)
        elif isinstance(target, ast.Subscript):
            container, index = self.value(target.value), self.value(target.slice)
            left = item(self.limits, container, index)
            changed = binary(self.limits, kind, left, self.value(node.value), in_place=True)
            set_item(self.limits, container, index, changed)
        else:
            raise ProgramError(f"assignment to {type(target).__name__} is not supported")

    def _if(self, node: ast.If) -> str | None:
        return self._block(node.body if self.value(node.test) else node.orelse)

    def _for(self, node: ast.For) -> None:
        _refuse_else(node)
        for value in self._items(self.value(node.iter)):
            self._bind(node.target, value)
            if self._block(node.body) == "break":
                break

    def _while(self, node: ast.While) -> None:
        _refuse_else(node)
        while self.value(node.test):
            self.limits.spend()
            if self._block(node.body) == "break":
                break

    def _print(self, call: ast.Call) -> None:
        if "print" in self.names:
            raise ProgramError("'print' is a variable and cannot be called")
        values, named = self._arguments(call)
        separator, end = (named.get(key, default) for key, default in (("sep", " "), ("end", "\n")))
        if not all(text is None or type(text) is str for text in (separator, end)):
            raise ProgramError("sep and end of print() must be texts")
        texts = [to_text(self.limits, value) for value in values]
        between, after = (" " if separator is None else separator), ("\n" if end is None else end)
        length = sum(map(len, texts)) + len(between) * len(texts) + len(after)
        if len(self.printed) + length > MAX_TEXT:
            raise ProgramError(f"it prints more than {MAX_TEXT} characters")
        self.limits.size(str, len(self.printed) + length, new=length)
        self.printed += between.join(texts) + after

    # ------------------------------------------------------------------ expressions
    def value(self, node: ast.expr) -> Any:
        """Return the value of an expression.

        Raises:
            ProgramError: it is not supported.
        """
        self.limits.spend()
        evaluate = _EXPRESSIONS.get(type(node))
        if evaluate is None:
            raise ProgramError(f"{type(node).__name__} is not supported")
        return evaluate(self, node)

    def _constant(self, node: ast.Constant) -> Any:
        if type(node.value) not in (int, float, str, bool, type(None)):
            raise ProgramError(f"a constant of type {type(node.value).__name__} is not supported")
        self.limits.number(node.value)
        return node.value

    def _variable(self, node: ast.Name) -> Any:
        if node.id not in self.names:
            raise ProgramError(f"the name {node.id!r} has no value")
        return self.names[node.id]

    def _list(self, node: ast.List) -> list[Any]:
        return [self.value(part) for part in node.elts]

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.value(part) for part in node.elts)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise ProgramError("** in a dict is not supported")
            index = self.value(key)
            set_item(self.limits, made, index, self.value(value))
        return made

    def _unary(self, node: ast.UnaryOp) -> Any:
        return unary(self.limits, type(node.op), self.value(node.operand))

    def _binary(self, node: ast.BinOp) -> Any:
        left = self.value(node.left)
        return binary(self.limits, type(node.op), left, self.value(node.right))

    def _logical(self, node: ast.BoolOp) -> Any:
        stops = isinstance(node.op, ast.Or)
        value = None
        for part in node.values:
            value = self.value(part)
            if bool(value) is stops:
                break
        return value

    def _compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for kind, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part)
            if not compare(self.limits, type(kind), left, right):
                return False
            left = right
        return True

    def _choice(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        container = self.value(node.value)
        return item(self.limits, container, self.value(node.slice))

    def _slice(self, node: ast.Slice) -> slice:
        bounds = [None if part is None else self.value(part) for part in (node.lower, node.upper, node.step)]
        if not all(bound is None or isinstance(bound, int) for bound in bounds):
            raise ProgramError("a slice needs integers")
        return slice(*bounds)

    def _text(self, node: ast.JoinedStr) -> str:
        text = ""
        for part in node.values:
            piece = self._formatted(part) if isinstance(part, ast.FormattedValue) else self.value(part)
            self.limits.size(str, len(text) + len(piece))
            text += piece
        return text

    def _formatted(self, node: ast.FormattedValue) -> str:
        value, spec = self.value(node.value), ""
        if node.conversion not in (-1, ord("s"), ord("r")):
            raise ProgramError("!a in an f-string is not supported")
        if node.conversion != -1:
            value = to_text(self.limits, value, conversion=repr if node.conversion == ord("r") else str)
        if node.format_spec is not None:
            parts = node.format_spec.values if isinstance(node.format_spec, ast.JoinedStr) else [node.format_spec]
            if not all(isinstance(part, ast.Constant) for part in parts):
                raise ProgramError("a computed format in an f-string is not supported")
            spec = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
        return formatted(self.limits, value, spec)

    # ------------------------------------------------------------------ comprehensions
    def _list_of(self, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
        made: list[Any] = []
        for _ in self._rounds(node.generators):
            self.limits.size(list, len(made) + 1, new=1)
            made.append(self.value(node.elt))
        return made

    def _dict_of(self, node: ast.DictComp) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for _ in self._rounds(node.generators):
            key = self.value(node.key)
            set_item(self.limits, made, key, self.value(node.value))
        return made

    def _rounds(self, generators: list[ast.comprehension]) -> Iterator[None]:
        """Bind the names of a comprehension round by round. They are its own and end with it."""
        first = self.value(generators[0].iter)
        self.limits.spend(len(self.names))
        outer, self.names = self.names, dict(self.names)
        for generator in generators:
            for node in ast.walk(generator.target):
                self.limits.spend()
                if isinstance(node, ast.Name):
                    self.names.pop(node.id, None)
        yield from self._nested(generators, first)
        self.names = outer

    def _nested(self, generators: list[ast.comprehension], values: Any) -> Iterator[None]:
        generator, *inner = generators
        if generator.is_async:
            raise ProgramError("async is not supported")
        for value in self._items(values):
            self._bind(generator.target, value)
            if all(self.value(test) for test in generator.ifs):
                if inner:
                    yield from self._nested(inner, self.value(inner[0].iter))
                else:
                    yield None

    # ------------------------------------------------------------------ calls
    def _call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            called = node.func.id if isinstance(node.func, ast.Name) else "anything but a name"
            raise ProgramError(f"calling {called} is not supported, only {', '.join(FUNCTIONS)} and print")
        if node.func.id in self.names:
            raise ProgramError(f"{node.func.id!r} is a variable and cannot be called")
        values, named = self._arguments(node)
        made = FUNCTIONS[node.func.id](self.limits, *values, **named)
        self.limits.number(made)
        return made

    def _arguments(self, node: ast.Call) -> tuple[list[Any], dict[str, Any]]:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        only = len(node.args) == 1 and name in _LAZY
        values = [
            self._list_of(part) if only and isinstance(part, ast.GeneratorExp) else self.value(part)
            for part in node.args
        ]
        named: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg not in KEYWORDS.get(name, ()) or keyword.arg in named:
                raise ProgramError(f"{name}() does not support the argument {keyword.arg}")
            named[str(keyword.arg)] = self.value(keyword.value)
        return values, named

    def _items(self, value: Any) -> Iterator[Any]:
        if type(value) not in CONTAINERS:
            raise ProgramError(f"a value of type {type(value).__name__} has no items")
        for one in value:
            self.limits.spend()
            yield one


def _refuse_else(node: ast.For | ast.While) -> None:
    if node.orelse:
        raise ProgramError("else after a loop is not supported")


def check_depth(program: ast.AST) -> None:
    """Check how deep a syntax tree is nested, level by level: walking it uses a few calls for each level.

    Raises:
        ProgramError: it has too many levels.
    """
    level: list[ast.AST] = [program]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise ProgramError(f"it is nested more than {MAX_DEPTH} levels deep")


_STATEMENTS: dict[type[ast.stmt], Callable[[Interpreter, Any], str | None]] = {
    ast.Expr: Interpreter._expression,
    ast.Assign: Interpreter._assign,
    ast.AugAssign: Interpreter._assign_changed,
    ast.If: Interpreter._if,
    ast.For: Interpreter._for,
    ast.While: Interpreter._while,
    ast.Pass: lambda _, node: None,
    ast.Break: lambda _, node: "break",
    ast.Continue: lambda _, node: "continue",
}
_EXPRESSIONS: dict[type[ast.expr], Callable[[Interpreter, Any], Any]] = {
    ast.Constant: Interpreter._constant,
    ast.Name: Interpreter._variable,
    ast.List: Interpreter._list,
    ast.Tuple: Interpreter._tuple,
    ast.Dict: Interpreter._dict,
    ast.UnaryOp: Interpreter._unary,
    ast.BinOp: Interpreter._binary,
    ast.BoolOp: Interpreter._logical,
    ast.Compare: Interpreter._compare,
    ast.IfExp: Interpreter._choice,
    ast.Subscript: Interpreter._subscript,
    ast.Slice: Interpreter._slice,
    ast.JoinedStr: Interpreter._text,
    ast.ListComp: Interpreter._list_of,
    ast.DictComp: Interpreter._dict_of,
    ast.Call: Interpreter._call,
}
