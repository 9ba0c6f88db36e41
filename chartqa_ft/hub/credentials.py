"""What is a secret: names of values that are one, texts that look like one, and those that this process knows.

Cards, pushes, error messages and saved arguments all ask here. Only two things count as a secret: the value of a name
such as `hub_token`, `WANDB_API_KEY` or `db_password`, and a text in a format that is used for secrets alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

__all__ = [
    "KEY_BLOCK",
    "TOKEN_FORMATS",
    "TOKEN_REMOVED",
    "URL_PASSWORD",
    "find_token",
    "is_distinct",
    "is_secret",
    "is_secret_name",
    "known_tokens",
    "masked",
    "redact",
    "without_secrets",
]

TOKEN_REMOVED = "TOKEN_REMOVED"
_SHORTEST_TOKEN = 6
"""Characters. A shorter value of a variable such as PAD_TOKEN is no secret, and may be part of any word."""

# ------------------------------------------------------------------ names
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = {"secret", "secrets", "password", "passwords", "passwd", "passphrase", "apikey", "credential"}
_SECRET_WORDS |= {"credentials", "authorization"}
_SECRET_PAIRS = {
    *((first, "key") for first in ("api", "access", "account", "auth", "encryption", "private", "signing", "ssh")),
    *((first, "token") for first in ("access", "api", "auth", "bearer", "github", "hf", "hub", "refresh", "session")),
    ("connection", "string"),
}
_JOINED = ("apikey", "accesskey", "privatekey", "secretkey", "authtoken", "accesstoken", "hftoken")
_TOKENIZER_WORDS = re.compile(
    "additional|added|audio|begin|blank|bo[dis]|chart|class|cls|decoder|end|eo[dist]|extra|fake|fill|first|forced|global"
    "|image|img|last|mask|new|next|no|pad|per|point|prompt|row|sep|single|special|start|stop|task|thinking|time|tool"
    "|trigger|unk|video|vision|word"
)
"""`pad_token`, `image_token` and others are entries of a vocabulary."""
_PLAIN_KEYS = re.compile(
    "answer|cache|chart|column|data|dict|foreign|group|image|index|input|label|metric|output|primary|question|sort|source"
    "|split|state|target|text"
)
"""`sort_key`, `image_key` and others name a field of a record."""
_SPECIAL = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")
"""Special tokens of a vocabulary, such as `</s>` and `[PAD]`."""


def is_secret_name(name: Any, *, any_token: bool = True) -> bool:
    """Return whether a variable, an argument or a key of this name holds a secret, whatever its value is.

    Args:
        name: the name.
        any_token: whether all names that end in `token` count, except for those of common special tokens, or only
            those such as `access_token`.

    Example:
        >>> [is_secret_name(name) for name in ("hub_token", "WANDB_API_KEY", "dbPassword", "pad_token", "max_tokens")]
        [True, True, True, False, False]
    """
    words = [word.lower() for word in _WORDS.findall(str(name))]
    if not words:
        return False
    if words[-1] == "token" and any_token:
        return len(words) == 1 or not _TOKENIZER_WORDS.fullmatch(words[-2])
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or not _SECRET_PAIRS.isdisjoint(pairwise(words))
        or any(word.endswith(_JOINED) for word in words)
        or (words[-1] == "pwd" and len(words) > 1 and words[-2] != "old")
    )


def is_secret(name: Any, value: Any) -> bool:
    """Return whether `value` is a secret because of its name. Names that end in `key` count if the value is no word.

    Example:
        >>> is_secret("wandb_key", "8f3a91c2"), is_secret("image_key", "image"), is_secret("hub_token", None)
        (True, False, False)
    """
    if value is None or isinstance(value, bool) or value == "":
        return False
    if isinstance(value, str) and _SPECIAL.fullmatch(value):
        return False
    if is_secret_name(name):
        return True
    words = [word.lower() for word in _WORDS.findall(str(name))]
    ends_in_key = len(words) > 1 and words[-1] == "key" and not _PLAIN_KEYS.fullmatch(words[-2])
    return ends_in_key and isinstance(value, str) and is_distinct(value)


def is_distinct(value: str) -> bool:
    """Return whether a text is unlikely to be found in a file by chance: no short word and no short number.

    Example:
        >>> is_distinct("hunter2"), is_distinct("password"), is_distinct("1234567")
        (True, False, False)
    """
    value = value.strip()
    return len(value) >= _SHORTEST_TOKEN and (len(value) >= 16 or not (value.isalpha() or value.isdigit()))


def without_secrets(values: Any) -> Any:
    """Return a copy of arguments without the values that are a secret by their name, at any depth.

    Example:
        >>> without_secrets({"seed": 1, "hub_token": "abc", "kwargs": [{"api_key": "def", "lr": 0.1}]})
        {'seed': 1, 'kwargs': [{'lr': 0.1}]}
    """
    if isinstance(values, Mapping):
        return {
            key: without_secrets(value)
            for key, value in values.items()
            if not (is_secret_name(key) or is_secret(key, value))
        }
    if isinstance(values, (list, tuple)):
        return [without_secrets(value) for value in values]
    return values


def masked(values: Any) -> Any:
    """Return a copy of arguments in which secrets are replaced: by the key in capitals, or `TOKEN_REMOVED` in texts.

    Example:
        >>> masked({"kwargs": {"api_key": "abc"}, "run_name": "hf_" + "a" * 34, "seed": 1})
        {'kwargs': {'api_key': '<API_KEY>'}, 'run_name': 'TOKEN_REMOVED', 'seed': 1}
    """
    if isinstance(values, Mapping):
        return {
            key: f"<{str(key).upper()}>" if is_secret(key, value) else masked(value) for key, value in values.items()
        }
    if isinstance(values, (list, tuple)):
        return [masked(value) for value in values]
    return redact(values) if isinstance(values, str) else values


# ------------------------------------------------------------------ the secrets of this process
def known_tokens(
    token: str | bool | None = None, *, arguments: Mapping[str, Any] | None = None, environment: bool = True
) -> list[str]:
    """Return the secrets that this process knows, the longest first.

    Args:
        token: the token in use, of any length.
        arguments: a run's arguments; the values of secret names in them, at any depth, are secrets.
        environment: include environment variables with secret names, not only the Hub's login.

    Example:
        >>> known_tokens("my-own-token", arguments={"hub_token": "another-token", "seed": 1}, environment=False)[:2]
        ['another-token', 'my-own-token']
    """
    from huggingface_hub import get_token

    tokens = {*_texts(get_token()), *_named(arguments or {})}
    if environment:
        for name, value in os.environ.items():
            if is_secret(name, value) and (name.upper().endswith("TOKEN") or is_distinct(value)):
                tokens |= set(_texts(value))
    if isinstance(token, str) and token.strip():
        tokens |= {token, token.strip()}
    return sorted(tokens, key=lambda text: (-len(text), text))


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a secret value that are long enough to be looked for."""
    if isinstance(value, str):
        if len(value.strip()) >= _SHORTEST_TOKEN:
            yield value.strip()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _named(values: Any) -> Iterator[str]:
    """Yield the texts of all values with a secret name."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _texts(value) if is_secret(key, value) else _named(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _named(value)


# ------------------------------------------------------------------ formats
# Each begins with letters that mark it as a secret: Hugging Face, GitHub, GitLab, AWS, OpenAI and Anthropic, Stripe,
# Slack, Google, npm, PyPI, Docker, SendGrid, NVIDIA, Groq, Replicate, Weights & Biases, and JSON web tokens.
TOKEN_FORMATS = (
    r"(?:hf|api_org)_[A-Za-z0-9]{20,}|hf_(?:oauth|jwt)_[\w.\-]{16,}",
    r"gh[opsur]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|gl(?:pat|dt|rt|ptt|soat)-[\w\-]{16,}",
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA(?=[A-Z]*[0-9]))[A-Z0-9]{16}(?![A-Za-z0-9])",
    r"(?<![A-Za-z0-9])sk-(?:[A-Za-z0-9]{20,}|(?=[A-Za-z_\-]*[0-9])[\w\-]{20,})|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,}|xapp-[A-Za-z0-9\-]{20,}",
    r"(?<![A-Za-z0-9+/])AIza[\w\-]{35}(?![\w+/=\-])|ya29\.[\w\-]{20,}",
    r"npm_[A-Za-z0-9]{36}|pypi-AgE[\w\-]{16,}|dckr_pat_[\w\-]{20,}|SG\.[\w\-]{16,}\.[\w\-]{16,}",
    r"nvapi-[\w\-]{30,}|gsk_[A-Za-z0-9]{30,}|r8_[A-Za-z0-9]{30,}|wandb_v1_[\w\-]{20,}",
    r"eyJ[\w\-]{8,}\.eyJ[\w\-]{4,}\.[\w\-]{8,}",
)
"""Regular expressions. Each matches at least 15 letters, digits or `_-.` in a row."""
KEY_BLOCK = r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
# A password may contain a slash; a port followed by a path is none. Only printable ASCII: other bytes are no URL.
URL_PASSWORD = r"://[!#-&(-.0-9;=?A-~]{0,200}:(?!:|[0-9]{1,5}/)[!#-&(-;=?A-~]{1,200}@[A-Za-z0-9\[]"
_TOKEN = re.compile("|".join(TOKEN_FORMATS), re.ASCII)
_ANY = re.compile("|".join([*TOKEN_FORMATS, KEY_BLOCK, URL_PASSWORD]), re.ASCII)

_VALUE = r"(?:\\?\"[^\"]*\"|'[^']*'|[^\s\"',;&}\])]+)"
_MARKED = r"(?=[\w.\-]*(?:token|key|secret|pass|pwd|credential|authorization|connection))(?P<name>[a-z_][\w.\-]{1,80})"
# name=value and "name": "value"; and as an option, --name value.
_ASSIGNED = re.compile(
    rf"(?i)(?<![\w.\-])(?P<head>(?:--)?(?P<quote>\\?[\"']?){_MARKED}(?P=quote)\s*(?P<sign>[=:])\s*){_VALUE}"
)
_OPTION = re.compile(rf"(?i)(?P<head>(?<!\S)--{_MARKED}\s+)(?:\"[^\"]*\"|'[^']*'|[^\s\"'-][^\s\"']*)")
_PATTERNS = (
    (re.compile(KEY_BLOCK + r"[\s\S]*?(?:-----END [A-Z0-9 ]{1,80}-----|\Z)"), TOKEN_REMOVED),
    (_TOKEN, TOKEN_REMOVED),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/-]{6,}=*"), rf"\g<1>{TOKEN_REMOVED}"),
    (re.compile(r"(://)(?:[^\s/@:\"'<>]*:(?!:|\d{1,5}/)[^\s@\"'<>]+|[^\s/@]+)@"), rf"\g<1>{TOKEN_REMOVED}@"),
    (
        # "HF_TOKEN environment variable" is how huggingface_hub's errors speak of it.
        re.compile(
            r"(?i)((?:--(?:[a-z]+[_-])*token|\b(?:hf|hub|hugging_?face(?:_hub)?)_token)(?:\s*[=:]\s*|\s+))"
            r"(?!environment\b)(?:\"[^\"]*\"|'[^']*'|[^\s\"'-][^\s\"']*)"
        ),
        rf"\g<1>{TOKEN_REMOVED}",
    ),
)


def redact(value: Any, tokens: Iterable[str] = ()) -> Any:
    """Replace every secret in the strings of `value` by `TOKEN_REMOVED`.

    Secrets are the given ones, whatever has the format of one (tokens of the Hub and other services, private keys,
    passwords in URLs), and what a secret name is set to: `--hub_token abc`, `WANDB_API_KEY=abc`, `"password": "abc"`.
    Lone surrogates, which UTF-8 cannot encode, become `?`.

    Args:
        value: a string, or dicts, lists and tuples of strings; other objects are returned as they are.
        tokens: secrets to look for, see `known_tokens`.

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
        value = _OPTION.sub(_without_value, _ASSIGNED.sub(_without_value, value))
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {redact(key, tokens): redact(item, tokens) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, tokens) for item in value]
    return value


def _without_value(found: re.Match[str]) -> str:
    """Return the match without its value if its name is that of a secret."""
    head, name, parts = found["head"], found["name"], found.groupdict()
    value = found[0][len(head) :]
    secret = value.strip("\\\"'")
    # In prose a colon may follow any word: "Token: 45 %".
    is_prose = parts.get("sign") == ":" and not parts["quote"] and not re.search(r"[_\-]|[a-z][A-Z]", name)
    if not is_secret(name, secret) or (is_prose and not is_distinct(secret)):
        return found[0]
    quote = '\\"' if value.startswith('\\"') else value[0] if value[0] in "\"'" and parts.get("quote") else ""
    return f"{head}{quote}{TOKEN_REMOVED}{quote}"


# ------------------------------------------------------------------ finding
def find_token(text: str, *tokens: str) -> bool:
    """Return whether `text` contains one of `tokens` or something that has the format of a secret.

    Example:
        >>> find_token("token: hf_" + "a" * 34), find_token("hf_hub_download"), find_token("my-own", "my-own")
        (True, False, True)
    """
    return any(token and token in text for token in tokens) or _ANY.search(text) is not None
