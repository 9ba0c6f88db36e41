"""YAML files of scripts: a value never becomes an option, and no file crashes or holds up the script."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chartqa_ft.scripts.parsing import ScriptParser

from .fuzzing import HARD_TEXTS, damaged, fuzz, in_time, texts

RIGHT = {"learning_rate": 5e-5, "push": False, "names": ["a=b", "c=d"], "more": {"a": 1, "b": [1, None]}, "name": "x"}
OPTIONS = ("--push", "--name=evil", "--push True", "-", "--", "-1", "-x", "-h", "--help", "a --push", "--no_push")


@dataclass
class Script:
    learning_rate: float = 1e-4
    push: bool = False
    names: list[str] = field(default_factory=list)
    more: str = ""
    name: str = ""
    anything: str = ""


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("yaml") / "run.yaml"


@pytest.fixture
def told(capsys) -> Any:
    return lambda: capsys.readouterr().err


def read(path: Path, told: Any) -> list[str] | None:
    """The command line that the file means, or `None` if the script ends with a line that names the file."""
    parser = ScriptParser(Script)
    with in_time():
        try:
            return parser.read([str(path)])
        except SystemExit as end:
            code = end.code
    assert code == 2
    assert path.name in told()
    return None


def scalars() -> st.SearchStrategy[Any]:
    return st.none() | st.booleans() | st.integers() | st.floats() | texts() | st.sampled_from(OPTIONS) | st.dates()


def values() -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars(), inner, max_size=3)
    )


def writable(value: Any) -> str:
    return yaml.dump(value).encode("utf-8", "replace").decode()


@fuzz(100)
@given(settings=st.dictionaries(st.sampled_from([*RIGHT, "anything"]), values(), max_size=4))
def test_a_value_never_becomes_an_option(path, told, settings):
    path.write_text(writable(settings), encoding="utf-8")
    line = read(path, told)
    if line is None:
        return
    options = [part.partition("=")[0] for part in line if part.startswith("--")]
    assert sorted(options) == sorted(f"--{name}" for name, value in settings.items() if value is not None)
    parser = ScriptParser(Script)
    try:
        (script,) = parser.instances(line)
    except SystemExit:
        return
    untouched = {name for name in ("push", "name", "learning_rate") if settings.get(name) is None}
    assert all(getattr(script, name) == getattr(Script(), name) for name in untouched)


@fuzz()
@given(items=st.lists(st.sampled_from(OPTIONS) | texts(), min_size=1, max_size=3))
def test_an_item_of_a_list_stays_an_item(path, told, items):
    path.write_text(writable({"names": items}), encoding="utf-8")
    line = read(path, told)
    if line is None:
        assert (
            any(item.startswith("-") for item in items) or "\ud800" in str(items) or not writable(items).isprintable()
        )
        return
    (script,) = ScriptParser(Script).instances(line)
    assert script.push is False
    assert script.name == ""
    assert len(script.names) == len(items)


@fuzz()
@given(name=texts() | st.sampled_from(["--push", "push=True #", "-h", "a b", "names\n--push", 5, None, True, 1.5]))
def test_a_name_is_one_argument_or_refused(path, told, name):
    path.write_text(writable({name: "x"}), encoding="utf-8")
    line = read(path, told)
    assert line is None or (len(line) == 1 and re.fullmatch(r"--[A-Za-z_][\w-]*=x", line[0]))


@fuzz(100)
@given(data=st.data())
def test_any_damage_is_named(path, told, data):
    path.write_bytes(data.draw(damaged(yaml.safe_dump(RIGHT).encode())))
    read(path, told)


TAGS = (
    "!!int",
    "!!float",
    "!!bool",
    "!!timestamp",
    "!!binary",
    "!!omap",
    "!!pairs",
    "!!set",
    "!!null",
    "!!merge",
    "!!value",
)
PIECES = (
    *TAGS,
    "!!python/object/apply:os.system [ls]",
    "&a ",
    "*a",
    "<<: *a",
    "? ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "|\n",
    "\n",
    "  ",
)


@fuzz(100)
@given(
    pieces=st.lists(
        st.sampled_from([*PIECES, *OPTIONS, *HARD_TEXTS, "2001-99-99", "1:60:1", "0b2", ".inf", "=", "~"]), max_size=8
    )
)
def test_any_text_is_read_or_named(path, told, pieces):
    path.write_text("names: " + "".join(pieces), encoding="utf-8", errors="replace")
    read(path, told)
