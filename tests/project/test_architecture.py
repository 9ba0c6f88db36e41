"""The rooms of the package: imports point one way, and `chartqa_ft/README.md` says which."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import chartqa_ft

from ..support.common import ROOT

PACKAGE = ROOT / "chartqa_ft"
PAGE = (PACKAGE / "README.md").read_text(encoding="utf-8")
ALIASES = {
    "lora": ("ALPHA", "DROPOUT", "RANK", "add_tokens", "default_lora_config", "quantized_loading"),
    "model_card": ("CardFacts", "CardSample", "read_card", "render_card", "write_card"),
    "report": ("draw_answers",),
    "splits": ("split_by_chart",),
    "tiny": ("DEMO_CHARTS_PER_STEP", "DEMO_TRAINING", "DEMO_TRAIN_CHARTS", "tiny_unichart"),
}


def allowed() -> dict[str, set[str]]:
    """Room -> the rooms that it may import, as the page's table has it."""
    rows = re.findall(r"^\| `(\w+)/` \|.*\| ([^|]*) \|$", PAGE, flags=re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", rooms)) for room, rooms in rows}


def name_of(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imports(package: Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports anywhere, functions and TYPE_CHECKING included.

    A name that a face (`__init__`) hands on counts as an import of the face.
    """
    modules = {name_of(path, package): path for path in package.rglob("*.py")}
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in modules.items():
        inside = module.split(".") if module else []
        folder = inside if path.name == "__init__.py" else inside[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == package.name):
                base = folder[: len(folder) - node.level + 1] if node.level else []
                parts = (node.module or "").split(".") if node.level else (node.module or "").split(".")[1:]
                base = [*base, *(part for part in parts if part)]
                for alias in node.names:
                    target = ".".join([*base, alias.name])
                    found[module].add(target if target in modules else ".".join(base))
            elif isinstance(node, ast.Import):
                names = [alias.name.partition(".") for alias in node.names]
                found[module].update(rest for top, _, rest in names if top == package.name)
    return found


def wrong_arrows(found: dict[str, set[str]], rooms: dict[str, set[str]]) -> list[str]:
    wrong = []
    for module, targets in sorted(found.items()):
        room = module.partition(".")[0]
        for target in sorted(targets):
            other = target.partition(".")[0]
            if room in rooms and other not in (room, "files", "printable", "resources") and other not in rooms[room]:
                wrong.append(f"{module} -> {target or 'chartqa_ft'}")
    return wrong


def test_imports_point_only_where_the_table_says():
    rooms = allowed()
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(rooms) == folders
    assert wrong_arrows(imports(PACKAGE), rooms) == []
    for module, below in {"files": {"resources"}, "printable": set(), "resources": set()}.items():
        assert imports(PACKAGE).get(module, set()) == below, f"{module}.py stands below every room"


def test_the_table_itself_has_no_circle():
    assert len(tuple(TopologicalSorter(allowed()).static_order())) == 11


def test_there_is_no_circle_between_modules():
    # A face imports the modules whose names it hands on; modules of its own room do not import it.
    found = imports(PACKAGE)
    assert len(tuple(TopologicalSorter(found).static_order())) > 80


def test_a_wrong_arrow_and_a_circle_would_be_found(tmp_path):
    package = tmp_path / "chartqa_ft"
    for name, text in {
        "metrics/__init__": "",
        "metrics/a": "def f():\n    from ..training.b import g\n",
        "training/__init__": "",
        "training/b": "import chartqa_ft.metrics.a\n",
    }.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = imports(package)
    assert wrong_arrows(found, {"metrics": set(), "training": {"metrics"}}) == ["metrics.a -> training.b"]
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(found).static_order())


def test_every_room_has_a_charter_and_a_face_of_public_names():
    for room in allowed():
        face = importlib.import_module(f"chartqa_ft.{room}")
        charter = (face.__doc__ or "").strip().split("\n\n")[0]
        assert charter.endswith((".", "?")), room
        assert f"| `{room}/` | {charter.replace(chr(10), ' ')} |" in PAGE, room
        assert face.__all__, room
        for name in face.__all__:
            assert not name.startswith("_"), (room, name)
            assert getattr(face, name) is not None, (room, name)


def test_public_names_are_those_of_their_rooms():
    assert {"ChartQATrainer", "ChartQACollator", "load_chartqa", "DecoderPrompt"} <= set(chartqa_ft.__all__)
    for name, room in chartqa_ft._HOMES.items():
        assert name in importlib.import_module(f"chartqa_ft.{room}").__all__, name
        assert getattr(chartqa_ft, name) is not None


@pytest.mark.parametrize("module", sorted(ALIASES))
def test_module_paths_of_earlier_releases_are_still_there(module):
    alias = importlib.import_module(f"chartqa_ft.{module}")
    for name in ALIASES[module]:
        assert getattr(alias, name) is not None


def test_the_top_holds_the_rooms_and_little_else():
    # Git leaves folders behind that hold nothing but byte code.
    there = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.*") if "__pycache__" not in path.parts}
    own = {"__init__.py", "README.md", "files.py", "printable.py", "resources.py", "py.typed"}
    files = {*own, *(f"{name}.py" for name in ALIASES)}
    assert there == files | set(allowed())


@pytest.mark.parametrize("module", ["chartqa_ft", "chartqa_ft.metrics", "chartqa_ft.data", "chartqa_ft.scripts"])
def test_importing_is_cheap(module):
    heavy = ("torch", "transformers", "datasets", "pyarrow", "evaluate", "peft")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
