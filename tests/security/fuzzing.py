"""What the fuzzers share: how many examples, which values, how bytes are damaged, and which outcomes are right.

`make fuzz` looks for longer, at other examples in each run; `make fuzz EXAMPLES=10000` for longer still.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from chartqa_ft.hub import HubError

EXAMPLES = int(os.environ.get("CHARTQA_FUZZ_EXAMPLES") or 0)
SECONDS = 30
"""An example that takes longer than this hangs."""


def fuzz(examples: int = 50) -> settings:
    """The settings of a fuzzer: the same few examples in every run of the suite, or as many others as asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# ---------------------------------------------------------------- outcomes
@contextmanager
def in_time(seconds: int = SECONDS) -> Iterator[None]:
    """Fail if the block does not end."""

    def stop(*_: Any) -> None:
        raise AssertionError(f"no end after {seconds} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def outcome(call: Callable[[], Any], *names: str) -> Any:
    """The value of `call`, or the documented error that it raises, whose message holds one of `names`.

    `RecordError` and `LayoutError` are `ValueError`s. Any other error, `KeyError` or `RecursionError` for example,
    goes through and fails the test, and so does one about an encoding that does not say where.
    """
    with in_time():
        try:
            return call()
        except (ValueError, TypeError, HubError) as error:
            found = error
    is_clear = not isinstance(found, UnicodeError) and any(name in str(found) for name in names)
    if not is_clear:
        raise AssertionError(f"{type(found).__name__} names none of {names}: {found!r:.300}") from found
    return found


# ---------------------------------------------------------------- values
HARD_TEXTS = (
    "",
    "\0",
    "\ud800",
    "\udcff.png",
    "9" * 5000,
    "-" + "9" * 5000,
    "1e999999",
    "nan",
    "[" * 300,
    "['" + "-" * 300 + "']",
    "0x" + "f" * 5000,
    "--push_to_hub",
    "../../etc/passwd",
    "a.png",
    "a.png\0",
    "\u202egnp.a",
    "\x1b[31m",
    "=1+1",
    '"',
    "'",
    "\\",
    "\r\n",
    "\u2028",
    "{question}",
    "---\n",
    "data:image/png;base64,",
    "iVBORw0K" * 8,
    "hf://x::file:///etc/passwd",
)


def texts(longest: int = 20) -> st.SearchStrategy[str]:
    """Any text, with characters that are no characters alone."""
    anything = st.text(st.characters(exclude_categories=()), max_size=longest)
    return anything | st.sampled_from(HARD_TEXTS)


def numbers() -> st.SearchStrategy[Any]:
    return st.integers() | st.sampled_from([10**400, -(10**4200), 2**63]) | st.floats()


def values() -> st.SearchStrategy[Any]:
    """Any value that JSON can hold."""
    leaves = st.none() | st.booleans() | numbers() | texts()
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts(), inner, max_size=4)
    )


def written(value: Any) -> str:
    return json.dumps(value)


HARD_JSON = (
    "9" * 5000,
    "-" + "9" * 5000,
    "1e999",
    "NaN",
    "[" * 5000 + "]" * 5000,
    '{"a":' * 150 + "1" + "}" * 150,
    '{"a": 1, "a": 2}',
    '"\\ud800"',
    '"\\u0000"',
)
"""JSON that cannot be written by `json.dumps`, or that Python cannot read."""


def json_texts() -> st.SearchStrategy[str]:
    return values().map(written) | st.sampled_from(HARD_JSON)


@st.composite
def damaged(draw: st.DrawFn, contents: st.SearchStrategy[bytes] | bytes) -> bytes:
    """Bytes with a few places overwritten, removed, repeated or filled with others."""
    content = bytearray(contents if isinstance(contents, bytes) else draw(contents))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        stop = min(len(content), at + draw(st.sampled_from([0, 1, 2, 8, 1000])))
        piece = draw(
            st.binary(max_size=4)
            | st.sampled_from(
                [b'"', b"\n", b"\xff", b"\0", b"[" * 300, b"9" * 5000, b"{", b"}", b"\\ud800", b",", b": "]
            )
            | st.just(bytes(content[at:stop]) * 2)
        )
        content[at:stop] = piece
    return bytes(content)
