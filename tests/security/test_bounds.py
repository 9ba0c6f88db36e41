"""Settings, predictions and YAML files that are made to crash, hang or fill the memory."""

from __future__ import annotations

import gzip
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chartqa_ft import files
from chartqa_ft.files import DEEPEST, parse_json, read_json
from chartqa_ft.hub import yaml_text
from chartqa_ft.hub.card.metadata import read_card
from chartqa_ft.hub.model_files import check_files
from chartqa_ft.hub.yaml_text import card_metadata, parse_yaml, read_yaml
from chartqa_ft.metrics import predictions
from chartqa_ft.metrics.predictions import FIELDS, read_predictions
from chartqa_ft.models.restoring import _stored_names
from chartqa_ft.scripts.parsing import ScriptParser, parse_mapping

from .fuzzing import in_time

DIGITS = "9" * 5000
DAMAGED = {
    "digits": (f'{{"a": {DIGITS}}}'.encode(), "an integer has thousands of digits"),
    "digits below zero": (f'{{"a": [-{DIGITS}]}}'.encode(), "an integer has thousands of digits"),
    "brackets": (b"[" * 100_000, "nested more than 100 deep"),
    "braces": (b'{"a":' * 100_000, "nested more than 100 deep"),
    "closed brackets": (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 100 deep"),
    "a key twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "it has 'c' twice"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "'utf-8' codec"),
    "UTF-8 that is cut": (b'{"a": "\xc3"}', "'utf-8' codec"),
    "gzip": (gzip.compress(b"{}"), "'utf-8' codec"),
    "NUL": (bytes(100), "Expecting value"),
    "nothing": (b"", "Expecting value"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_json_is_named(tmp_path, kind):
    content, said = DAMAGED[kind]
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with in_time(), pytest.raises(ValueError, match=re.escape(f"{path} is damaged (")) as caught:
        read_json(path, kind=object)
    assert said in str(caught.value)
    assert not isinstance(caught.value, UnicodeError)


def test_what_is_just_within_the_bounds_is_read(tmp_path):
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert json.dumps(parse_json(deep)) == deep
    assert parse_json("9" * 4000) == int("9" * 4000)
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": NaN, "b": -Infinity, "c": "\\ud800\\u0000"}')
    found = read_json(tmp_path / "a.json")
    assert found["a"] != found["a"]
    assert (found["b"], found["c"]) == (-float("inf"), "\ud800\0")


def test_a_file_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(files.read_text, "__kwdefaults__", {"limit": 100})
    (tmp_path / "a.json").write_text(json.dumps(["x" * 100]))
    with pytest.raises(ValueError, match=r"a\.json is damaged \(104 bytes are more than the limit of 100\)"):
        read_json(tmp_path / "a.json", kind=list)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path, kind):
    for suffix in ("json", "jsonl", "yaml", "md"):
        path = tmp_path / f"a.{suffix}"
        os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    for read, name in ((read_json, "json"), (read_predictions, "jsonl"), (read_yaml, "yaml"), (read_card, "md")):
        with in_time(), pytest.raises(ValueError, match=rf"a\.{name}.*not a regular file"):
            read(tmp_path / f"a.{name}")


def test_quadratic_work_for_keys_that_occur_twice_is_not_done():
    names = [f'"k{number}": 1' for number in range(100_000)]
    with in_time(), pytest.raises(ValueError, match="it has 'k99999' twice"):
        parse_json("{" + ", ".join([*names, names[-1]]) + "}")


def test_the_header_of_weights_has_the_same_bounds(tmp_path):
    for header in (b'{"a":' * 50_000, f'{{"a": {DIGITS}}}'.encode(), '{"a": {}}'.encode("utf-16"), b"[]"):
        (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        with in_time(), pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
            check_files({"model.safetensors": tmp_path / "model.safetensors"})


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{}", '{"weight_map": []}', '{"weight_map": 5}'])
def test_the_index_of_weights_has_the_same_bounds(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with in_time(), pytest.raises(ValueError, match=r"model\.safetensors\.index\.json is damaged"):
        _stored_names(tmp_path)


def test_a_mapping_on_the_command_line_has_the_same_bounds():
    for text in ('{"a":' * 50_000, f'{{"a": {DIGITS}}}', '{"a": 1, "a": 2}'):
        with pytest.raises(ValueError, match=r"nested|digits|twice"):
            parse_mapping([text])


# ---------------------------------------------------------------- predictions
ROW = dict(zip(FIELDS, (0, "c.png", "How many?", "3", "3", 1.0, "human"), strict=True))


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_predictions_are_named_with_their_line(tmp_path, kind):
    content, _ = DAMAGED[kind]
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n" + content.replace(b"\n", b" ") + b"\n")
    with in_time(), pytest.raises(ValueError, match=re.escape(f"{path}, line 2 is not JSON")):
        read_predictions(path)


@pytest.mark.parametrize("space", ["", " ", "\\t", "   "])
def test_a_key_that_occurs_twice_is_found_however_it_is_written(tmp_path, space):
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps(ROW)[:-1] + f', "prediction"{space}: "8"}}'.replace("\\t", "\t"))
    with pytest.raises(ValueError, match=r"line 1 is not JSON: it has 'prediction' twice"):
        read_predictions(path)


def test_a_line_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "LONGEST_LINE", 1000)
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, "prediction": "x" * 1000}))
    with pytest.raises(ValueError, match=r"predictions\.jsonl, line 2 has more than 1,000 bytes"):
        read_predictions(path)


