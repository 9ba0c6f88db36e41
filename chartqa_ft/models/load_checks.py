"""Check the arguments of `load_checkpoint` and the files of a checkpoint, before anything is loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..adapters import Adapter
from ..adapters.argument_checks import check_prompt, check_switch
from ..adapters.token_rows import as_list
from ..files import read_json
from .chartqa_config import known_settings

logger = logging.getLogger(__name__)

JSON_FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""Files of a checkpoint that must hold a JSON object, if they exist."""


def check_load_arguments(
    path_or_repo: Any, *, revision: Any, prompt: Any, compat: Any, dtype: Any = None, **switches: Any
) -> None:
    """Check the arguments of `load_checkpoint`.

    Raises:
        TypeError: An argument has another type; the message names it.
        ValueError: The path is blank, the prompt has no field `{question}`, or `revision` is given for a local folder.

    Example:
        >>> check_load_arguments(".", revision="main", prompt=None, compat=None, merge=False)
        Traceback (most recent call last):
        ...
        ValueError: revision='main' selects a version of a model on the Hub, and . is a local folder: leave revision \
out
    """
    if not isinstance(path_or_repo, (str, Path)):
        raise TypeError(
            f"path_or_repo must be the path of a folder or the name of a model on the Hub, got a "
            f"{type(path_or_repo).__name__}"
        )
    if not str(path_or_repo).strip():
        raise ValueError(
            f"path_or_repo is {path_or_repo!r}: pass the path of a folder or the name of a model on the Hub"
        )
    for name, value in switches.items():
        check_switch(name, value)
    check_switch("compat", compat, or_none=True)
    if revision is not None and not isinstance(revision, str):
        raise TypeError(f"revision must be the name of a branch or tag, or a commit, got {revision!r}")
    if revision is not None and Path(path_or_repo).is_dir():
        raise ValueError(
            f"revision={revision!r} selects a version of a model on the Hub, and {path_or_repo} is a local folder: "
            "leave revision out"
        )
    if prompt is not None:
        check_prompt(prompt)
    is_known = not isinstance(dtype, str) or dtype == "auto" or isinstance(getattr(torch, dtype, None), torch.dtype)
    if not is_known:
        raise ValueError(f"dtype={dtype!r} is no dtype of torch: pass one such as torch.bfloat16, or 'auto'")


def check_json_files(folder: Path) -> None:
    """Check that the JSON files of a checkpoint hold JSON objects.

    Raises:
        ValueError: One does not; the message names it.
    """
    for name in JSON_FILES:
        if (folder / name).is_file():
            read_json(folder / name, advice="fetch or save the checkpoint again")


def check_saved_adapter(folder: Path, saved: Mapping[str, Any], adapter: Adapter) -> None:
    """Check that a checkpoint is loaded with the adapter that it was trained with, and uses all of its settings.

    Raises:
        ValueError: It was saved with another adapter, whose prompts and tensors differ.
    """
    name = saved.get("adapter")
    if name is not None and name != adapter.name:
        raise ValueError(
            f"{folder}/chartqa_config.json says that the checkpoint was trained with the adapter {name!r}, and its "
            f"model gets {adapter.name!r}: register the adapter first (register_adapter), or correct the file"
        )
    unknown = sorted(set(saved) - set(known_settings()) - set(adapter.settings()))
    if unknown:
        logger.warning(
            "%s/chartqa_config.json has settings that are not used: %s. Correct their names, or update chartqa_ft",
            folder,
            ", ".join(unknown),
        )


def check_token_ids(folder: Path, model: nn.Module) -> None:
    """Check that the ids which end and pad answers are rows of the embeddings.

    Raises:
        ValueError: One is not; the message names it.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    for name in ("eos_token_id", "pad_token_id"):
        for index in as_list(getattr(model.generation_config, name, None)):
            # Early Llama checkpoints store -1 for "no padding token".
            is_unset = name == "pad_token_id" and index == -1
            if not isinstance(index, int) or isinstance(index, bool) or not (0 <= index < rows or is_unset):
                raise ValueError(
                    f"{folder}: {name}={index!r} in generation_config.json (or config.json) is no token of the model, "
                    f"which has {rows}: write the id of its tokenizer, or fetch or save the checkpoint again"
                )


def check_finite(folder: Path, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Check that no weight is NaN or infinite. It reads each weight once, which is fast beside loading them.

    Args:
        folder: The checkpoint, for the error message.
        weights: (name, weight) pairs. Weights without data (on the meta device), quantized ones and those of fewer
            than 16 bits are skipped.

    Raises:
        ValueError: A weight is not finite; the message names it.

    Example:
        >>> check_finite(Path("out"), [("head.bias", torch.tensor([0.0, float("nan")]))])
        Traceback (most recent call last):
        ...
        ValueError: out: 1 weight is not finite (NaN or infinity), such as head.bias: fetch or save the checkpoint \
again, or use an earlier one
    """
    with torch.no_grad():
        ends = {
            name: torch.stack(torch.aminmax(weight.detach())).float()
            for name, weight in weights
            if weight.is_floating_point() and weight.element_size() > 1 and weight.numel() and not weight.is_meta
        }
        bad = [name for name, pair in ends.items() if not bool(pair.isfinite().all())]
    if bad:
        count = f"{len(bad)} weights are" if len(bad) > 1 else "1 weight is"
        raise ValueError(
            f"{folder}: {count} not finite (NaN or infinity), such as {bad[0]}: fetch or save the checkpoint "
            "again, or use an earlier one"
        )


@contextmanager
def naming_config(folder: Path, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Name the checkpoint and the arguments in errors of `from_pretrained` that mention neither."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "ignore_mismatched_sizes" not in str(error):
            raise  # memory, devices
        given = f" and the arguments {', '.join(arguments)}" if arguments else ""
        raise ValueError(
            f"{folder} was not loaded ({type(error).__name__}: {error}). Check {folder}/config.json (model_type, and "
            f"sizes that must be those of the weights), generation_config.json{given}, or fetch or save the "
            "checkpoint again"
        ) from error
