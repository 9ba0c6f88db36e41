"""`chartqa-ft evaluate`: a checkpoint in this process, or with `--base_url` a model on a server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from ..files import read_text
from .evaluate_checkpoint import main as evaluate_checkpoint

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Score a model as `evaluate_checkpoint` or `evaluate_served` does."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    if _names_a_server(line):
        import_module(f"{__package__}.evaluate_served").main(line)
    else:
        evaluate_checkpoint(line, program="chartqa-ft evaluate")


def _names_a_server(line: Sequence[str]) -> bool:
    """Return whether a command line, or the YAML file that it starts with, gives the address of a server."""
    if any(part.partition("=")[0] in ("--base_url", "--base-url") for part in line):
        return True
    if not line or not line[0].endswith((".yaml", ".yml")):
        return False
    try:
        entries = read_text(line[0]).splitlines()
    except (OSError, ValueError):
        return False  # the parser says what is wrong with the file
    return any(entry.partition(":")[0].strip() == "base_url" for entry in entries)
