"""Command lines: the training scripts, the subcommands of `chartqa-ft`, and what they share."""

from importlib import import_module
from typing import Any

# Loaded on first use: most of them import torch and transformers.
_HOMES = {
    "CheckpointArguments": "arguments",
    "DataArguments": "arguments",
    "DatasetArguments": "arguments",
    "EvalDataArguments": "arguments",
    "ModelArguments": "arguments",
    "ResultArguments": "arguments",
    "ScoringArguments": "arguments",
    "command_line": "command",
    "HelpFormatter": "parsing",
    "ScriptParser": "parsing",
    "parse": "parsing",
    "parse_mapping": "parsing",
    "checkpoint_to_resume": "running",
    "check_pictures": "pictures",
    "write_pictures": "pictures",
    "load_model": "loading",
    "load_records": "loading",
    "load_split": "loading",
    "naming": "loading",
    "one_line_errors": "errors",
    "run_script": "running",
    "set_up_logging": "running",
    "train_and_score": "running",
    "trainable_share": "running",
    "write_report": "running",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
