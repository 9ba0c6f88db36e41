"""Refuse checkpoints that lack weights: libraries only warn, and the model goes on with random ones."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_SHOWN = 6
_UNUSED = re.compile(r"^encoder\.pooler\.dense\.(weight|bias)$")
"""Weights of a `VisionEncoderDecoderModel` that take no part in its answers; TrOCR's checkpoints lack them."""


def check_all_loaded(folder: str | Path, info: Mapping[str, Any], *, allow_mismatched: bool = False) -> None:
    """Check that a model got all its weights from a checkpoint, and report weights that were not used.

    Args:
        folder: The checkpoint.
        info: The loading info of `from_pretrained(..., output_loading_info=True)`. Tied weights that are stored once
            are not missing in it.
        allow_mismatched: Only warn of weights of another shape, which are then random.

    Raises:
        ValueError: Weights are missing or have another shape; the message names them.

    Example:
        >>> info = {"missing_keys": {"lm_head.weight"}, "unexpected_keys": [], "mismatched_keys": []}
        >>> check_all_loaded("run/out", info)
        Traceback (most recent call last):
        ValueError: run/out lacks 1 weight of the model, which would be random: lm_head.weight. Fetch or save the \
checkpoint again; the names may also be those of another version of the model's code
    """
    missing = sorted(name for name in info.get("missing_keys") or () if not _UNUSED.search(name))
    if missing:
        raise ValueError(
            f"{folder} lacks {_count(missing)} of the model, which would be random: {_listed(missing)}. Fetch or save "
            "the checkpoint again; the names may also be those of another version of the model's code"
        )
    if mismatched := sorted(_with_shapes(key) for key in info.get("mismatched_keys") or ()):
        message = f"{folder}: {_count(mismatched)} of another shape than in the model: {_listed(mismatched)}"
        if not allow_mismatched:
            raise ValueError(f"{message}. The config.json is not that of these weights: fetch or save both again")
        logger.warning("%s. They are random (ignore_mismatched_sizes=True).", message)
    if unexpected := sorted(info.get("unexpected_keys") or ()):
        logger.warning("%s has %s that the model does not use: %s", folder, _count(unexpected), _listed(unexpected))


def _with_shapes(key: Any) -> str:
    """Return an entry of transformers' `mismatched_keys`, a name with two shapes, as text."""
    if isinstance(key, str):
        return key
    name, stored, wanted = key
    return f"{name} ({tuple(stored)} instead of {tuple(wanted)})"


def _count(names: Collection[str]) -> str:
    return f"{len(names)} weight{'s' if len(names) != 1 else ''}"


def listed_weights(names: list[str], what: str = "") -> str:
    """Return the number of some weights, what they are, and the first of their names.

    Example:
        >>> listed_weights(["lm_head.weight", "lm_head.bias"], "that the model does not use")
        '2 weights that the model does not use: lm_head.weight, lm_head.bias'
    """
    return f"{_count(names)}{' ' if what else ''}{what}: {_listed(names)}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
