"""The help of a script: the arguments that people use first, in groups, or all of them."""

from __future__ import annotations

import difflib
import shutil
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

__all__ = ["DATA", "EVALUATION", "HUB", "MODEL", "TRAINING", "Groups", "format_arguments", "nearest"]

Groups = Mapping[str, Sequence[str]]
"""Title -> the arguments of a group, in the order of the help."""

MODEL = ("model_name_or_path", "prompt")
DATA = (
    "dataset_name",
    "image_dir",
    "column_map",
    "train_split",
    "eval_split",
    "max_train_samples",
    "max_eval_samples",
)
TRAINING = (
    "output_dir",
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "activation_checkpointing",
    "use_cpu",
    "resume_from_checkpoint",
    "check",
)
EVALUATION = ("generation_num_beams", "metric_variant", "eval_subset", "baseline", "report")
HUB = ("push_to_hub", "hub_model_id", "report_to")

_SHORT_NAMES = {
    "accumulation_steps": "gradient_accumulation_steps",
    "batch_size": "per_device_train_batch_size",
    "beams": "generation_num_beams",
    "cpu": "use_cpu",
    "data": "dataset_name",
    "dataset": "dataset_name",
    "epochs": "num_train_epochs",
    "eval_batch_size": "per_device_eval_batch_size",
    "gradient_checkpointing": "activation_checkpointing",
    "images": "image_dir",
    "lr": "learning_rate",
    "max_new_tokens": "generation_max_new_tokens",
    "model": "model_name_or_path",
    "num_beams": "generation_num_beams",
    "num_epochs": "num_train_epochs",
    "output": "output_dir",
    "resume": "resume_from_checkpoint",
    "steps": "max_steps",
    "train_batch_size": "per_device_train_batch_size",
    "variant": "metric_variant",
}
"""Names that other programs use -> ours."""
_COLUMN = 30
"""Width of the column of names."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known argument that an unknown one probably means, or `None`.

    Args:
        name: What was typed, with or without its dashes.
        known: Names of arguments, without dashes.

    Example:
        >>> nearest("--lerning-rate", ["learning_rate", "seed"]), nearest("--lr", ["learning_rate"])
        ('learning_rate', 'learning_rate')
        >>> nearest("--colour", ["learning_rate"]) is None
        True
    """
    plain = name.lstrip("-").replace("-", "_").lower()
    meant = {**{short: long for short, long in _SHORT_NAMES.items() if long in known}, **{one: one for one in known}}
    if plain in meant:
        return meant[plain]
    found = difflib.get_close_matches(plain, sorted(meant), 1, 0.65)
    starts = sorted(one for one in known if one.startswith(f"{plain}_") or one.endswith(f"_{plain}"))
    return meant[found[0]] if found else starts[0] if starts else None


def format_arguments(actions: Iterable[Action], groups: Groups, rest: Groups | None = None) -> str:
    """Return the help of arguments in groups.

    Args:
        actions: Actions of an `argparse` parser.
        groups: The groups; names that the parser does not have are left out.
        rest: Groups of further arguments; those that are in `groups` are not repeated.

    Example:
        >>> from argparse import ArgumentParser
        >>> parser = ArgumentParser(add_help=False)
        >>> _ = parser.add_argument("--seed", type=int, default=42, help="Seed of the draw.")
        >>> print(format_arguments(parser._actions, {"Training": ["seed", "max_steps"]}))
        Training:
          --seed INT                  Seed of the draw. (default: 42)
    """
    by_name: dict[str, list[Action]] = {}
    for action in actions:
        if action.option_strings:
            by_name.setdefault(action.option_strings[0].lstrip("-"), []).append(action)
    width = min(shutil.get_terminal_size().columns, 119) - 2
    shown: set[str] = set()
    sections = []
    for title, names in [*groups.items(), *(rest or {}).items()]:
        new = [name for name in names if name in by_name and name not in shown]
        shown.update(new)
        if new:
            sections.append("\n".join([f"{title}:", *(_entry(by_name[name][0], width) for name in new)]))
    return "\n\n".join(sections)


def _entry(action: Action, width: int) -> str:
    name = f"  {action.option_strings[0]} {_value(action)}".rstrip()
    words = (action.help or "").replace("%%", "%")
    default = action.default
    if default is not SUPPRESS and default is not None and default != []:
        words += f" (default: {default.value if isinstance(default, Enum) else default})"
    lines = textwrap.wrap(" ".join(words.split()), max(width - _COLUMN, 30)) or [""]
    first = [f"{name:<{_COLUMN}}{lines[0]}"] if len(name) < _COLUMN else [name, " " * _COLUMN + lines[0]]
    return "\n".join([*first, *(" " * _COLUMN + line for line in lines[1:])]).rstrip()


def _value(action: Action) -> str:
    """Return what stands for the value of an argument."""
    if action.nargs == 0:
        return ""
    kind: Any = getattr(action.type, "__name__", "str")
    named = {"str": "TEXT", "int": "INT", "float": "NUMBER", "string_to_bool": "True|False", "Path": "PATH"}
    value = named.get(kind, "JSON" if kind == "dict" else "TEXT")
    if action.choices:
        value = "|".join(map(str, action.choices))
        value = value if len(value) <= 60 else "NAME"
    return f"[{value}]" if action.nargs == "?" else f"{value} ..." if action.nargs == "+" else value
