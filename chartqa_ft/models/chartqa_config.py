"""`chartqa_config.json`: the prompt and settings that the answers of a checkpoint depend on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..adapters import Adapter
from ..adapters.image_cost import image_settings
from ..files import read_json, write_json

SETTINGS_NAME = "chartqa_config.json"
_PACKAGES = ("chartqa_ft", "transformers", "torch", "peft", "tokenizers", "pillow")


def save_settings(
    adapter: Adapter, folder: str | Path, *, compat: bool = False, metric_variant: str | None = None
) -> Path:
    """Write `chartqa_config.json`: the prompt and what else, beside weights and processor, answers depend on.

    Its image settings are there to be read; loading takes the processor's own files.

    Args:
        compat: whether the model keeps the numbers of transformers 4.28.1.
        metric_variant: of relaxed accuracy, that the model was selected and scored by.
    """
    settings = {
        **adapter.settings(),
        "image": image_settings(adapter.processor),
        "compat": compat,
        "metric_variant": metric_variant,
        "versions": package_versions(),
    }
    return write_json(Path(folder) / SETTINGS_NAME, settings)


def read_settings(folder: str | Path) -> dict[str, Any]:
    """The content of `chartqa_config.json`, empty for a checkpoint that this library did not write.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    path = Path(folder) / SETTINGS_NAME
    if not path.is_file():
        return {}
    settings = read_json(path, advice="fetch or save the model again")
    for key, kind, words in (("prompt", str, "text"), ("compat", bool, "true or false")):
        if not isinstance(settings.get(key), (kind, type(None))):
            raise ValueError(f"{path}: {key} must be {words}, not {settings[key]!r}: mend it, or save the model again")
    return settings


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that answers can depend on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
