"""What may leave this machine: no tokens, no folders of this machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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


_TOKEN = re.compile(r"\b(?:(?:hf|api_org)_[A-Za-z0-9]{20,}|hf_(?:oauth|jwt)_[\w.\-]{20,})")
_BEARER = re.compile(r"(?i)(bearer\s+)[^\s'\",]+")


# ------------------------------------------------------------------ tokens
def redact(text: str, *tokens: str) -> str:
    """`text` without tokens: those given, and whatever looks like one of the Hub."""
    for token in tokens:
        if token:
            text = text.replace(token, "hf_***")
    return _BEARER.sub(r"\1***", _TOKEN.sub("hf_***", text))


def find_token(text: str, *tokens: str) -> bool:
    """Whether `text` holds one of `tokens` or what looks like a token of the Hub."""
    return any(token and token in text for token in tokens) or _TOKEN.search(text) is not None


def known_tokens(token: str | bool | None) -> list[str]:
    """Tokens that this process may use: that one, and what it is logged in with."""
    from huggingface_hub import get_token

    return [known for known in (token, get_token()) if isinstance(known, str) and known]


_NO_HUB_NAMES = (".git", ".ipynb", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".zip")
"""How no name on the Hub may end, and how files of data end, which lie in another folder than this one."""
_HUB_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(?<![.-])", re.ASCII)


def hub_name(name: str | None) -> str | None:
    """`name` if it can be that of a model or data set on the Hub: not a folder or file here, not an address."""
    if name is None or len(name) > 96 or not _HUB_NAME.fullmatch(name) or name.endswith(_NO_HUB_NAMES):
        return None
    return None if Path(name).exists() else name


def last_part(name: str, *, folders_only: bool = False) -> str:
    """Names without the folders that they lie in, which are nobody's business; Hub names without their user."""
    is_path = name.startswith(("/", "~", "./", "../")) or re.match(r"[A-Za-z]:\\", name)
    if is_path or (not folders_only and _HUB_NAME.fullmatch(name)):
        return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or "model"
    return name


def as_json(value: Any) -> Any:
    """`value` as JSON brings it back: what it cannot hold is text (an enum its value), NaN and infinity are `None`."""

    def other(thing: Any) -> Any:
        if isinstance(thing, (set, frozenset)):
            return sorted(map(str, thing))
        return thing.tolist() if hasattr(thing, "tolist") else str(getattr(thing, "value", thing))

    return json.loads(json.dumps(value, default=other), parse_constant=lambda _: None)


def public_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line without a token, and without the folders of this machine that it was run in."""
    told, hidden = [], False
    for part in arguments:
        key, equals, value = part.partition("=") if part.startswith("--") and "=" in part else ("", "", part)
        name = key or part
        if not hidden and not name.endswith("token"):
            told.append(f"{key}{equals}{_in_public(value)}")
        hidden = not hidden and not equals and name.startswith("--") and name.endswith("token")
    return told


def public_values(values: Any) -> Any:
    """Arguments, as JSON holds them, without the folders of this machine: every text in them as `public_arguments`
    tells it."""
    if isinstance(values, Mapping):
        return {key: public_values(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [public_values(value) for value in values]
    return _in_public(values) if isinstance(values, str) else values


def _in_public(value: str) -> str:
    """An absolute path as it is seen from the working folder, or its last part; all else as it is."""
    path = Path(value)
    if not path.is_absolute() or "{question}" in value:  # a prompt may begin with a slash
        return value
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(path.name))
