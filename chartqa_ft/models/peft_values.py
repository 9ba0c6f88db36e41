"""Check the numbers and the names in a PEFT configuration. PEFT uses any number, and ignores names without a match."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)

_SHOWN = 8
_SWITCHES = ("use_dora", "use_rslora", "lora_bias", "fan_in_fan_out", "ensure_weight_tying")
_BIASES = ("none", "all", "lora_only")


def check_peft_values(config: Any, *, where: str = "peft_config") -> None:
    """Check ranks, scales, dropout and switches of a `LoraConfig`, and the target modules of any configuration.

    Args:
        config: A `peft.PeftConfig`. Attributes that its method does not have are not checked.
        where: What the error message calls it.

    Raises:
        TypeError: A value has another type.
        ValueError: A value is out of range.

    Example:
        >>> from peft import LoraConfig
        >>> check_peft_values(LoraConfig(lora_alpha=float("nan")))
        Traceback (most recent call last):
        ...
        ValueError: peft_config: lora_alpha must be a finite number above 0, got nan
    """
    from peft import LoraConfig

    _check_targets(getattr(config, "target_modules", None), where)
    for name in ("modules_to_save", "target_parameters"):
        value = getattr(config, name, None)
        if value is not None and not _are_names(value):  # PEFT would take a text letter by letter
            raise TypeError(f"{where}: {name} must be a list of names, got {value!r}")
    if isinstance(config, LoraConfig):
        _check_lora(config, where)


def _check_lora(config: Any, where: str) -> None:
    def number(name: str, value: Any, is_right: Callable[[float], bool], words: str) -> None:
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{where}: {name} must be {words}, got {value!r}")
        if not is_right(float(value)):
            raise ValueError(f"{where}: {name} must be {words}, got {value!r}")

    def scale(name: str, value: Any) -> None:
        number(name, value, lambda x: math.isfinite(x) and x > 0, "a finite number above 0")

    def rank(name: str, value: Any) -> None:
        if not isinstance(value, Integral):
            raise TypeError(f"{where}: {name} must be an int of at least 1, got {value!r}")
        number(name, value, lambda x: x >= 1, "an int of at least 1")

    rank("`r`", config.r)
    scale("lora_alpha", config.lora_alpha)
    number("lora_dropout", config.lora_dropout, lambda x: 0 <= x < 1, "a number from 0 to below 1")
    for name, check in (("rank_pattern", rank), ("alpha_pattern", scale)):
        pattern = getattr(config, name, None) or {}
        if not isinstance(pattern, Mapping):
            raise TypeError(f"{where}: {name} must be a dict of module names and numbers, got {pattern!r}")
        for key, value in pattern.items():
            check(f"{name}[{key!r}]", value)
            _check_expression(name, key, where)
    for name in _SWITCHES:
        value = getattr(config, name, False)
        if not isinstance(value, bool):
            raise TypeError(f"{where}: {name} must be True or False, got {value!r}")
    if config.bias not in _BIASES:
        raise ValueError(f"{where}: bias must be one of {', '.join(_BIASES)}, got {config.bias!r}")


def _check_targets(targets: Any, where: str) -> None:
    if isinstance(targets, str):
        _check_expression("target_modules", targets, where)
    elif targets is not None and not _are_names(targets):
        raise TypeError(f"{where}: target_modules must be a list of module names or one expression, got {targets!r}")


def _check_expression(name: str, expression: Any, where: str) -> None:
    try:
        re.compile(expression)
    except (re.error, TypeError) as error:
        raise ValueError(f"{where}: {name} has no valid regular expression: {expression!r} ({error})") from error


def _are_names(names: Any) -> bool:
    return isinstance(names, (list, tuple, set, frozenset)) and all(isinstance(name, str) for name in names)


def check_peft_names(model: nn.Module, config: Any, *, where: str = "peft_config", strict: bool = True) -> None:
    """Check that each name in a configuration matches a module of the model, and each token id an embedding.

    PEFT raises an error only if no entry of `target_modules` matches. It ignores the other names without a match.

    Args:
        model: The base model, not yet wrapped by PEFT.
        config: A `peft.PeftConfig` that passed `check_peft_values`.
        where: What the message calls it.
        strict: Whether names without a match are an error. Otherwise, for those of layers to adapt, a warning is
            logged: many published checkpoints list layers of several families. Whole modules (`modules_to_save`) are
            always an error.

    Raises:
        ValueError: A name matches nothing, or there is no such token.

    Example:
        >>> from peft import LoraConfig
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> check_peft_names(model, LoraConfig(target_modules=["q_proj", "query_proj"]))
        Traceback (most recent call last):
        ...
        ValueError: peft_config: no module of VisionEncoderDecoderModel matches 'query_proj' in target_modules: \