# ---------------------------------------------------------------- YAML
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 40)
)
YAML = {
    "aliases": (BOMB, "its aliases stand for too much"),
    "merge keys": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 40)),
        "its aliases stand for too much",
    ),
    "a long text": ("a: &a " + "x" * 10_000 + "\nb: [" + "*a, " * 100 + "]", "its aliases stand for too much"),
    "an alias of itself": ("a: &a [*a]", "an alias stands for what contains it"),
    "an alias of itself as a key": ("a: &a {? *a : 1}", "an alias stands for what contains it"),
    "a merge of itself": ("a: &a {<<: *a}", "an alias stands for what contains it"),
    "aliases of aliases": ("- &a0 [x]\n" + "".join(f"- &a{n} [*a{n - 1}]\n" for n in range(1, 500)), "too much"),
    "brackets": ("[" * 100_000, "nested more than 100 deep"),
    "braces": ("{a: " * 50_000, "nested more than 100 deep"),
    "dashes": ("- " * 50_000, "nested more than 100 deep"),
    "question marks": ("? " * 50_000, "nested more than 100 deep"),
    "lines": ("\n".join(" " * level + "a:" for level in range(500)), "nested more than 100 deep"),
    "digits": (f"a: {DIGITS}", "a number has too many digits"),
    "hexadecimal digits": ("a: 0x" + "f" * 5000, "a number has too many digits"),
    "base 60": ("a: 1" + ":1" * 50_000, "a number has too many digits"),
    "a day that is none": ("a: 2001-99-99", "see line 1, column 4 (a value that its type cannot have)"),
    "an integer that is none": ("a: !!int ''", "a value that its type cannot have"),
    "a truth value that is none": ("a: !!bool x", "a value that its type cannot have"),
    "a time that is none": ("a: !!timestamp x", "a value that its type cannot have"),
    "a key twice": ("a: 1\nb: 2\na: 3", "see line 3, column 1 (a key occurs more than once)"),
    "code": ("a: !!python/object/apply:os.system [ls]", "it is not valid YAML: see line 1, column 4"),
    "NUL": ("a: \0", "it is not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2", "it is not valid YAML"),
    "too much": ("#" * (yaml_text.LARGEST_YAML + 1), "more than"),
}


