"""Write the app as a Space of the Hub: a folder that `hf upload` takes, and that runs as it is."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
from pathlib import Path

from ..files import write_whole
from ..hub.model_files import check_files, files_of_model

__all__ = ["requirements", "write_space"]

_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "huggingface_hub",
    "jinja2",
    "peft",
    "pillow",
    "numpy",
    "scipy",
    "pyyaml",
    "tqdm",
    "gradio",
)
"""What the package and the app import, as `setup.cfg` names it."""
_APP = '''"""Questions on charts, answered by {model}."""

import sys

from chartqa_ft.scripts.app import main

if __name__ == "__main__":
    arguments = {arguments}
    sys.exit(main([*arguments, *sys.argv[1:]]))
'''
_CARD = """---
title: {title}
emoji: 📊
colorFrom: blue
colorTo: green
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
pinned: false
license: apache-2.0
models: {models}
---

# {heading}

Upload or paste a chart, ask a question, and see the answer with the alternatives that the model considered.

The Space was written by `chartqa-ft app --space`. It holds the package `chartqa_ft`; `requirements.txt` pins what it
needs. Charts are deleted after ten minutes, and nothing is stored.
"""


def write_space(
    folder: str | Path,
    model: str,
    *,
    revision: str | None = None,
    num_beams: int = 4,
    max_new_tokens: int = 128,
    gradio: str | None = None,
) -> Path:
    """Write the app of a model as a Space.

    A model in a local folder is copied into the Space; one on the Hub is named.

    Args:
        folder: the folder to write into. It must be new or empty.
        model: a checkpoint folder or a model on the Hub.
        revision: branch, tag or commit of a model on the Hub.
        num_beams: number of beams.
        max_new_tokens: length of the longest answer in tokens.
        gradio: version of Gradio; `None`: the one that is installed.

    Returns:
        The folder.

    Raises:
        ValueError: the folder is not empty, the model's folder holds no whole model, or a secret, or has a revision.
        ImportError: Gradio is not installed, whose version the Space pins.

    Example:
        >>> import tempfile
        >>> space = write_space(Path(tempfile.mkdtemp()), "me/charts", gradio="6.0.0")
        >>> sorted(path.name for path in space.iterdir())
        ['README.md', 'app.py', 'chartqa_ft', 'requirements.txt']
    """
    target, source = Path(folder), Path(model)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not an empty folder: choose a new one for the Space")
    is_local = source.exists()
    files = files_of_model(source) if is_local else {}
    if is_local and not files:
        raise ValueError(f"{source} holds no model: pass the folder of a checkpoint, or a model on the Hub")
    if is_local and revision is not None:
        raise ValueError(f"{source} is a local folder, which has no revision {revision!r}: leave out the revision")
    check_files(files)
    pinned = requirements(gradio)
    package = Path(__file__).resolve().parents[1]
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(package, target / "chartqa_ft", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name, path in files.items():
        copy = target / "model" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    arguments = ["model" if is_local else model, "--server_name", "0.0.0.0", "--num_beams", str(num_beams)]
    arguments += ["--max_new_tokens", str(max_new_tokens), "--no_browser"]
    arguments += ["--revision", revision] if revision else []
    name = source.name or "model"
    write_whole(target / "app.py", _APP.format(model=name, arguments=json.dumps(arguments)))
    write_whole(target / "requirements.txt", "".join(f"{line}\n" for line in pinned))
    card = _CARD.format(
        title=json.dumps(f"Chart questions: {name}"),
        heading=re.sub(r"[^\w ./:-]", "", f"Chart questions: {name}"),
        gradio=next(line for line in pinned if line.startswith("gradio==")).removeprefix("gradio=="),
        python="3.11",
        models=json.dumps([] if is_local else [model]),
    )
    write_whole(target / "README.md", card)
    return target


def requirements(gradio: str | None = None) -> list[str]:
    """Return the packages of a Space, each pinned to the version that is installed here.

    Args:
        gradio: version of Gradio; `None`: the one that is installed.

    Raises:
        ImportError: a package is not installed.
    """
    lines = []
    for name in _PACKAGES:
        if name == "gradio" and gradio is not None:
            lines.append(f"gradio=={gradio}")
            continue
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise ImportError(
                f"the Space pins {name}, which is not installed: pip install 'chartqa_ft[app]'"
            ) from error
        lines.append(f"{name}=={version.partition('+')[0]}")  # without a local part such as +cpu
    return lines
