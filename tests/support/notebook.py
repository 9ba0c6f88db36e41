"""Run the notebook, and write its results into it: `make notebook`.

python -m tests.support.notebook examples/chartqa_ft.ipynb
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]


def code_of(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def digest_of(notebook: nbformat.NotebookNode) -> str:
    """A checksum of all code, by which a reader knows that the results are those of this code."""
    return hashlib.sha256("\n\n".join(code_of(notebook)).encode()).hexdigest()


def execute(path: Path, folder: Path, **variables: Any) -> nbformat.NotebookNode:
    """The notebook with its results, run in `folder` with these environment variables besides those of this process.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, kernel_name="python3", startup_timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in variables.items()}}
    client.execute(env=env)
    notebook.metadata["code_sha256"] = digest_of(notebook)
    return notebook


def without_noise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same without progress bars on stderr, times, and the copies of pictures as JPEG, which no reader needs."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)
    return notebook


if __name__ == "__main__":
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        done = without_noise(execute(target, Path(scratch), HF_HUB_OFFLINE=1, HF_HOME=scratch))
    nbformat.write(done, target)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
