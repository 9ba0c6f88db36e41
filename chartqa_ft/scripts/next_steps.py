"""The commands that go on from a finished training: score its model, and look at its answers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ..data.record_files import SPLIT_ALIASES
from ..data.split_names import local_splits
from .arguments import DatasetArguments
from .evaluate_checkpoint import EvaluationArguments
from .held_out import SPLIT_NAME

__all__ = ["next_commands"]

_DATA = (
    "dataset_name",
    "dataset_revision",
    "image_dir",
    "column_map",
    "task",
    "on_error",
    "require_answers",
    "prompt",
    "prompts",
)
"""Arguments of a training script that an evaluation of its model needs as well."""


def next_commands(
    script: Any, output_dir: str | Path, args: Any = None, evaluated: str | None = None
) -> dict[str, str]:
    """Return what to do with the model of a training, as commands by their purpose.

    Args:
        script: Arguments of the training script. If it scored the validation split, the test split is scored next. If
            it wrote a report, none is proposed.
        output_dir: Folder of the model.
        args: Arguments of the training. The answers are generated and scored as at its end.
        evaluated: The split that the evaluated records are from, for a script without an argument for it.

    Example:
        >>> from chartqa_ft.scripts import DataArguments
        >>> for purpose, command in next_commands(DataArguments(dataset_name="my charts"), "out").items():
        ...     print(f"{purpose}: {command}")
        score: chartqa-ft evaluate --model_name_or_path out --dataset_name 'my charts' --eval_split test --output_dir \
out/scores
        report: chartqa-ft report out
    """
    folder = Path(output_dir)
    words = ["chartqa-ft", "evaluate", "--model_name_or_path", str(folder)]
    values = {name: getattr(script, name, None) for name in _DATA}
    if getattr(script, "eval_data", None):  # a file of its own
        values |= {"dataset_name": script.eval_data, "dataset_revision": None}
    for name in ("on_error", "require_answers"):
        if values[name] == getattr(DatasetArguments, name):
            del values[name]
    for name, value in values.items():
        if value is not None:
            words += [f"--{name}", *(str(item) for item in (value if isinstance(value, list) else [value]))]
    held_out = _held_out(script, folder)
    if held_out is not None:
        words += ["--split_file", str(held_out)]
        evaluated = getattr(script, "train_split", evaluated)
    else:
        evaluated = getattr(script, "eval_split", evaluated)
    split = _next_split(evaluated, values, keep=held_out is not None or not hasattr(script, "eval_split"))
    if split is not None:
        words += ["--eval_split", split]
    for name, default in _scoring_defaults().items():
        value = getattr(args, name, default)
        if name == "generation_num_beams":
            value = getattr(script, "final_num_beams", None) or value
        if value is not None and value != default:
            words += [f"--{name}", str(value)]
    words += ["--output_dir", str(folder / "scores")]
    commands = {"score": shlex.join(words)}
    if not getattr(script, "report", False):
        charts = ["--images", str(values["image_dir"])] if values["image_dir"] is not None else []
        commands["report"] = shlex.join(["chartqa-ft", "report", str(folder), *charts])
    return commands


def _next_split(evaluated: str | None, data: dict[str, Any], *, keep: bool) -> str | None:
    """Return the split to evaluate, `None` if the data set is taken whole.

    Args:
        evaluated: The split that the training evaluated, or a part of one.
        data: The arguments of the data set.
        keep: Whether it is not followed by the test split.
    """
    follows = not keep and evaluated in SPLIT_ALIASES
    source = Path(data["dataset_name"] or "").expanduser()
    if evaluated is None or not source.exists():
        return "test" if follows else evaluated
    found = local_splits(source, data["task"])
    if not found.are_named:
        return evaluated if "[" in evaluated else None
    return "test" if follows and "test" in found.names else evaluated


def _scoring_defaults() -> dict[str, Any]:
    """Return what changes scores, of trainings and evaluations alike, with the defaults of evaluations."""
    names = (
        "metric_variant",
        "metric_extract",
        "metric_interval",
        "generation_num_beams",
        "generation_max_new_tokens",
        "on_bad_text",
    )
    defaults = EvaluationArguments(model_name_or_path="", output_dir="")
    return {name: getattr(defaults, name) for name in names}


def _held_out(script: Any, folder: Path) -> Path | str | None:
    """Return the file of the charts that the training held out: the one it was given, else the one it wrote."""
    if getattr(script, "eval_data", None) or not hasattr(script, "split_file"):
        return None
    drawn = folder / SPLIT_NAME
    return script.split_file or (drawn if drawn.is_file() else None)
