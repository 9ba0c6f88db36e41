"""The licence that a fine-tuned model carries over from its base model's card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .hub_errors import HubError, explained

_FIELDS = {"license": "licence", "license_name": "licence_name", "license_link": "licence_link"}


def base_licence(base: str | None, token: str | bool | None = None) -> dict[str, str]:
    """`licence`, `licence_name`, `licence_link` of a base model, as far as its card gives them; empty where it has no
    card, or the Hub does not answer.

    Args:
        base: a local folder or the name of a model on the Hub.
    """
    from huggingface_hub import HfApi, ModelCard

    if not base:
        return {}
    try:
        if Path(base).is_dir():
            card: Any = ModelCard.load(Path(base) / "README.md").data if (Path(base) / "README.md").is_file() else None
        else:
            with explained("load", base, token=token):
                card = HfApi(token=token).model_info(base).card_data
    except (HubError, ValueError):
        return {}
    found = {ours: getattr(card, theirs, None) for theirs, ours in _FIELDS.items()} if card is not None else {}
    return {name: str(value) for name, value in found.items() if value}
