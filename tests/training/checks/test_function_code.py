"""What a function does with an argument is read from its code."""

from __future__ import annotations

from chartqa_ft.training.checks.function_code import uses_argument


def test_whether_a_function_uses_an_argument():
    def named(num_items_in_batch=None, **kwargs):
        return num_items_in_batch

    def forwarded(**kwargs):
        return named(**kwargs)

    def swallowed(num_items=None, **kwargs):
        return num_items

    def unused(num_items_in_batch=None):
        return None

    used = [uses_argument(function, "num_items_in_batch") for function in (named, forwarded, swallowed, unused, print)]
    assert used == [True, True, False, False, True]
