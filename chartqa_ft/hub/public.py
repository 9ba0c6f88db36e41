"""What may leave this machine in a message, a card or a pushed file: no token, and no folder of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import as_json

__all__ = [
    "TOKEN_REMOVED",
    "as_json",
    "find_token",
    "hub_name",
    "known_tokens",
    "public_arguments",
    "public_path",
    "public_values",
    "redact",
    "short_name",
    "without_folders",
]

TOKEN_REMOVED = "TOKEN_REMOVED"
_SHORTEST_TOKEN = 6
"""Characters. A shorter value of a variable such as PAD_TOKEN is no secret, and may be part of any word."""
# Tokens of the Hub are hf_ and 34 letters and digits.
_HUB_TOKEN = re.compile(r"(?:hf|api_org)_[A-Za-z0-9]{20,}|hf_(?:oauth|jwt)_[\w.\-]{20,}")
_PATTERNS = (
    (_HUB_TOKEN, TOKEN_REMOVED),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/-]{6,}=*"), rf"\g<1>{TOKEN_REMOVED}"),
    (re.compile(r"(://)[^\s/@]+@"), rf"\g<1>{TOKEN_REMOVED}@"),
    (
        # "HF_TOKEN environment variable" is how huggingface_hub's errors speak of it.
        re.compile(
            r"(?i)((?:--(?:[a-z]+[_-])*token|\b(?:hf|hub|hugging_?face(?:_hub)?)_token)(?:\s*[=:]\s*|\s+))"
            r"(?!environment\b)(?:\"[^\"]*\"|'[^']*'|[^\s\"'-][^\s\"']*)"
        ),
        rf"\g<1>{TOKEN_REMOVED}",
    ),
)
# Endings that are not allowed in names on the Hub, and those of data files.
_NOT_HUB_NAMES = (".git", ".ipynb", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".zip")
_HUB_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(?<![.-])", re.ASCII)


# ------------------------------------------------------------------ tokens
def known_tokens(
    token: str | bool | None = None, *, arguments: Mapping[str, Any] | None = None, environment: bool = True
) -> list[str]:
    """Return the tokens that this process knows, the longest first.

    Args:
        token: the token in use, of any length.
        arguments: a run's arguments; the values of keys that end in `token` are tokens.
        environment: include environment variables whose names end in `TOKEN`, not only the Hub's login.

    Example:
        >>> known_tokens("my-own-token", arguments={"hub_token": "another-token", "seed": 1}, environment=False)[:2]
        ['another-token', 'my-own-token']
    """
    from huggingface_hub import get_token

    found: list[Any] = [get_token()]
    if environment:
        found += [value for key, value in os.environ.items() if key.upper().endswith("TOKEN")]
    found += [value for key, value in (arguments or {}).items() if str(key).lower().endswith("token")]
    tokens = {text for value in found if isinstance(value, str) and len(text := value.strip()) >= _SHORTEST_TOKEN}
    if isinstance(token, str) and token.strip():
        tokens |= {token, token.strip()}
    return sorted(tokens, key=lambda text: (-len(text), text))


def redact(value: Any, tokens: Iterable[str] = ()) -> Any:
    """Replace every token in the strings of `value` by `TOKEN_REMOVED`.

    Tokens are the given ones, whatever looks like one of the Hub, and what follows `--hub_token`, `HF_TOKEN=` or
    `Bearer` or stands before the `@` of a URL. Lone surrogates, which UTF-8 cannot encode, become `?`.

    Args:
        value: a string, or dicts, lists and tuples of strings; other objects are returned as they are.
        tokens: tokens to look for, see `known_tokens`.

    Returns:
        A copy with lists in place of tuples.

    Example:
        >>> redact({"command": "train.py --hub_token abc123", "seed": 1})
        {'command': 'train.py --hub_token TOKEN_REMOVED', 'seed': 1}
        >>> redact("the proxy said: my-own-token is wrong", ["my-own-token"])
        'the proxy said: TOKEN_REMOVED is wrong'
    """
    if isinstance(value, str):
        for token in tokens:
            value = value.replace(token, TOKEN_REMOVED)
        for pattern, replacement in _PATTERNS:
            value = pattern.sub(replacement, value)
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {redact(key, tokens): redact(item, tokens) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, tokens) for item in value]
    return value


def find_token(text: str, *tokens: str) -> bool:
    """Return whether `text` contains one of `tokens` or something that looks like a token of the Hub.

    Example:
        >>> find_token("token: hf_" + "a" * 34), find_token("hf_hub_download"), find_token("my-own", "my-own")
        (True, False, True)
    """
    return any(token and token in text for token in tokens) or _HUB_TOKEN.search(text) is not None


# ------------------------------------------------------------------ names and folders
def hub_name(name: str | None) -> str | None:
    """Return `name` if a model or data set on the Hub can have it, else `None`.

    Names of existing local files and folders, and URLs, are not Hub names.

    Example:
        >>> hub_name("ahmed-masry/unichart-base-960"), hub_name("/data/charts"), hub_name("charts.csv")
        ('ahmed-masry/unichart-base-960', None, None)
    """
    if name is None or len(name) > 96 or not _HUB_NAME.fullmatch(name) or name.endswith(_NOT_HUB_NAMES):
        return None
    return None if Path(name).exists() else name


def without_folders(name: str) -> str:
    """Return the last part of a path that begins with a folder; other names, such as those on the Hub, unchanged.

    Example:
        >>> without_folders("/home/alice/run-3/"), without_folders("alice/run-3")
        ('run-3', 'alice/run-3')
    """
    is_path = name.startswith(("/", "~", "./", "../")) or re.match(r"[A-Za-z]:\\", name)
    return _last_part(name) if is_path else name


def short_name(name: str) -> str:
    """Return the last part of a path, or of a name on the Hub.

    Example:
        >>> short_name("/home/alice/run-3"), short_name("HuggingFaceM4/ChartQA")
        ('run-3', 'ChartQA')
    """
    return _last_part(name) if _HUB_NAME.fullmatch(name) else without_folders(name)


def _last_part(name: str) -> str:
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or "model"


# ------------------------------------------------------------------ command lines and arguments
def public_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line without tokens and without the folders of this machine.

    Example:
        >>> public_arguments(["/home/alice/train.py", "--hub_token", "abc", "--seed", "1"])
        ['train.py', '--seed', '1']
    """
    kept, is_token = [], False
    for part in arguments:
        key, equals, value = part.partition("=") if part.startswith("--") and "=" in part else ("", "", part)
        name = key or part
        if not is_token and not name.endswith("token"):
            kept.append(f"{key}{equals}{public_path(value)}")
        is_token = not is_token and not equals and name.startswith("--") and name.endswith("token")
    return kept


def public_values(values: Any) -> Any:
    """Return arguments without the folders of this machine; see `public_path`.

    Args:
        values: a value as JSON holds it. Dicts and lists are copied.

    Example:
        >>> public_values({"model_name_or_path": "/home/alice/base", "seed": 1})
        {'model_name_or_path': 'base', 'seed': 1}
    """
    if isinstance(values, Mapping):
        return {key: public_values(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [public_values(value) for value in values]
    return public_path(values) if isinstance(values, str) else values


def public_path(value: str) -> str:
    """Return an absolute path relative to the working folder, or else its last part; other strings unchanged.

    Example:
        >>> public_path("/home/alice/charts.csv"), public_path(str(Path.cwd() / "out" / "run")), public_path("a/b")
        ('charts.csv', 'out/run', 'a/b')
    """
    path = Path(value)
    if not path.is_absolute() or "{question}" in value:  # a prompt may begin with a slash
        return value
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(path.name))
