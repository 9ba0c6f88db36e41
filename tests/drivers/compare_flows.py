"""What tests of the command line let a client process do: run `chartqa-ft` in a folder and tell what it said."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any


def run(line: list[str], folder: str) -> dict[str, Any]:
    """The exit code of a command, and what it wrote to stdout and stderr."""
    from chartqa_ft.scripts.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(line)
        except SystemExit as error:
            code = error.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def fetch(repo: str, names: list[str], **settings: Any) -> dict[str, str]:
    """Name -> content of files that `fetch_files` returned."""
    from chartqa_ft.hub.single_files import fetch_files

    return {name: Path(path).read_text() for name, path in fetch_files(repo, names, **settings).items()}
