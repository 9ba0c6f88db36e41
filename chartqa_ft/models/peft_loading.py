"""Load the PEFT weights of a checkpoint: exactly those that the model has, none missing and none left over."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .missing_weights import listed_weights

if TYPE_CHECKING:
    from peft import PeftModel

_MISMATCH = re.compile(r"size mismatch for (\S+):")
_WARNING = re.compile(r"Found missing adapter keys while loading the checkpoint: \[(.*?)\]", re.DOTALL)
"""PEFT's warning, the only place where `PeftModel.from_pretrained` says what was missing."""
_AGAIN = "fetch or save the PEFT checkpoint again"


def load_peft_weights(base: nn.Module, folder: str | Path, *, trainable: bool) -> PeftModel:
    """Wrap a base model with the PEFT weights of a checkpoint.

    PEFT itself only warns of missing weights of its layers. It says nothing of missing biases (`bias="all"`), and
    nothing of weights in the file that the configuration has no place for.

    Args:
        base: The base model.
        folder: The PEFT checkpoint.
        trainable: Whether the weights are loaded for training.

    Raises:
        ValueError: Weights are missing, left over, or of another shape; the message names them.
    """
    from peft import PeftModel

    with _watching(base) as load, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = PeftModel.from_pretrained(base, str(folder), is_trainable=trainable)
        except KeyError as error:  # of modules_to_save and trainable_token_indices
            name = error.args[0]
            raise ValueError(f"{folder} lacks {name}, a weight of its adapter_config.json: {_AGAIN}") from error
        except ValueError as error:
            raise ValueError(
                f"{folder}/adapter_config.json does not fit its base model or its method ({error}): correct the file, "
                f"load the base model that the weights were trained on, or {_AGAIN}"
            ) from error
        except RuntimeError as error:
            mismatched = _MISMATCH.findall(str(error))
            if not mismatched:
                raise
            names = listed_weights(
                _plain(mismatched), "of another shape than adapter_config.json and the base model say"
            )
            raise ValueError(
                f"{folder}: {names}. Load the base model that they were trained on, or save the PEFT checkpoint again"
            ) from error
    missing: list[str] = []
    for warning in caught:
        match = _WARNING.search(str(warning.message))
        if match is None:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        else:
            missing += re.findall(r"'([^']+)'", match.group(1))
    _check_exact(model, folder, load, missing)
    return model


@dataclass
class _Load:
    """What the state dict of a checkpoint and the base model in a `PeftModel` had in common."""

    given: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    unexpected: set[str] = field(default_factory=set)


@contextmanager
def _watching(base: nn.Module) -> Iterator[_Load]:
    """Record what `load_state_dict` of a model around `base` finds. PEFT does not return it."""
    load = _Load()

    def before(module: nn.Module, state_dict: dict[str, Any], *_: Any) -> None:
        load.given |= set(state_dict)

    def after(module: nn.Module, keys: Any) -> None:
        # The lists hold what was found in the modules around `base` too, which are visited first.
        load.missing |= set(keys.missing_keys)
        load.unexpected |= set(keys.unexpected_keys)

    hooks = base.register_load_state_dict_pre_hook(before), base.register_load_state_dict_post_hook(after)
    try:
        yield load
    finally:
        for hook in hooks:
            hook.remove()


_TRAINED_ROWS = ".trainable_tokens_delta"


def _check_exact(model: PeftModel, folder: str | Path, load: _Load, warned: list[str]) -> None:
    """Check that the weights in the file are those that PEFT would save of this model.

    The file may hold the embeddings too (PEFT's `save_embedding_layers`): they are loaded into the base model.
    """
    own = model.state_dict()
    saved = _saved_names(model, own)
    if missing := _not_shared(own, sorted({*warned, *(load.missing & saved)})):
        names = listed_weights(_plain(missing), "of its adapter_config.json, which would be untrained")
        raise ValueError(f"{folder} lacks {names}: {_AGAIN}")
    embeddings = tuple(f"{name}." for name in embedding_names(model))
    # Rows of tied embeddings that are trained individually are stored for both of them.
    trains_rows = any(_TRAINED_ROWS in name for name in own)
    tied = {name for name in load.unexpected if name.startswith(embeddings) and name.endswith(_TRAINED_ROWS)}
    unused = load.unexpected - own.keys() - (tied if trains_rows else set())
    unused |= {
        name
        for name in (load.given & own.keys()) - load.missing - saved
        if not name.startswith(embeddings) and name not in warned
    }
    if unused:
        names = listed_weights(_plain(sorted(unused)), "without a place in its adapter_config.json")
        raise ValueError(
            f"{folder} has {names}. That file (target_modules, layers_to_transform, modules_to_save, bias) is not the "
            f"one that they were saved with, or the base model is another: {_AGAIN}"
        )


def _saved_names(model: PeftModel, own: dict[str, Any]) -> set[str]:
    """Return the names in the state dict of the weights that PEFT would save."""
    from peft import get_peft_model_state_dict

    values = get_peft_model_state_dict(model, state_dict=own, save_embedding_layers=False).values()
    ids = set(map(id, values))
    return {name for name, weight in own.items() if id(weight) in ids}


def embedding_names(model: PeftModel) -> list[str]:
    """Return the names of the modules of the input and output embeddings."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return [
        name
        for name, module in model.named_modules(remove_duplicate=False)
        if any(module is layer for layer in layers)
    ]


def _not_shared(own: dict[str, Any], names: list[str]) -> list[str]:
    """Return the names of weights that the model does not have under another name too."""
    found = {_place(weight) for name, weight in own.items() if name not in names}
    return [name for name in names if name not in own or _place(own[name]) not in found]


def _place(weight: Any) -> Any:
    """Return what two names of one weight have in common, and no other weight has."""
    pointer = weight.data_ptr() if hasattr(weight, "data_ptr") else 0
    return (pointer, tuple(weight.shape)) if pointer else id(weight)


def _plain(names: list[str]) -> list[str]:
    """Return the names of weights as they are in the file, without the name of the PEFT weights."""
    return [re.sub(r"\.default(?=\.|$)", "", name) for name in names]
