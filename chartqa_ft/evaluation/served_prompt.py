"""Prompt and system message that a served model was trained with: of a checkpoint, of a family, or the default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..adapters.prompts import CHAT_PROMPT, PROMPTS
from ..files import read_json
from ..hub.public import hub_name
from ..hub.single_files import fetch_files
from ..models.chartqa_config import SETTINGS_NAME, read_settings

__all__ = ["served_prompt", "served_system_prompt"]

_CONFIG = "config.json"


def served_prompt(source: str | None = None) -> str:
    """Return the template of a prompt with the field `{question}`, without chat markup, which the server adds.

    Args:
        source: a model family (`config.model_type`, such as `"qwen2_5_vl"`), or a checkpoint that the server serves: a
            folder, or a model on the Hub (`owner/name`, or `owner/name@revision`), of which only the configuration is
            downloaded. `None`: the prompt of chat families without a published one.

    Raises:
        FileNotFoundError: there is no such folder, or it is not a checkpoint.
        ValueError: a file of the checkpoint is damaged, or the name is neither a family nor a checkpoint.
        HubError: the model cannot be downloaded.

    Example:
        >>> served_prompt("idefics3")
        '{question}\\nGive a very brief answer.'
        >>> served_prompt() == CHAT_PROMPT
        True
    """
    if source is None:
        return CHAT_PROMPT
    if source in PROMPTS:
        return PROMPTS[source]
    folder = _folder(source)
    settings = read_settings(folder)
    if settings.get("prompt") is not None:
        return settings["prompt"]
    config: dict[str, Any] = read_json(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
    if not config:
        raise FileNotFoundError(
            f"{source} has neither a {SETTINGS_NAME} nor a {_CONFIG}, so its prompt is not known: pass the "
            "checkpoint, a family or --prompt"
        )
    return PROMPTS.get(str(config.get("model_type")), CHAT_PROMPT)


def served_system_prompt(source: str | None = None) -> str | None:
    """Return the system message that a checkpoint was trained with, or `None`.

    Args:
        source: as in `served_prompt`, which raises the same errors. Families have no system message.

    Example:
        >>> served_system_prompt("idefics3") is None
        True
    """
    return None if source is None or source in PROMPTS else read_settings(_folder(source)).get("system_prompt")


def _folder(source: str) -> Path:
    """Return the folder of a checkpoint. Of a model on the Hub, it has the configuration alone."""
    folder = Path(source)
    return folder if source and folder.is_dir() else _of_hub(source)


def _of_hub(source: str) -> Path:
    repo, at, revision = source.partition("@")
    if repo.count("/") != 1 or hub_name(repo) is None:
        raise ValueError(
            f"{source!r} is neither a checkpoint nor a family with a known prompt ({', '.join(sorted(PROMPTS))})"
        )
    # PEFT weights have no config.json; what this library pushes has a chartqa_config.json in any case.
    found = fetch_files(repo, (SETTINGS_NAME, _CONFIG), revision=revision if at else None, needs_first=False)
    return next(iter(found.values())).parent
