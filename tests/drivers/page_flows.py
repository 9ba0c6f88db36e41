"""What the tests of the pages let a client process run: their blocks of Python, and their commands, imports shared."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from typing import Any

_NAMES: dict[str, Any] = {"__name__": "page"}
"""What the blocks have defined so far: one namespace, as in one notebook."""


def block(code: str, folder: str) -> str:
    """Run a block of Python in `folder`; what it prints."""
    os.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "page.md", "exec"), _NAMES)
    return said.getvalue()


def launch(line: list[str], folder: str) -> str:
    """What `accelerate launch` does with these arguments, in this process: for one process it starts the script alone.

    Returns:
        What the script prints.

    Raises:
        RuntimeError: the script ended with a message.
    """
    from accelerate.commands.launch import launch_command_parser

    launched = launch_command_parser().parse_args(line)
    os.chdir(folder)
    sys.argv = [launched.training_script, *launched.training_script_args]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(launched.training_script, run_name="__main__")
    except SystemExit as stopped:
        raise RuntimeError(str(stopped.code)) from stopped
    return said.getvalue()


def chartqa_ft(arguments: list[str], folder: str) -> str:
    """What the command `chartqa-ft` prints.

    Raises:
        RuntimeError: its exit code is not 0.
    """
    from chartqa_ft.scripts.cli import main

    os.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(arguments)
    if code:
        raise RuntimeError(f"chartqa-ft {' '.join(arguments)} ended with {code}")
    return said.getvalue()


def answers(checkpoint: str | None = None, **loading: Any) -> list[str]:
    """To the test questions: of a checkpoint, or of what the last block loaded as `model`."""
    from chartqa_ft import load_checkpoint

    if checkpoint is not None:
        return _answers(*load_checkpoint(checkpoint, **loading))
    return _answers(*(_NAMES[name] for name in ("model", "processor", "adapter")))


def trained() -> dict[str, Any]:
    """Of `trainer`: the number of its steps, and what its model answers to the test questions."""
    trainer = _NAMES["trainer"]
    found = _answers(trainer.model, trainer.processing_class, trainer.adapter)
    return {"steps": trainer.state.global_step, "answers": found}


def _answers(model: Any, processor: Any, adapter: Any) -> list[str]:
    from chartqa_ft import answer_questions, load_chartqa

    rows = load_chartqa("HuggingFaceM4/ChartQA", split="test")
    images, questions = list(rows["image"]), list(rows["question"])
    return answer_questions(model, processor, images, questions, adapter=adapter, max_new_tokens=12)


def push(tag: str) -> None:
    """Push the model of `trainer` and name the commit."""
    from huggingface_hub import HfApi

    commit = _NAMES["trainer"].push_to_hub()
    HfApi().create_tag(commit.repo_url.repo_id, tag=tag)


def streamed() -> dict[str, list[list[str]]]:
    """Question and answer of every record of `data`, split by split."""
    return {split: [[row["question"], row["answer"]] for row in rows] for split, rows in _NAMES["data"].items()}
