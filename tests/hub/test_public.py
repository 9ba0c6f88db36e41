"""Tokens and folders of this machine are found and taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from chartqa_ft.hub.public import (
    TOKEN_REMOVED,
    find_token,
    hub_name,
    known_tokens,
    public_arguments,
    public_values,
    redact,
    short_name,
    without_folders,
)

from .folders import TOKEN


def test_tokens_are_found_and_taken_out():
    assert redact(f"a {TOKEN} b Bearer x.y123 c mine", ["mine"]) == (
        "a TOKEN_REMOVED b Bearer TOKEN_REMOVED c TOKEN_REMOVED"
    )
    assert find_token(f"'{TOKEN}'")
    assert find_token("mine", "mine")
    assert not find_token("from huggingface_hub import hf_hub_download; hf-internal-testing/hf_tiny-model-for-tests")


def test_what_only_looks_like_a_token_stays():
    for text in (
        "hf_model",
        "--max_new_tokens 128",
        "https://huggingface.co/a/b",
        "a token of 5",
        "x@y.org",
        "hf_xet 1.8.0",
    ):
        assert redact(text) == text
    assert redact("--hub_token $HF_TOKEN --seed 1") == f"--hub_token {TOKEN_REMOVED} --seed 1"
    assert redact("run --hub_token --seed 1") == "run --hub_token --seed 1"


@pytest.mark.parametrize(
    ("value", "public"),
    [
        ("/home/carol/data/q.csv", "q.csv"),
        (["/home/carol/a", 1, None], ["a", 1, None]),
        ({"x": {"y": "/home/carol/a"}}, {"x": {"y": "a"}}),
        ("user/model", "user/model"),
        ("/chart: {question}", "/chart: {question}"),
        (str(Path.cwd() / "out" / "x"), "out/x"),
    ],
)
def test_values_are_shown_without_folders(value, public):
    assert public_values(value) == public


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"x{TOKEN}_y", f"x{TOKEN_REMOVED}_y"),
        ("hf_jwt_" + "a.b-c" * 5, TOKEN_REMOVED),
        ("hf_" + "a" * 19, "hf_" + "a" * 19),
        ("hf_" + "a" * 20, TOKEN_REMOVED),
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {TOKEN_REMOVED}"),
        ("https://user:pw7@host/x", f"https://{TOKEN_REMOVED}@host/x"),
        ("HF_TOKEN=shh99 make", f"HF_TOKEN={TOKEN_REMOVED} make"),
        ("the HF_TOKEN environment variable", "the HF_TOKEN environment variable"),
        ("(hf auth login, or HF_TOKEN). Or", "(hf auth login, or HF_TOKEN). Or"),
        ("--token 'abc def' --seed", f"--token {TOKEN_REMOVED} --seed"),
    ],
)
def test_what_looks_like_a_token_is_removed(text, expected):
    assert redact(text) == expected


def test_values_of_any_shape_are_searched():
    own = "my-own-token"
    value = {own: [own, (f"a {own}", 1)], "n": None, 2: Path("a"), "\ud800": b"x"}
    removed = {TOKEN_REMOVED: [TOKEN_REMOVED, [f"a {TOKEN_REMOVED}", 1]], "n": None, 2: Path("a"), "?": b"x"}
    assert redact(value, [own]) == removed


def test_every_token_that_a_process_knows(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "of-the-login")
    for name, value in {"SOME_TOKEN": "of-the-environment", "PAD_TOKEN": "<s>", "TOKEN_NAME": "a-name"}.items():
        monkeypatch.setenv(name, value)
    arguments = {"hub_token": " of-the-run ", "seed": 1, "push_to_hub_token": None, "token_type": "opaque"}
    found = known_tokens("x", arguments=arguments)
    assert {"of-the-environment", "of-the-login", "of-the-run", "x"} <= set(found)
    assert not {"<s>", "a-name", "opaque"} & set(found)
    assert found == sorted(found, key=len, reverse=True)
    assert known_tokens(environment=False) == known_tokens(False, environment=False) == ["of-the-login"]


def test_names_on_the_hub_and_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alice" / "here").mkdir(parents=True)
    for name in (
        None,
        "alice/here",
        "a/b/c",
        "a--b",
        "a..b",
        "-a",
        "a.json",
        "a/b.csv",
        "a" * 97,
        "https://x.org",
        "é",
    ):
        assert hub_name(name) is None, name
    for name in ("gpt2", "alice/model", "alice/model_v1.5"):
        assert hub_name(name) == name
    shortened = {"/a/b/": "b", "~/b": "b", "../b": "b", "C:\\a\\b": "b", "alice/model": "alice/model", "/": "model"}
    assert {name: without_folders(name) for name in shortened} == shortened
    assert [short_name(name) for name in ("alice/model", "/a/b", "what is this?")] == ["model", "b", "what is this?"]


def test_a_command_line_without_tokens_and_folders():
    line = ["/opt/train.py", "--hub_token", "abc", "--hub_token=abc", "--data=/home/a/x.csv", "--token", "--seed", "1"]
    assert public_arguments(line) == ["train.py", "--data=x.csv", "1"]
