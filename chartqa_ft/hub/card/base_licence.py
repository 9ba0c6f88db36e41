"""The license in a base model's card, which the fine-tuned model's card carries over."""

from __future__ import annotations

import logging
import re
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import HubError, explained
from ..retry import retrying
from .front_matter import front_matter

logger = logging.getLogger(__name__)

_PLAIN = (str, int, float, date, type(None))
_MOST, _LONGEST = 20, 500
"""Licenses in a list, and characters of each."""
_LINK = re.compile(
    r"https?://[A-Za-z0-9.-]+(:[0-9]+)?([/?#][A-Za-z0-9/?#._~%&=+,;@!$()*:-]*)?"
    r"|(\./)?[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*(#[A-Za-z0-9_.-]*)?",
    re.IGNORECASE,
)
_LONGEST_LINK = 500
_FIELDS = {"license": "licence", "license_name": "licence_name", "license_link": "licence_link"}


def base_licence(base: str | None, token: str | bool | None = None, *, revision: str | None = None) -> dict[str, Any]:
    """Return the license of a base model as its card gives it, as fields of `CardFacts`.

    A card that cannot be read is no reason to fail: it causes a warning.

    Args:
        base: a local folder or the name of a model on the Hub; `None` if there is no base model.
        token: Hub token; `None` takes that of the login.
        revision: branch, tag or commit of a model on the Hub.

    Returns:
        `licence`, `licence_name` and `licence_link`, as far as the card has them; `{"licence_unread": True}` if the
        card could not be read.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = (Path(folder) / "README.md").write_text("---\\nlicense: mit\\n---\\n# A base model\\n")
        >>> base_licence(folder)
        {'licence': 'mit'}
    """
    if not base:
        return {}
    try:
        card = _checked(_local_card(Path(base)) if Path(base).is_dir() else _hub_card(base, token, revision))
    except _UnreadCardError as error:
        logger.warning("the license of the base model is unknown, and the card says so: %s", error)
        return {"licence_unread": True}
    found = {ours: getattr(card, theirs, None) for theirs, ours in _FIELDS.items()}
    return {
        name: _as_text(value)
        for name, value in found.items()
        if value and (name != "licence_link" or safe_link(value))
    }


def safe_link(link: Any) -> str | None:
    """Return a link that a card may carry over, `None` for any other: `http`, `https` or a file of the repository.

    Example:
        >>> safe_link("https://example.org/licence"), safe_link("LICENSE.md"), safe_link("javascript:alert(1)")
        ('https://example.org/licence', 'LICENSE.md', None)
    """
    return link if isinstance(link, str) and len(link) <= _LONGEST_LINK and _LINK.fullmatch(link) else None


class _UnreadCardError(Exception):
    pass


def _local_card(folder: Path) -> Any:
    path = folder / "README.md"
    if not path.is_file():
        return None
    try:
        return SimpleNamespace(**{str(key): value for key, value in front_matter(path).items()})
    except UnicodeDecodeError as error:
        raise _UnreadCardError(f"{path} cannot be read ({error})") from error
    except ValueError as error:
        raise _UnreadCardError(f"the metadata of {path} {error}") from error
    except OSError as error:
        raise _UnreadCardError(f"{path} cannot be read ({error})") from error


def _hub_card(base: str, token: str | bool | None, revision: str | None) -> Any:
    from huggingface_hub import HfApi

    try:
        with explained("load", base, revision=revision, token=token):
            api = HfApi(token=token)
            return retrying(lambda: api.model_info(base, revision=revision), what=f"the card of {base}").card_data
    except (HubError, ValueError) as error:
        raise _UnreadCardError(f"{error} Push again to complete the card.") from error
    except Exception as error:  # whatever a card makes of huggingface_hub: a push does not fail for it
        raise _UnreadCardError(f"the card of {base} cannot be read ({type(error).__name__})") from error


def _checked(card: Any) -> Any:
    """Return a card whose fields on the license are short texts or lists of them.

    Raises:
        _UnreadCardError: one is something else.
    """
    for field in _FIELDS:
        value = getattr(card, field, None)
        parts = value if isinstance(value, (list, tuple)) else [value]
        if len(parts) > _MOST or not all(isinstance(part, _PLAIN) and _is_short(str(part)) for part in parts):
            raise _UnreadCardError(f"the field {field} of its card is not a short text or a short list of texts")
    return card


def _is_short(text: str) -> bool:
    return len(text) <= _LONGEST and text.isprintable()


def _as_text(value: Any) -> str | list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value)
