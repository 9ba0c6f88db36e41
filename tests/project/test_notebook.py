"""The notebook runs from its first to its last cell, and its results are those of its code."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from ..support.notebook import ROOT, code_of, digest_of, execute

PATH = ROOT / "examples" / "chartqa_ft.ipynb"
COMMITTED = nbformat.read(PATH, as_version=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[nbformat.NotebookNode, Path]:
    """The committed notebook after a run of 2 steps on 12 charts, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("notebook")
    return execute(PATH, folder, CHARTQA_STEPS=2, CHARTQA_CHARTS=12), folder


def said(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")


def pictures(notebook: nbformat.NotebookNode) -> list[Image.Image]:
    found = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    return [Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) for data in found if "image/png" in data]


@pytest.mark.long
def test_it_runs_and_shows_the_results(run):
    notebook, folder = run
    assert code_of(notebook) == code_of(COMMITTED)
    assert [picture.width > 90 for picture in pictures(notebook)] == [True] * 4
    texts = "\n".join(said(cell) for cell in notebook.cells if cell.cell_type == "code")
    assert "relaxed accuracy [%]" in texts
    assert "Which color is largest?" in said(notebook.cells[-2])
    assert {"answers.png", "report.html", "model.safetensors", "predictions"} <= {
        path.name for path in (folder / "out").iterdir()
    }
    errors = [
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    # Where ipywidgets is missing, tqdm says how to install it.
    errors = [text for text in errors if "IProgress not found" not in text]
    assert not [text for text in errors if re.search("Warning|Traceback|deprecated", text)], errors


def test_the_committed_results_are_those_of_the_committed_code():
    assert COMMITTED.metadata["code_sha256"] == digest_of(COMMITTED)
    cells = [cell for cell in COMMITTED.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert len(pictures(COMMITTED)) == 4
    assert PATH.stat().st_size < 300_000


def test_the_committed_results_tell_nothing_of_the_machine():
    outputs = [str(output) for cell in COMMITTED.cells for output in cell.get("outputs", [])]
    assert not [text for text in outputs if re.search(r"/(?:tmp|home|root|work|Users)/", text)]


def test_other_code_would_be_found():
    changed = nbformat.reads(nbformat.writes(COMMITTED), as_version=4)
    changed.cells[1].source += "\nsteps = 7"
    assert digest_of(changed) != COMMITTED.metadata["code_sha256"]
