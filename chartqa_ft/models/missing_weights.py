"""Refuse checkpoints that lack weights: libraries only warn, and the model goes on with random ones."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)

_SHOWN = 6
_UNUSED = re.compile(r"^encoder\.pooler\.dense\.(weight|bias)$")
"""Weights of a `VisionEncoderDecoderModel` that take no part in its answers; TrOCR's checkpoints lack them."""
_PEFT_MISMATCH = re.compile(r"size mismatch for (\S+):")
_PEFT_WARNING = re.compile(r"Found missing adapter keys while loading the checkpoint: \[(.*?)\]", re.DOTALL)
"""PEFT's warning, the only place where `PeftModel.from_pretrained` says what was missing."""


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


def load_peft_weights(base: nn.Module, folder: str | Path, *, trainable: bool) -> PeftModel:
    """Wrap a base model with the PEFT weights of a checkpoint, all of which must be there and fit.

    Args:
        base: The base model.
        folder: The PEFT checkpoint.
        trainable: Whether the weights are loaded for training.

    Raises:
        ValueError: Weights are missing or have another shape; the message names them.
    """
    from peft import PeftModel

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = PeftModel.from_pretrained(base, str(folder), is_trainable=trainable)
        except KeyError as error:  # of modules_to_save
            raise ValueError(
                f"{folder} lacks {error.args[0]}, a weight of its adapter_config.json: fetch or save the PEFT "
                "checkpoint again"
            ) from error
        except RuntimeError as error:
            mismatched = _PEFT_MISMATCH.findall(str(error))
            if not mismatched:
                raise
            raise ValueError(
                f"{folder}: {_count(mismatched)} of another shape than adapter_config.json and the base model say: "
                f"{_listed(mismatched)}. Load the base model that they were trained on, or save the PEFT checkpoint "
                "again"
            ) from error
    missing: list[str] = []
    for warning in caught:
        match = _PEFT_WARNING.search(str(warning.message))
        if match is None:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        else:
            missing += re.findall(r"'([^']+)'", match.group(1))
    if missing := _not_shared(model, missing):
        raise ValueError(
            f"{folder} lacks {_count(missing)} of its adapter_config.json, which would be untrained: "
            f"{_listed(missing)}. Fetch or save the PEFT checkpoint again"
        )
    _report_unused(folder, model)
    return model


def _not_shared(model: nn.Module, names: list[str]) -> list[str]:
    """Return the names of weights that the model does not have under another name too."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    found = {id(weight) for name, weight in weights.items() if name not in names}
    return [name for name in names if id(weights.get(name)) not in found]


def _report_unused(folder: str | Path, model: nn.Module) -> None:
    """Log a warning if a PEFT checkpoint has weights that its model does not use.

    Args:
        folder: The PEFT checkpoint.
        model: The `PeftModel` that was loaded from it.
    """
    from peft import get_peft_model_state_dict

    file = Path(folder) / "adapter_model.safetensors"
    if not file.is_file():
        return
    with safe_open(file, framework="pt") as tensors:
        stored = set(tensors.keys())
    used = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    unused = sorted(stored - used)
    base = {re.sub(r"\.(base_layer|original_module|token_adapter)(?=\.)", "", name) for name in model.state_dict()}
    unused = [name for name in unused if re.sub(r"\.base_layer(?=\.)", "", name) not in base]
    # With other names for the same weights, which PEFT knows and translates, none of them is unused.
    if unused and used <= stored:
        logger.warning("%s has %s that the model does not use: %s", folder, _count(unused), _listed(unused))


def _with_shapes(key: Any) -> str:
    """Return an entry of transformers' `mismatched_keys`, a name with two shapes, as text."""
    if isinstance(key, str):
        return key
    name, stored, wanted = key
    return f"{name} ({tuple(stored)} instead of {tuple(wanted)})"


def _count(names: Collection[str]) -> str:
    return f"{len(names)} weight{'s' if len(names) != 1 else ''}"


def listed_weights(names: list[str]) -> str:
    """Return the number of some weights and the first of their names.

    Example:
        >>> listed_weights(["lm_head.weight", "lm_head.bias"])
        '2 weights: lm_head.weight, lm_head.bias'
    """
    return f"{_count(names)}: {_listed(names)}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
