"""Old names of `Adapter` attributes and arguments, so that subclasses written for them keep working."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

RENAMED_ATTRIBUTES = {
    "stream": "prompt_key",
    "shares_charts": "shares_encoder",
    "decodes_by_length": "needs_equal_prompts",
    "unseen_ids": "skipped_ids",
}
"""Old attribute of an adapter -> new one."""
OLD_ARGUMENT, NEW_ARGUMENT = "draws", "offsets"
_METHODS = ("encode_images", "chart_tensors", "raw_tensors")
"""The methods that have the argument `offsets`."""
_CLASS_STATEMENT = 5
"""Stack level of the class statement, seen from `_warn`: past `update_subclass`, `__init_subclass__` and `ABCMeta`."""

Method = TypeVar("Method", bound=Callable[..., Any])


class RenamedAttribute:
    """An old attribute that reads and writes the new one, with a `FutureWarning`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.old, self.new = name, RENAMED_ATTRIBUTES[name]

    def __get__(self, instance: Any, owner: type) -> Any:
        _warn(f"{owner.__name__}.{self.old}", self.new)
        return getattr(owner if instance is None else instance, self.new)

    def __set__(self, instance: Any, value: Any) -> None:
        _warn(f"{type(instance).__name__}.{self.old}", self.new)
        setattr(instance, self.new, value)


def update_subclass(cls: type) -> None:
    """Move old class attributes of a new `Adapter` subclass to their new names, and translate the old argument.

    This includes attributes of mixins. If the new name is set in the same class or closer in the method resolution
    order, that value is kept, without a warning. A method with the argument `draws` is called with it; one that only
    has `**kwargs` is called with `offsets`.
    """
    order = {owner: position for position, owner in enumerate(cls.__mro__)}
    for old, new in RENAMED_ATTRIBUTES.items():
        old_owner = next(owner for owner in order if old in vars(owner))
        new_owner = next((owner for owner in order if new in vars(owner)), None)
        value = vars(old_owner)[old]
        if isinstance(value, RenamedAttribute):
            continue
        if new_owner is None or order[old_owner] < order[new_owner]:
            _warn(f"{cls.__name__}.{old}", new, _CLASS_STATEMENT)
            setattr(cls, new, value)
        if old_owner is cls:
            delattr(cls, old)
    for name in _METHODS:
        method = vars(cls).get(name)
        if inspect.isfunction(method):
            if _takes(method) == OLD_ARGUMENT:
                _warn(f"argument {OLD_ARGUMENT} of {cls.__name__}.{name}", NEW_ARGUMENT, _CLASS_STATEMENT)
            setattr(cls, name, translates_argument(method))


def translates_argument(method: Method) -> Method:
    """Make a method accept both `draws` and `offsets`, whichever of the two it is defined with.

    Example:
        >>> @translates_argument
        ... def place(image, *, draws=None):
        ...     return draws
        >>> place("chart", offsets=(3, 4))
        (3, 4)
    """
    taken = _takes(method)
    if taken is None:
        return method
    other = NEW_ARGUMENT if taken == OLD_ARGUMENT else OLD_ARGUMENT

    @functools.wraps(method)
    def translated(*args: Any, **kwargs: Any) -> Any:
        if other in kwargs:
            if other == OLD_ARGUMENT:
                _warn(f"argument {OLD_ARGUMENT} of {method.__qualname__}", NEW_ARGUMENT)
            kwargs[taken] = kwargs.pop(other)
        return method(*args, **kwargs)

    return translated  # type: ignore[return-value]  # the signature is that of `method`, with one name more


def _takes(method: Callable[..., Any]) -> str | None:
    parameters = inspect.signature(method).parameters
    return next((name for name in (NEW_ARGUMENT, OLD_ARGUMENT) if name in parameters), None)


def _warn(old: str, new: str, stacklevel: int = 3) -> None:
    warnings.warn(f"{old} is now called {new}; the old name will be removed", FutureWarning, stacklevel=stacklevel)
