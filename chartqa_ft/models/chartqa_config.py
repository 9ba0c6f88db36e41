"""`chartqa_config.json`: the prompt and the settings that the answers of a checkpoint depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..adapters import Adapter
from ..adapters.chat_frame import check_date
from ..adapters.image_cost import image_settings
from ..files import read_json, write_json
from ..metrics.correctness import VARIANTS, variant_name

SETTINGS_NAME = "chartqa_config.json"
_PACKAGES = ("chartqa_ft", "transformers", "torch", "peft", "tokenizers", "pillow")


def save_settings(
    adapter: Adapter,
    folder: str | Path,
    *,
    compat: bool = False,
    metric_variant: str | None = None,
    merged: Mapping[str, Any] | None = None,
) -> Path:
    """Write `chartqa_config.json`: the prompt and everything else, besides weights and processor, that answers need.

    Its image settings are for information; loading uses the processor's own files.

    Args:
        adapter: The adapter of the model that is saved.
        folder: The folder of the checkpoint.
        compat: Whether the model reproduces the results of transformers 4.28.1.
        metric_variant: The variant of relaxed accuracy that the model was selected and scored by.
        merged: If PEFT weights were merged into the model, their `peft_type`, and the `base_model` and `base_revision`
            that they were trained on. The card of the model states them.

    Returns:
        The path of the file.

    Example:
        >>> import tempfile
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> adapter = adapter_for(*tiny_unichart("test", image_size=64, window_size=4))
        >>> path = save_settings(adapter, tempfile.mkdtemp(), metric_variant="pix2struct")
        >>> read_settings(path.parent)["prompt"]
        '<chartqa> {question} <s_answer>'
    """
    settings = {
        **adapter.settings(),
        "image": image_settings(adapter.processor),
        "compat": compat,
        "metric_variant": metric_variant,
        "versions": package_versions(),
    }
    if merged is not None:
        settings["merged"] = dict(merged)
    return write_json(Path(folder) / SETTINGS_NAME, settings)


def read_settings(folder: str | Path) -> dict[str, Any]:
    """Return the content of `chartqa_config.json`, empty for a checkpoint that this library did not write.

    Raises:
        ValueError: The file is damaged; the message names it.
    """
    path = Path(folder) / SETTINGS_NAME
    if not path.is_file():
        return {}
    settings = read_json(path, advice="fetch or save the model again")
    for key, (is_right, words) in _EXPECTED.items():
        if settings.get(key) is not None and not is_right(settings[key]):
            raise ValueError(
                f"{path}: {key} must be {words}, not {settings[key]!r}: correct it, or save the model again"
            )
    return settings


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_date(value: Any) -> bool:
    try:
        return bool(check_date(value))
    except ValueError:
        return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_variant(value: Any) -> bool:
    try:
        return bool(variant_name(value))
    except ValueError:
        return False


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_origin(value: Any) -> bool:
    return isinstance(value, dict) and all(text is None or isinstance(text, str) for text in value.values())


_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "prompt": (_is_text, "text"),
    "prompts": (_is_texts, "an object of tasks and their prompts"),
    "task": (_is_text, "the name of a task"),
    "max_length": (_is_count, "an integer of at least 1, or null"),
    "system_prompt": (_is_text, "text"),
    "prompt_date": (_is_date, "a date like 2025-12-31"),
    "adapter": (_is_text, "the name of an adapter"),
    "compat": (lambda value: isinstance(value, bool), "true or false"),
    "metric_variant": (_is_variant, f"one of the variants of relaxed accuracy ({', '.join(VARIANTS)}), or null"),
    "image": (_is_object, "an object"),
    "versions": (_is_object, "an object of packages and versions"),
    "merged": (_is_origin, "an object of peft_type, base_model and base_revision, each text or null"),
}
"""Key -> whether its value is right, and what it must be."""


def known_settings() -> tuple[str, ...]:
    """Return the keys of `chartqa_config.json` that every adapter has; an adapter may add others."""
    return tuple(_EXPECTED)


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that answers can depend on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
