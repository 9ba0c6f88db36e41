"""Foreign text in a Markdown page: it is shown as it is, breaks out of nothing, and holds no token."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

REMOVED = "TOKEN_REMOVED"
_SHORTEST_SECRET = 6
# Tokens of the Hub are hf_ and 34 signs; shorter ones are removed where their value is known.
_TOKENS = (
    (re.compile(r"hf_[A-Za-z0-9]{16,}"), REMOVED),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/-]{6,}=*"), rf"\g<1>{REMOVED}"),
    (re.compile(r"(://)[^\s/@]+@"), rf"\g<1>{REMOVED}@"),
    (
        re.compile(
            r"(?i)((?:--(?:[a-z]+[_-])*token|\b(?:hf|hub|hugging_?face(?:_hub)?)_token)(?:\s*[=:]\s*|\s+))"
            r"(?:\"[^\"]*\"|'[^']*'|[^\s\"'-][^\s\"']*)"
        ),
        rf"\g<1>{REMOVED}",
    ),
)
# Signs that Markdown reads as markup anywhere in a line. Entities where a backslash is not enough: of a table's
# pipe inside other markup, and of dollar and backslash, which pages with formulas look for before Markdown.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;", "`": "&#96;", "$": "&#36;", "|": "&#124;"}
_MARKUP = re.compile(r"[&<>\\`$|]|[*\[\]#~!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# They reorder or hide what stands beside them.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def known_secrets(arguments: Mapping[str, Any] | None = None) -> list[str]:
    """Every token that this process could leak: those in `arguments` (keys that end in `token`), in the environment,
    and the one that is logged in; the longest first."""
    from huggingface_hub import get_token

    found = [get_token(), *(value for key, value in os.environ.items() if key.upper().endswith("TOKEN"))]
    found += [value for key, value in (arguments or {}).items() if str(key).lower().endswith("token")]
    texts = {value.strip() for value in found if isinstance(value, str)}
    return sorted((text for text in texts if len(text) >= _SHORTEST_SECRET), key=lambda text: (-len(text), text))


def redacted(value: Any, secrets: Iterable[str] = ()) -> Any:
    """`value` with every token in its strings replaced by `TOKEN_REMOVED`; dicts, lists and tuples are gone through.

    Removed are `secrets`, what looks like a Hub token, and what stands behind `--hub_token`, `HF_TOKEN=`, `Bearer` or
    before the `@` of an address. Lone surrogates, which no file can hold, become `?`.
    """
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REMOVED)
        for pattern, replacement in _TOKENS:
            value = pattern.sub(replacement, value)
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {redacted(key, secrets): redacted(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item, secrets) for item in value]
    return value


def escaped(value: Any, *, longest: int = 600) -> Markup:
    """Any value as one line of Markdown that shows its text; `Markup` passes as it is.

    It must not stand at the beginning of a line, where `-`, `1.` or `=` would count too.
    """
    if isinstance(value, Markup):
        return value
    text = " ".join(_INVISIBLE.sub("", str(value)).split())
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return Markup(_MARKUP.sub(lambda found: _ENTITIES.get(found[0], "\\" + found[0]), text))


def fenced(value: Any, language: str = "") -> Markup:
    """A block of code that shows `value` line by line: its fence is longer than any in the text."""
    text = str(value).replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    text = "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text}\n{fence}")


def literal(value: Any) -> Markup:
    """A value as Python writes it, on one line, for a snippet inside a block of code."""
    return Markup(ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value))
