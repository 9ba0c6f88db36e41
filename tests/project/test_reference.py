"""`make docs`: the reference has every public name with its text, and needs no network."""

from __future__ import annotations

import re
import socket
import warnings
from pathlib import Path

import pytest

from ..support import reference
from ..support.pages import ROOT, TEXTS


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The reference, built with warnings as errors and without network."""
    folder = tmp_path_factory.mktemp("docs")

    def refuse(*address: object) -> None:
        raise AssertionError(f"the reference asked for {address}")

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        warnings.simplefilter("error")
        reference.build(folder)
    return folder


@pytest.mark.parametrize("module", reference.modules())
def test_every_public_name_is_there(built, module):
    text = (built / f"{module.replace('.', '/')}.html").read_text(encoding="utf-8")
    for name in reference.public_names(module):
        assert f'id="{name}"' in text, name
    assert not re.search(r'id="_(?!_version__")', text)


def test_docstrings_are_rendered_as_google_style(built):
    text = (built / "chartqa_ft.html").read_text(encoding="utf-8")
    section = text[text.index('id="tiny_unichart"') : text.index('id="write_report"')]
    for heading in ("Arguments:", "Returns:", "Raises:", "Example:"):
        assert re.search(rf"<h6[^>]*>{heading}</h6>", section), heading
    assert "<strong>image_size:</strong>" in section


def test_private_modules_are_left_out(built):
    pages = {str(path.relative_to(built)) for path in built.rglob("*.html")}
    assert pages == {"index.html", *(f"{module.replace('.', '/')}.html" for module in reference.modules())}
    assert "chartqa_ft/scripts.html" not in pages


def test_nothing_is_loaded_from_elsewhere(built):
    for path in built.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r'(?:<(?:script|img)[^>]* src|<link[^>]* href)="(?:https?:)?//[^"]+', text), path


def test_the_pages_say_how_to_build_it():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "-m tests.support.reference out/docs" in makefile
    assert all("`make docs`" in TEXTS[page] for page in ("README.md", "examples/README.md"))
