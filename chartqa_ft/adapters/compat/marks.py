"""Which checkpoints keep the numbers of transformers 4.28.1, and how a saved one says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import files

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LEGACY_VERSION = "4.28.1"
MARK = "chartqa_compat"
"""The key, in a saved config and image processor, whose value is the version with the wanted numbers."""

Listing = Mapping[str, Mapping[str, Any] | None]


def needs_compat(checkpoint: str | os.PathLike[str] | Listing) -> bool:
    """Whether a checkpoint wants the numbers of transformers 4.28.1.

    True for a ``VisionEncoderDecoderModel`` with a Donut encoder that transformers 4 wrote, and for one that was
    loaded that way and saved again. The version strings in config.json decide (4.x leaves the outer one null in this
    family and fills those of encoder and decoder); without any, the layout: preprocessor_config.json and no
    processor_config.json.

    Args:
        checkpoint: a folder, or its listing: file name -> parsed JSON (None for a file that is only known to exist).

    Raises:
        ValueError: a file is damaged, or the checkpoint is marked with a version that is not known here.
    """
    if isinstance(checkpoint, Mapping):
        listing = checkpoint
    else:
        names = ("config.json", "processor_config.json", "preprocessor_config.json")
        paths = [Path(checkpoint) / name for name in names]
        listing = {path.name: read_json(path) for path in paths if path.is_file()}
    config = listing.get("config.json")
    if config is None:  # a processor saved by itself
        section = (listing.get("processor_config.json") or {}).get("image_processor") or {}
        return is_marked(section.get(MARK))
    if config.get(MARK) is not None:
        return is_marked(config[MARK])
    encoder, decoder = config.get("encoder") or {}, config.get("decoder") or {}
    if config.get("model_type") != "vision-encoder-decoder" or encoder.get("model_type") != "donut-swin":
        return False
    versions = [part.get("transformers_version") for part in (config, decoder, encoder)]
    majors = [str(version).split(".")[0] for version in versions if version]
    if majors and majors[0].isdigit():
        return int(majors[0]) < 5
    return "preprocessor_config.json" in listing and "processor_config.json" not in listing


def is_legacy(model_or_config: PreTrainedModel | PreTrainedConfig) -> bool:
    """Whether a loaded model, or the one of this config, keeps the numbers of 4.28.1.

    Raises:
        ValueError: it is marked with a version that is not known here.
    """
    config = getattr(model_or_config, "config", model_or_config)
    return is_marked(getattr(config, MARK, None))


def is_marked(value: str | None) -> bool:
    if value and value != LEGACY_VERSION:
        raise ValueError(
            f"this checkpoint is marked {MARK}={value!r}, and only {LEGACY_VERSION!r} is known here: update "
            "chartqa_ft, or take the numbers of the installed transformers with load_checkpoint(..., compat=False)"
        )
    return bool(value)


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's JSON file. Raises ValueError, which names the file, if it is damaged."""
    return files.read_json(path, advice="fetch the checkpoint again")
