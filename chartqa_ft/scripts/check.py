"""`chartqa-ft check`: what a training script would do with its arguments, without training.

    chartqa-ft check finetune_own_data --dataset_name questions.csv --image_dir charts
    chartqa-ft check finetune_vlm_lora --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct --max_pixels 602112
    chartqa-ft check MODEL

The first word is a training script, and the rest are its arguments. It shows the data, a batch as text, the time and
memory of a step, and charts that are both trained on and scored, and ends with code 1 if the training would be
refused. Without that word, it is finetune_own_data if --dataset_name is a local file, else finetune_unichart. With a
model alone, what the library promises is measured on that model.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["main"]

_SCRIPTS = ("finetune_unichart", "finetune_vlm_lora", "finetune_own_data")
_MODEL_CHECK = "check_model"
"""Module that measures what the library promises on a model."""


def main(arguments: Sequence[str] | None = None) -> Any:
    """Show what a training would do.

    Args:
        arguments: The command line after `chartqa-ft check`. `None`: that of this process.

    Returns:
        The exit code of the check of a model; `None` after that of a training.

    Raises:
        SystemExit: The command line is invalid, `--help` was given, or the training would be refused.
    """
    line = list(sys.argv[1:] if arguments is None else arguments)
    if not line or line[0] in ("-h", "--help"):
        print(f"usage: chartqa-ft check [SCRIPT | MODEL] [ARGUMENTS]\n\n{(__doc__ or '').strip()}\n")
        print("chartqa-ft check SCRIPT --help shows the arguments of a script.")
        raise SystemExit(0 if line else 2)
    is_file = line[0].endswith((".yaml", ".yml"))
    if line[0] not in _SCRIPTS and not is_file and not line[0].startswith("-"):
        return import_module(f"{__package__}.{_MODEL_CHECK}").main(line)
    name = line.pop(0) if line[0] in _SCRIPTS else _script_for(line)
    import_module(f"{__package__}.{name}").main([*line, "--check", "True"], program=f"chartqa-ft check {name}")
    return None


def _script_for(line: Sequence[str]) -> str:
    """Return the script that trains on the data set of a command line, which may begin with a YAML file."""
    from .yaml_arguments import read_arguments

    if line and line[0].endswith((".yaml", ".yml")):
        with suppress(OSError, ValueError):  # the parser says what is wrong with the file
            line = [*read_arguments(line[0]), *line[1:]]
    data = ""
    for part, following in zip(line, [*line[1:], ""], strict=True):
        option, equals, value = part.partition("=")
        if option in ("--dataset_name", "--dataset-name", "--data"):
            data = value if equals else following
    return "finetune_own_data" if Path(data).expanduser().is_file() else "finetune_unichart"