@pytest.mark.parametrize("kind", YAML)
def test_yaml_has_bounds(tmp_path, kind, capsys):
    text, said = YAML[kind]
    with in_time(), pytest.raises(ValueError) as caught:
        parse_yaml(text)
    assert said in str(caught.value)
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with in_time(), pytest.raises(SystemExit):
        ScriptParser(Script).read([str(path)])
    assert "run.yaml cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", sorted(set(YAML) - {"two documents", "too much"}))
def test_the_metadata_of_a_card_have_the_same_bounds(tmp_path, kind):
    text, _ = YAML[kind]
    with in_time(), pytest.raises(ValueError):
        card_metadata(f"---\n{text}\n---\n# A model\n")
    (tmp_path / "README.md").write_text(f"---\n{text}\n---\n# A model\n")
    with in_time(), pytest.raises(ValueError, match=r"the scores in .*README\.md cannot be read"):
        read_card(tmp_path)


def test_usual_aliases_and_dates_are_read():
    assert parse_yaml("a: &a {x: 1e-4}\nb: {<<: *a, y: [*a]}") == {
        "a": {"x": "1e-4"},
        "b": {"x": "1e-4", "y": [{"x": "1e-4"}]},
    }
    assert str(parse_yaml("2024-01-31")) == "2024-01-31"
    assert parse_yaml("") is None


# ---------------------------------------------------------------- values of YAML files on the command line
@dataclass
class Script:
    push: bool = False
    output_dir: str = ""
    names: list[str] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("names: [a=b, --push]", "an item of names begins with a dash"),
        ("names: [--push=True]", "an item of names begins with a dash"),
        ("names: ['--', --push]", "an item of names begins with a dash"),
        ("names: [-p]", "an item of names begins with a dash"),
        ("names: [-h]", "an item of names begins with a dash"),
        ("names: ['-1e5x']", "an item of names begins with a dash"),
        ("output_dir: --", "output_dir is '--'"),
        ("push: []", "push is an empty list"),
        ("--push: x", "'--push' is not the name of an argument"),
        ("'names x --push': y", "is not the name of an argument"),
        ("'push=True #': y", "is not the name of an argument"),
        ("-h: true", "'-h' is not the name of an argument"),
        ("5: x", "5 is not the name of an argument"),
        ("null: x", "None is not the name of an argument"),
        ("names: [[a, --push]]", "an item of names must be a text"),
        ("names: [{a: b}]", "an item of names must be a text"),
        ("names: [null]", "an item of names must be a text"),
        ("names: !!set {a, b}", "names must be a text"),
        ("output_dir: !!binary aGk=", "output_dir must be a text"),
        ("output_dir: {a: !!set {b}}", "output_dir.a must be a text"),
        ("output_dir: {2024-01-31: b}", "a key must be a text or a number"),
    ],
)
def test_a_value_of_a_file_is_no_option(tmp_path: Path, capsys, line, said):
    (tmp_path / "run.yaml").write_text(line + "\n")
    with pytest.raises(SystemExit):
        ScriptParser(Script).parse([str(tmp_path / "run.yaml")])
    told = capsys.readouterr().err
    assert "run.yaml" in told
    assert said in told


@pytest.mark.parametrize("value", ["--push", "--push=True", "-h", "---", "a --push", "x\n--push"])
def test_a_single_value_may_begin_with_a_dash(tmp_path: Path, value):
    (tmp_path / "run.yaml").write_text(json.dumps({"output_dir": value}))
    (script,) = ScriptParser(Script).parse([str(tmp_path / "run.yaml")])
    assert script == Script(output_dir=value)


def test_negative_numbers_of_a_file_are_numbers(tmp_path: Path):
    (tmp_path / "run.yaml").write_text("numbers: [-1, -2.5]\nnames: [2024-01-31, true]\n")
    (script,) = ScriptParser(Script).parse([str(tmp_path / "run.yaml")])
    assert script == Script(numbers=[-1.0, -2.5], names=["2024-01-31", "True"])
