"""What the code of a function uses, to know before it is called whether it will do what it is for."""

from __future__ import annotations

import dis
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType
from typing import Any


def own_code(function: Any) -> CodeType | None:
    """Return the code of a Python function, behind bound methods and decorators; `None` if there is none."""
    function = getattr(function, "__func__", function)
    function = getattr(function, "__wrapped__", function)
    if not hasattr(function, "__code__"):  # an object with __call__
        function = getattr(type(function).__call__, "__func__", type(function).__call__)
    return getattr(function, "__code__", None)


def names_in(code: CodeType | None) -> set[str]:
    """Return the names of functions, methods and attributes that a piece of code uses, inner functions included.

    Example:
        >>> names_in((lambda model: model.generate()).__code__)
        {'generate'}
    """
    if code is None:
        return set()
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def constants_in(code: CodeType | None) -> set[Any]:
    """Return the numbers and strings in a piece of code, inner functions included."""
    if code is None:
        return set()
    found: set[Any] = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= constants_in(constant)
        elif isinstance(constant, (int, float, str)):
            found.add(constant)
    return found


def returned_constants(function: Any) -> list[Any]:
    """Return the constants that a Python function returns, if it returns nothing else; an empty list if it may.

    Example:
        >>> returned_constants(lambda prediction: None), returned_constants(lambda prediction: {"n": 1})
        ([None], [])
    """
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    found: list[Any] = []
    before: dis.Instruction | None = None
    for step in dis.get_instructions(code) if code is not None else ():
        if step.opname == "RETURN_CONST":
            found.append(step.argval)
        elif step.opname == "RETURN_VALUE":
            # The target of a jump may return any value.
            if before is None or step.is_jump_target or before.opname not in ("LOAD_CONST", "LOAD_SMALL_INT"):
                return []
            found.append(before.argval)
        before = step
    return list(dict.fromkeys(found))


def uses_argument(function: Any, name: str) -> bool:
    """Return whether a function reads one of its arguments by name, or by passing all of them on.

    Example:
        >>> def loss(model, inputs, num_items_in_batch=None):
        ...     return model(**inputs).loss
        >>> uses_argument(loss, "num_items_in_batch"), uses_argument(loss, "model")
        (False, True)
    """
    code = own_code(function)
    if code is None:
        return True
    count = code.co_argcount + code.co_kwonlyargcount
    named, rest = code.co_varnames[:count], code.co_varnames[count:]
    packed = rest[: bool(code.co_flags & CO_VARARGS) + bool(code.co_flags & CO_VARKEYWORDS)]
    passing = {name} & set(named) or set(packed)
    read: set[str] = set(code.co_cellvars)
    for step in dis.get_instructions(code):
        if step.opname.startswith("LOAD"):
            read |= set(step.argval) if isinstance(step.argval, tuple) else {step.argval}
    return bool(passing & read)
