"""The limits of a program: how much it may compute, and how large and how deep its values may be.

Together they bound time and memory: a program that uses all of its steps takes a fraction of a second.
"""

from __future__ import annotations

MAX_STEPS = 100_000
"""Parts of the program evaluated, with one step for each item that an operation reads or makes."""
MAX_PROGRAM = 10_000
"""Characters of the program."""
MAX_DEPTH = 100
"""Levels of nesting, of the program and of its values."""
MAX_ITEMS = 10_000
"""Items of a list, tuple or range."""
MAX_KEYS = 1_000
"""Keys of a dict, fewer than items of a list: keys can be chosen such that looking one up compares it with all."""
MAX_TEXT = 10_000
"""Characters of a text, and of all that is printed."""
MAX_BITS = 1_024
"""Bits of an integer, the range of a float."""

NUMBERS = (int, float, bool)
SEQUENCES = (str, list, tuple, range)
CONTAINERS = (*SEQUENCES, dict)


class ProgramError(ValueError):
    """A program that is not supported, fails or exceeds a limit. The message names its line and the reason."""


class Limits:
    """Count the steps of one program and check the sizes of its values.

    Args:
        steps: How many steps the program may take.
    """

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.steps = steps

    def spend(self, steps: int = 1) -> None:
        """Count steps.

        Raises:
            ProgramError: too few are left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise ProgramError("it takes too many steps")

    def size(self, kind: type, length: int, *, new: int | None = None) -> None:
        """Check the size of a value before it is made, and count its items.

        Args:
            length: How many items or characters it will have.
            new: How many of them are counted as steps; by default all.

        Raises:
            ProgramError: it would be too large.
        """
        most = MAX_TEXT if kind is str else MAX_KEYS if kind is dict else MAX_ITEMS
        if length > most:
            raise ProgramError(f"a {kind.__name__} would have {length} items, more than {most}")
        new = length if new is None else new
        self.spend(new // 16 if kind is str else new)

    def number(self, value: object) -> None:
        """Check the size of a number; other values pass.

        Raises:
            ProgramError: it is a complex number or an integer of too many digits.
        """
        if type(value) is int and value.bit_length() > MAX_BITS:
            raise ProgramError(f"an integer has more than {MAX_BITS} bits")
        if type(value) is complex:
            raise ProgramError("a result is a complex number")

    def deep(self, *values: object) -> int:
        """Count all that is in values, at every level, before an operation that reads it all.

        A list that holds the same list many times counts it each time, as comparing and printing do.

        Returns:
            The number of values in them.

        Raises:
            ProgramError: there are too many, or too many levels, as in a list that holds itself.
        """
        level, before = list(values), self.steps
        for _ in range(MAX_DEPTH):
            below: list[object] = []
            for value in level:
                kind = type(value)
                if kind in (list, tuple):
                    self.spend(len(value) + 1)  # type: ignore[arg-type]
                    below.extend(value)  # type: ignore[arg-type]
                elif kind is dict:
                    self.spend(2 * len(value) + 1)  # type: ignore[arg-type]
                    below.extend(value)  # type: ignore[arg-type]
                    below.extend(value.values())  # type: ignore[attr-defined]
                elif kind is range:
                    self.spend(len(value) + 1)  # type: ignore[arg-type]
                elif kind is str:
                    self.spend(len(value) // 16 + 1)  # type: ignore[arg-type]
                else:
                    self.spend()
            if not below:
                return before - self.steps
            level = below
        raise ProgramError(f"a value has more than {MAX_DEPTH} levels")
