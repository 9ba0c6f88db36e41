"""Operators of programs, on values whose types and sizes are checked first."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

from .limits import CONTAINERS, MAX_BITS, NUMBERS, SEQUENCES, Limits, ProgramError

BINARY: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add, operator.iadd),
    ast.Sub: ("-", operator.sub, operator.isub),
    ast.Mult: ("*", operator.mul, operator.imul),
    ast.Div: ("/", operator.truediv, operator.itruediv),
    ast.FloorDiv: ("//", operator.floordiv, operator.ifloordiv),
    ast.Mod: ("%", operator.mod, operator.imod),
    ast.Pow: ("**", operator.pow, operator.ipow),
}
UNARY: dict[type[ast.unaryop], tuple[str, Callable[[Any], Any]]] = {
    ast.UAdd: ("+", operator.pos),
    ast.USub: ("-", operator.neg),
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
# Widths are left out: f"{1:1000000000}" is a text of a gigabyte.
_FORMAT = re.compile(r",?(?:\.[0-9]{1,2})?[deEfFgG%]?")


def binary(limits: Limits, kind: type[ast.operator], left: Any, right: Any, *, in_place: bool = False) -> Any:
    """Return the result of an arithmetic operator.

    Args:
        in_place: Change a list on the left, as `+=` and `*=` do.

    Raises:
        ProgramError: the operator or the types are not supported, or the result would be too large.
    """
    if kind not in BINARY:
        raise ProgramError(f"the operator {kind.__name__} is not supported")
    sign, plain, changing = BINARY[kind]
    if isinstance(left, NUMBERS) and isinstance(right, NUMBERS):
        if kind is ast.Pow:
            _check_power(left, right)
        value = plain(left, right)
        limits.number(value)
        return value
    extends = in_place and type(left) is list and type(right) in CONTAINERS
    if kind is ast.Add and (extends or (type(left) is type(right) and type(left) in (str, list, tuple))):
        limits.size(type(left), len(left) + len(right))
    elif kind is ast.Mult and type(left) in (str, list, tuple) and isinstance(right, int):
        limits.size(type(left), len(left) * max(right, 0))
    elif kind is ast.Mult and isinstance(left, int) and type(right) in (str, list, tuple):
        limits.size(type(right), len(right) * max(left, 0))
    else:
        raise ProgramError(f"{sign} is not supported between {_name(left)} and {_name(right)}")
    return (changing if in_place else plain)(left, right)


def _check_power(base: float, exponent: float) -> None:
    whole = isinstance(base, int) and isinstance(exponent, int)
    # 2 ** 10 has 11 bits, and a base of n bits to the power of e has at least (n - 1) * e.
    if whole and exponent > 0 and (base.bit_length() - 1) * exponent > MAX_BITS:  # type: ignore[attr-defined]
        raise ProgramError(f"an integer would have more than {MAX_BITS} bits")


def unary(limits: Limits, kind: type[ast.unaryop], value: Any) -> Any:
    """Return `+value`, `-value` or `not value`.

    Raises:
        ProgramError: the operator or the type is not supported.
    """
    if kind is ast.Not:
        return not value
    if kind not in UNARY or not isinstance(value, NUMBERS):
        raise ProgramError(f"the operator {kind.__name__} is not supported on {_name(value)}")
    result = UNARY[kind][1](value)
    limits.number(result)
    return result


def compare(limits: Limits, kind: type[ast.cmpop], left: Any, right: Any) -> bool:
    """Return the result of a comparison, `in`, `not in`, or `is` and `is not` with None, True or False.

    Raises:
        ProgramError: the comparison is not supported.
    """
    if kind in (ast.Is, ast.IsNot):
        if not any(value is None or isinstance(value, bool) for value in (left, right)):
            raise ProgramError("`is` is only supported with None, True and False")
        return (left is right) is (kind is ast.Is)
    limits.deep(left, right)
    if kind in (ast.In, ast.NotIn):
        if type(right) not in CONTAINERS:
            raise ProgramError(f"`in` is not supported on {_name(right)}")
        return (left in right) is (kind is ast.In)
    return COMPARISONS[kind](left, right)


def item(limits: Limits, container: Any, index: Any) -> Any:
    """Return `container[index]`, for an index, a key or a slice.

    Raises:
        ProgramError: the types do not fit.
    """
    if type(container) is dict and type(index) is not slice:
        limits.deep(index)
    elif type(container) not in SEQUENCES or not isinstance(index, (int, slice)):
        raise ProgramError(f"{_name(container)} has no items at {_name(index)}")
    value = container[index]
    if type(index) is slice:
        limits.size(type(container), len(value))
    return value


def set_item(limits: Limits, container: Any, index: Any, value: Any) -> None:
    """Set `container[index]` of a list or a dict.

    Raises:
        ProgramError: the types do not fit, or the dict would be too large.
    """
    if type(container) is dict and type(index) is not slice:
        limits.deep(index)
        if index not in container:
            limits.size(dict, len(container) + 1, new=1)
    elif type(container) is not list or not isinstance(index, int):
        raise ProgramError(f"{_name(container)} takes no items at {_name(index)}")
    container[index] = value


def to_text(limits: Limits, value: Any, *, conversion: Callable[[Any], str] = str) -> str:
    """Return a value as Python prints it.

    Raises:
        ProgramError: the text would be too long.
    """
    limits.deep(value)
    text = conversion(value)
    limits.size(str, len(text))
    return text


def formatted(limits: Limits, value: Any, spec: str) -> str:
    """Return a value as an f-string prints it, with thousands separators, decimals and a type such as `,.2f`.

    Raises:
        ProgramError: the format is not supported.
    """
    if not spec:
        return to_text(limits, value)
    if not _FORMAT.fullmatch(spec) or not isinstance(value, NUMBERS):
        raise ProgramError(f"the format {spec!r} of {_name(value)} is not supported")
    return to_text(limits, format(value, spec))


def _name(value: object) -> str:
    return f"a value of type {type(value).__name__}"