correct the name or leave it out. Names that match are full names or their ends, such as ...
    """
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    adapted = _adapted(names, config)
    unmatched = {
        "target_modules": _unmatched(_listed(config, "target_modules"), names, _is_end),
        "exclude_modules": _unmatched(_listed(config, "exclude_modules"), names, _is_end),
        "modules_to_save": _unmatched(_listed(config, "modules_to_save"), names, lambda key, name: name.endswith(key)),
        "target_parameters": _unmatched(_listed(config, "target_parameters"), parameters, _is_end),
        "rank_pattern": _unmatched(getattr(config, "rank_pattern", None) or {}, adapted, _is_pattern_of),
        "alpha_pattern": _unmatched(getattr(config, "alpha_pattern", None) or {}, adapted, _is_pattern_of),
    }
    for setting, keys in unmatched.items():
        if not keys:
            continue
        what = "adapted module" if setting.endswith("_pattern") else "module"
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        message = (
            f"{where}: no {what} of {type(model).__name__} matches {', '.join(map(repr, keys))} in {setting}: correct "
            f"the name or leave it out. Names that match are full names or their ends, such as "
            f"{', '.join(sorted({name.rpartition('.')[2] for name in linear})[:_SHOWN])}"
        )
        if strict or setting == "modules_to_save":
            raise ValueError(message)
        logger.warning("%s.", message)
    _check_layers(adapted, getattr(config, "layers_to_transform", None), where)
    _check_token_rows(model, getattr(config, "trainable_token_indices", None), where)


def _check_layers(adapted: list[str], layers: Any, where: str) -> None:
    """Check that each number in `layers_to_transform` is that of a block."""
    numbers = [] if layers is None else [layers] if isinstance(layers, Integral) else list(layers)
    missing = [number for number in numbers if not any(f".{number}." in name for name in adapted)]
    if missing:
        raise ValueError(
            f"{where}: layers_to_transform has {', '.join(map(str, missing))}, and no adapted module is in a layer of "
            "that number: they are counted from 0"
        )


def _listed(config: Any, setting: str) -> list[str]:
    """Return the entries of a list of names; none for one expression, which PEFT checks as a whole."""
    value = getattr(config, setting, None)
    return [] if value is None or isinstance(value, str) else sorted(value)


def _unmatched(keys: Iterable[str], names: list[str], matches: Callable[[str, str], bool]) -> list[str]:
    return [key for key in keys if not any(matches(key, name) for name in names)]


def _is_end(key: str, name: str) -> bool:
    return name == key or name.endswith(f".{key}")


def _is_pattern_of(key: str, name: str) -> bool:
    """Return whether PEFT takes the value of `key` for a module (`peft.utils.other.get_pattern_key`)."""
    return re.match(rf"(.*\.)?({key})$", name) is not None


def _adapted(names: list[str], config: Any) -> list[str]:
    """Return the modules that `target_modules` selects; all if it is a word such as "all-linear" or not set."""
    targets = getattr(config, "target_modules", None)
    if isinstance(targets, str):
        return [name for name in names if re.fullmatch(targets, name)] or names
    return names if not targets else [name for name in names if any(_is_end(key, name) for key in targets)]


def _check_token_rows(model: nn.Module, indices: Any, where: str) -> None:
    if not indices:
        return
    by_layer = indices if isinstance(indices, Mapping) else {"": indices}
    modules = dict(model.named_modules(remove_duplicate=False))
    for layer, ids in by_layer.items():
        found = (
            [modules[name] for name in modules if _is_end(layer, name)] if layer else [model.get_input_embeddings()]
        )
        if not found:
            raise ValueError(f"{where}: trainable_token_indices names {layer!r}, which is no module of the model")
        rows = min(module.weight.shape[0] for module in found if hasattr(module, "weight"))
        wrong = [i for i in ids if not isinstance(i, Integral) or isinstance(i, bool) or not 0 <= int(i) < rows]
        if wrong:
            raise ValueError(
                f"{where}: trainable_token_indices has {wrong}, which are no token ids of the {rows} rows of "
                f"embeddings: call add_tokens(model, processor, tokens) first and pass the ids that it returns"
            )
