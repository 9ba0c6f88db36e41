"""Which checkpoints need the numerics of transformers 4.28.1, and how saved ones are marked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LEGACY_VERSION = "4.28.1"
MARK = "chartqa_compat"
"""Key in a saved config and image processor; its value is the version whose numerics to reproduce."""

ADVICE = "download the checkpoint again"
"""End of the messages about damaged files."""

Listing = Mapping[str, Mapping[str, Any] | None]


def needs_compat(checkpoint: str | os.PathLike[str] | Listing) -> bool:
    """Return whether a checkpoint needs the numerics of transformers 4.28.1.

    True for a ``VisionEncoderDecoderModel`` with a Donut encoder that transformers 4 saved, and for one that was
    loaded with these numerics and saved again. The version strings in config.json decide (for this family, 4.x leaves
    the outer one null and sets those of encoder and decoder). Without any, the layout decides:
    preprocessor_config.json without processor_config.json.

    Args:
        checkpoint: A folder, or its listing: file name -> parsed JSON (None if only the existence of a file is known).

    Raises:
        ValueError: A file is not valid JSON, or the checkpoint is marked with an unknown version.

    Example:
        >>> encoder = {"model_type": "donut-swin", "transformers_version": "4.28.1"}
        >>> needs_compat({"config.json": {"model_type": "vision-encoder-decoder", "encoder": encoder}})
        True
    """
    if isinstance(checkpoint, Mapping):
        files = checkpoint
    else:
        names = ("config.json", "processor_config.json", "preprocessor_config.json")
        paths = [Path(checkpoint) / name for name in names]
        files = {path.name: read_json(path, advice=ADVICE) for path in paths if path.is_file()}
    config = files.get("config.json")
    if config is None:  # only a processor was saved
        section = (files.get("processor_config.json") or {}).get("image_processor") or {}
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
    return "preprocessor_config.json" in files and "processor_config.json" not in files


def is_legacy(model_or_config: PreTrainedModel | PreTrainedConfig) -> bool:
    """Return whether a model, given as such or by its config, was loaded with the numerics of 4.28.1.

    Raises:
        ValueError: It is marked with an unknown version.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> is_legacy(model)
        False
    """
    config = getattr(model_or_config, "config", model_or_config)
    return is_marked(getattr(config, MARK, None))


def is_marked(value: str | None) -> bool:
    """Return whether the value of `MARK` names the known version.

    Raises:
        ValueError: It names another version.

    Example:
        >>> is_marked("4.28.1"), is_marked(None)
        (True, False)
    """
    if value and value != LEGACY_VERSION:
        raise ValueError(
            f"this checkpoint is marked {MARK}={value!r}, but only {LEGACY_VERSION!r} is known: update "
            "chartqa_ft, or use the numerics of the installed transformers with load_checkpoint(..., compat=False)"
        )
    return bool(value)
