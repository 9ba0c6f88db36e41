"""What a card says about the data that a model was trained and scored on, from the arguments of a script."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..public import short_name

__all__ = ["evaluation_data", "other_datasets", "training_data"]


def training_data(arguments: Mapping[str, Any]) -> str | None:
    """Return what a model was trained on, from the arguments of a training script.

    Args:
        arguments: `train_split`, `dataset_name`, `other_datasets` and `dataset_weights`, as far as they are there.

    Returns:
        The split; of several data sets, their names with their shares of the questions; `None` if neither is known.

    Example:
        >>> mixed = {"dataset_name": "HuggingFaceM4/ChartQA", "other_datasets": ["own.csv"], "dataset_weights": [7, 3]}
        >>> training_data({"train_split": "train"}), training_data(mixed)
        ('train', 'a mixture of ChartQA (70 %) and own.csv (30 %)')
    """
    split = arguments.get("train_split")
    first, others = arguments.get("dataset_name"), other_datasets(arguments)
    if not (isinstance(first, str) and others):
        return split
    weights = arguments.get("dataset_weights")
    shown = [short_name(name) for name in (first, *others)]
    if isinstance(weights, (list, tuple)) and len(weights) == len(shown) and all(map(_is_weight, weights)):
        largest = max(weights)
        parts = [weight / largest for weight in weights]
        shares = [100 * part / sum(parts) for part in parts]
        shown = [f"{name} ({share:.3g} %)" for name, share in zip(shown, shares, strict=True)]
    mixture = f"a mixture of {', '.join(shown[:-1])} and {shown[-1]}"
    return f"{split} of {mixture}" if split else mixture


def evaluation_data(arguments: Mapping[str, Any]) -> str | None:
    """Return what a model was scored on, from the arguments of a script.

    Args:
        arguments: `eval_data`, `split_file`, `held_out` and `split_seed`, and `eval_split`, as far as they are there.

    Returns:
        The split, or the charts that were held out; `None` if neither is known.

    Example:
        >>> evaluation_data({"eval_split": "val"})
        'val'
        >>> evaluation_data({"eval_split": "val", "split_file": "out/split.json"})
        'the charts of split.json, held out'
        >>> evaluation_data({"held_out": 0.2, "split_seed": 0})
        '20% of its charts, held out (split_seed 0)'
    """
    for name, words in (("eval_data", "{}"), ("split_file", "the charts of {}, held out")):
        if isinstance(arguments.get(name), str) and arguments[name]:
            return words.format(PurePath(arguments[name]).name)
    share = arguments.get("held_out")
    if isinstance(share, float) and 0 < share < 1:
        return f"{share:.0%} of its charts, held out (split_seed {arguments.get('split_seed')})"
    split = arguments.get("eval_split")
    return split if isinstance(split, str) and split else None


def other_datasets(arguments: Mapping[str, Any]) -> list[str]:
    """Return the names of the data sets that were mixed with the first one, none if the file is damaged.

    Example:
        >>> other_datasets({"other_datasets": ["own.csv"]}), other_datasets({"other_datasets": 5})
        (['own.csv'], [])
    """
    names = arguments.get("other_datasets")
    good = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return list(names) if names and good else []


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value <= sys.float_info.max
