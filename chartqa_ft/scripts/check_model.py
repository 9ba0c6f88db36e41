"""Measure on this machine whether what chartqa_ft promises holds for a model, before you train it.

    chartqa-ft check Qwen/Qwen2.5-VL-3B-Instruct --dtype bfloat16 --lora
    chartqa-ft check out --data questions.csv --image_dir charts --json check.json

It prints a table with nine lines, each of which passes, fails or does not apply, with what was measured and the bound
that follows from the dtype. The exit code is 1 if a line fails, so that a CI job can stop there. It runs in one
process, on the GPU if there is one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from . import one_line_errors
from .arguments import CheckpointArguments, DatasetArguments
from .parsing import ScriptParser, parse_mapping

__all__ = ["CheckModelArguments", "main"]

ALIASES = {"data": "dataset_name"}
_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(kw_only=True)
class CheckModelArguments(DatasetArguments, CheckpointArguments):
    """Which model to check, on which questions.

    Example:
        >>> CheckModelArguments(model_name_or_path="out").dtype
        'auto'
    """

    model_name_or_path: str = field(metadata={"help": "A checkpoint folder or a model on the Hub."})
    dataset_name: str | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "A data set on the Hub, a folder in the original layout, or a JSON/CSV/Parquet file, of which the "
            "first questions are used. Unset: drawn charts."
        },
    )
    split: str = field(default="train", metadata={"help": "Split of the data set."})
    dtype: str = field(
        default="auto", metadata={"help": f"Dtype of the weights: {', '.join(_DTYPES)}. auto: that of the checkpoint."}
    )
    lora: bool = field(
        default=False, metadata={"help": "Check the gradients of the default LoRA weights instead of all weights."}
    )
    lines: list[str] | None = field(default=None, metadata={"help": "Names of the lines to check. Unset: all."})
    json: str | None = field(default=None, metadata={"help": "File to write the result to, as JSON."})
    use_cpu: bool = field(default=False, metadata={"help": "Check on the CPU."})


def main(
    arguments: Sequence[str] | None = None, *, description: str | None = __doc__, program: str = "chartqa-ft check"
) -> int:
    """Check a model and return the exit code: 0, or 1 if a line fails.

    Args:
        arguments: The command line without the name of the program, `--model_name_or_path MODEL` or just `MODEL` in
            front. `None`: that of this process.
        description: Text that `--help` shows.
        program: The command of the usage line.

    Raises:
        SystemExit: An argument is invalid, or model or data cannot be loaded; the message is one line.
    """
    parser = ScriptParser(
        CheckModelArguments,
        description=description,
        usage=f"{program} MODEL [--ARGUMENT VALUE ...]",
        aliases=ALIASES,
    )
    line = list(sys.argv[1:] if arguments is None else arguments)
    if line and not line[0].startswith("-") and not line[0].endswith((".yaml", ".yml")):
        line.insert(0, "--model_name_or_path")
    (script,) = parser.parse(line)
    return check(script)


def check(script: CheckModelArguments) -> int:
    """Check the model of the arguments, print the report, and return the exit code."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from ..models.load import load_checkpoint
    from ..models.lora import default_lora_config
    from ..training.model_check.check import check_model
    from .held_out import split_by_file
    from .loading import load_split, naming

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    disable_progress_bar()
    with one_line_errors():
        if script.dtype not in _DTYPES:
            raise ValueError(f"--dtype must be one of {', '.join(_DTYPES)}, got {script.dtype!r}")
        records = None if script.dataset_name is None else load_split(script, script.split)
        if records is None:
            _check_without_data(script)
        elif script.split_file:
            records = split_by_file(records, script.split_file, str(script.dataset_name), training=False)[1]
        with naming(script.model_name_or_path):
            model, processor, adapter = load_checkpoint(
                script.model_name_or_path,
                revision=script.model_revision,
                prompt=script.prompt,
                system_prompt=script.system_prompt,
                prompts=parse_mapping(script.prompts, "prompts"),
                compat=None if script.compat else False,
                trainable=True,
                dtype="auto" if script.dtype == "auto" else getattr(torch, script.dtype),
            )
        model = model.to("cuda" if not script.use_cpu and torch.cuda.is_available() else "cpu")
        peft_config = default_lora_config(model) if script.lora and not hasattr(model, "peft_config") else None
        report = check_model(
            model,
            processor,
            records,
            adapter=adapter,
            peft_config=peft_config,
            lines=script.lines,
            progress=lambda title: print(f"measuring: {title}", file=sys.stderr),
        )
    print(report)
    if script.json is not None:
        report.write(script.json)
    return report.exit_code


def _check_without_data(script: CheckModelArguments) -> None:
    """Raise `ValueError` if there is no data set, but an argument about one."""
    of_data = [field for field in fields(DatasetArguments) if field.name != "dataset_name"]
    given = [field.name for field in of_data if getattr(script, field.name) != field.default]
    if script.split != "train":
        given.append("split")
    if given:
        raise ValueError(f"--{given[0]} is about a data set: name one with --data, or leave out --{given[0]}")
