"""The arguments of the training, read from source: names, types, defaults and help, without importing torch.

Importing `ChartQATrainingArguments` takes seconds. A dataclass with the same fields, which `training_arguments` builds
from the syntax trees of transformers and of this package, is enough for `--help` and to refuse a wrong command line at
once. Whatever has another form than expected raises `UnreadableError`; the caller then imports the real class.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib.util
import operator
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

__all__ = ["UNKNOWN", "UnreadableError", "training_arguments"]


class UnreadableError(Exception):
    """The source has another form than expected."""


class _Unknown(str):
    """A default that only the running program knows."""


UNKNOWN = _Unknown("chosen by the installed packages")
"""The default of a field whose default is not a literal."""
_PLAIN: dict[str, Any] = {
    **{kind.__name__: kind for kind in (str, int, float, bool, list, dict, Path)},
    "Any": Any,
    "Literal": Literal,
    "None": None,
}
_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.USub: operator.neg,
}


@cache
def training_arguments() -> type:
    """Return a dataclass with the fields of `ChartQATrainingArguments`, in the same order.

    Types are those that a parser needs: enumerations have the same values, and classes that a command line cannot give
    are empty. Defaults that are no literals are `UNKNOWN`. Choices that are no literals are left out.

    Raises:
        UnreadableError: The source has another form than expected, or a package is not installed.

    Example:
        >>> fields = {field.name: field for field in dataclasses.fields(training_arguments())}
        >>> fields["learning_rate"].default, fields["warmup_steps"].metadata["help"]
        (5e-05, 'Warm-up steps (recipe: 100); below 1, a share of all steps.')
    """
    upstream = _folder("transformers")
    own = Path(__file__).parents[1]
    base: tuple[type, ...] = ()
    for path, name, above in (
        (upstream / "training_args.py", "TrainingArguments", []),
        (upstream / "training_args_seq2seq.py", "Seq2SeqTrainingArguments", ["TrainingArguments"]),
        (own / "training" / "arguments.py", "ChartQATrainingArguments", ["Seq2SeqTrainingArguments"]),
    ):
        base = (_Module(path).dataclass(name, above, base),)
    return base[0]


def _folder(package: str) -> Path:
    """Return the folder of a package without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise UnreadableError(f"{package} is not installed as a folder")
    return Path(found.submodule_search_locations[0])


