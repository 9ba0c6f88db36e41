"""The API reference: all public names of the package and of its rooms, from their docstrings.

python -m tests.support.reference out/docs
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pdoc.doc
import pdoc.render

import chartqa_ft

INTERNAL = {"scripts"}
"""Rooms without names for users."""


def modules() -> list[str]:
    """The modules of the reference: the package and its rooms. The modules inside of a room are private."""
    rooms = sorted(path.parent.name for path in Path(chartqa_ft.__file__).parent.glob("*/__init__.py"))
    return ["chartqa_ft", *(f"chartqa_ft.{room}" for room in rooms if room not in INTERNAL)]


def public_names(module: str) -> list[str]:
    return list(import_module(module).__all__)


def build(folder: Path) -> list[Path]:
    """Write the reference into `folder`, with `index.html` in front; the files."""
    documented = {}
    for name in modules():
        module = import_module(name)
        for public in public_names(name):  # most are loaded on first use, and pdoc takes what is there
            setattr(module, public, getattr(module, public))
        documented[name] = pdoc.doc.Module(module)
    pdoc.render.configure(docformat="google", show_source=False, footer_text=f"chartqa_ft {chartqa_ft.__version__}")
    pages = {f"{name.replace('.', '/')}.html": name for name in documented}
    texts = {page: pdoc.render.html_module(documented[name], documented) for page, name in pages.items()}
    texts["index.html"] = pdoc.render.html_index(documented)
    texts["search.js"] = pdoc.render.search_index(documented)
    for page, text in texts.items():
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text(text, encoding="utf-8")
    return [folder / page for page in texts]


if __name__ == "__main__":
    build(Path(sys.argv[1]))
    print(f"reference: {Path(sys.argv[1]) / 'index.html'}")