class _Module:
    """The syntax tree of a module, and the values of what it defines or imports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.body = ast.parse(path.read_text(encoding="utf-8")).body
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            raise UnreadableError(f"{path}: {error}") from error

    def defined(self, name: str) -> ast.stmt | None:
        """Return the one statement of the module that defines a name; `None` if there is none, or several."""
        found = [node for node in self.body if name in _names(node)]
        return found[0] if len(found) == 1 else None

    def dataclass(self, name: str, above: list[str], bases: tuple[type, ...]) -> type:
        """Return a dataclass with the fields of one of the module's."""
        tree = self.defined(name)
        if not isinstance(tree, ast.ClassDef) or [ast.unparse(base) for base in tree.bases] != above:
            raise UnreadableError(f"{self.path}: no class {name} with the bases {above}")
        decorators = [ast.unparse(decorator) for decorator in tree.decorator_list]
        if "dataclass" not in decorators:
            raise UnreadableError(f"{self.path}: {name} is not a plain dataclass")
        fields = [
            (node.target.id, self.type_of(node.annotation), self.field(node.value))
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        ]
        try:
            return dataclasses.make_dataclass(name, fields, bases=bases)
        except (TypeError, ValueError) as error:
            raise UnreadableError(f"{self.path}: {name}: {error}") from error

    def field(self, node: ast.expr | None) -> Any:
        """Return the `dataclasses.field` of a field's right side."""
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "field":
            return dataclasses.field(default=self.value_or(node, UNKNOWN))
        if node.args or any(part.arg is None for part in node.keywords):
            raise UnreadableError(f"{self.path}, line {node.lineno}: field() has other arguments than expected")
        given = {str(part.arg): part.value for part in node.keywords}
        if not set(given) <= {"default", "default_factory", "metadata", "repr"}:
            raise UnreadableError(f"{self.path}, line {node.lineno}: field() has other arguments than expected")
        settings: dict[str, Any] = {"metadata": self.metadata(given.get("metadata"))}
        if "default" in given:
            settings["default"] = self.value_or(given["default"], UNKNOWN)
        elif ast.unparse(given.get("default_factory", ast.Constant(None))) in ("list", "dict"):
            settings["default_factory"] = {"list": list, "dict": dict}[ast.unparse(given["default_factory"])]
        else:
            raise UnreadableError(f"{self.path}, line {node.lineno}: a field without a plain default")
        return dataclasses.field(**settings)

    def metadata(self, node: ast.expr | None) -> dict[str, Any]:
        """Return the metadata of a field; only its choices may be no literals."""
        if node is None:
            return {}
        if not isinstance(node, ast.Dict):
            return dict(self.value(node))
        found = {}
        for key, value in zip(node.keys, node.values, strict=True):
            name = self.value(key)
            try:
                found[name] = self.value(value)
            except UnreadableError:
                if name != "choices":
                    raise
        return found

    # -------------------------------------------------------------- values
    def value_or(self, node: ast.expr | None, other: Any) -> Any:
        """Return the value of an expression, or `other` if it is no literal."""
        try:
            return self.value(node)
        except UnreadableError:
            return other

    def value(self, node: ast.expr | None, bound: dict[str, Any] | None = None) -> Any:
        """Return the value of an expression of literals, constants and functions that return such an expression.

        Raises:
            UnreadableError: It has other parts.
        """
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple() | ast.Set():
                items = [self.value(item, bound) for item in node.elts]
                return {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)](items)
            case ast.Dict():
                return {
                    self.value(key, bound): self.value(value, bound)
                    for key, value in zip(node.keys, node.values, strict=True)
                }
            case ast.UnaryOp() if type(node.op) in _OPERATORS:
                return _OPERATORS[type(node.op)](self.value(node.operand, bound))
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return _OPERATORS[type(node.op)](self.value(node.left, bound), self.value(node.right, bound))
            case ast.Name() if bound and node.id in bound:
                return bound[node.id]
            case ast.Name():
                return self.constant(node.id)
            case ast.Call(func=ast.Name(id=name)) if not node.keywords:
                return self.returned(name, [self.value(argument, bound) for argument in node.args])
        raise UnreadableError(f"{self.path}: {ast.unparse(node) if node else 'nothing'} is not a literal")

    def constant(self, name: str) -> Any:
        """Return the value of a constant of the module, or of one that it imports from this package."""
        match self.defined(name):
            case ast.Assign(value=value):
                return self.value(value)
            case ast.AnnAssign(value=ast.expr() as value):
                return self.value(value)
            case ast.ImportFrom() as node if node.level:
                return self.imported(node).constant(name)
        raise UnreadableError(f"{self.path}: {name} is not a constant")

    def returned(self, name: str, arguments: list[Any]) -> Any:
        """Return what a function of the module returns that consists of a docstring and one `return`."""
        tree = self.defined(name)
        if isinstance(tree, ast.FunctionDef) and isinstance(tree.body[-1], ast.Return) and len(tree.body) <= 2:
            names = [argument.arg for argument in tree.args.args]
            if len(names) == len(arguments):
                return self.value(tree.body[-1].value, dict(zip(names, arguments, strict=True)))
        raise UnreadableError(f"{self.path}: {name} is not a function of one return")

    def imported(self, node: ast.ImportFrom) -> _Module:
        """Return the module of a relative import."""
        folder = self.path.parents[node.level - 1]
        return _Module(folder.joinpath(*(node.module or "__init__").split(".")).with_suffix(".py"))

    # -------------------------------------------------------------- types
    def type_of(self, node: ast.expr) -> Any:
        """Return the type of an annotation."""
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=str(text)):
                return self.type_of(ast.parse(text, mode="eval").body)
            case ast.Name():
                return _PLAIN[node.id] if node.id in _PLAIN else self.class_of(node.id)
            case ast.BinOp(op=ast.BitOr()):
                return self.type_of(node.left) | self.type_of(node.right)
            case ast.Subscript(value=ast.Name(id="Literal")):
                return Literal[ast.literal_eval(node.slice)]
            case ast.Subscript():
                inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                return self.type_of(node.value)[tuple(map(self.type_of, inside))]
        raise UnreadableError(f"{self.path}: {ast.unparse(node)} is not a plain type")

    def class_of(self, name: str) -> type:
        """Return an enumeration with the values of the one that has this name, or a class that stands for another."""
        tree = self.defined(name)
        if isinstance(tree, ast.ImportFrom) and tree.level and (self.path.parent / f"{tree.module}.py").is_file():
            tree = self.imported(tree).defined(name)
        if not isinstance(tree, ast.ClassDef) or "Enum" not in "".join(map(ast.unparse, tree.bases)):
            return type(name, (), {"__init__": lambda self, *given: None})
        values = {
            part.targets[0].id: self.value(part.value)
            for part in tree.body
            if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name)
        }
        return enum.Enum(name, values)  # type: ignore[return-value]


def _names(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement of a module defines."""
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            yield node.name
        case ast.Import() | ast.ImportFrom():
            yield from ((alias.asname or alias.name) for alias in node.names)
        case ast.Assign():
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
