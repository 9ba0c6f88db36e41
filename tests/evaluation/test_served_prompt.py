"""The prompt of a served model: of a family, of a checkpoint on disk or on the Hub, or the default."""

from __future__ import annotations

import json

import pytest

from chartqa_ft.adapters.prompts import CHAT_PROMPT, PROMPTS
from chartqa_ft.evaluation import served_prompt as module
from chartqa_ft.evaluation.served_prompt import served_prompt


def write(folder, **files):
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("family", PROMPTS)
def test_every_family_has_its_published_prompt(family):
    assert served_prompt(family) == PROMPTS[family]


def test_the_prompt_that_a_checkpoint_was_trained_with_comes_first(tmp_path):
    config = {"model_type": "qwen3_vl"}
    ours = write(tmp_path / "a", config=config, chartqa_config={"prompt": "Look: {question}"})
    assert served_prompt(str(ours)) == "Look: {question}"
    assert served_prompt(str(write(tmp_path / "b", chartqa_config={"prompt": "{question}!"}))) == "{question}!"
    assert served_prompt(str(write(tmp_path / "c", config=config))) == PROMPTS["qwen3_vl"]
    assert served_prompt(str(write(tmp_path / "d", config={"model_type": "mllama"}))) == CHAT_PROMPT
    assert served_prompt(str(write(tmp_path / "e", config={"model_type": ["x"]}))) == CHAT_PROMPT


@pytest.mark.parametrize("name", ["user/model", "user/model@v1"])
def test_only_the_configuration_of_a_model_on_the_hub_is_fetched(tmp_path, monkeypatch, name):
    folder, asked = write(tmp_path / "a", config={"model_type": "smolvlm"}), []

    def fetch_files(repo, names, *, revision, needs_first):
        asked.append((repo, tuple(names), revision, needs_first))
        return {"config.json": folder / "config.json"}

    monkeypatch.setattr(module, "fetch_files", fetch_files)
    assert served_prompt(name) == PROMPTS["smolvlm"]
    revision = "v1" if "@" in name else None
    assert asked == [("user/model", ("chartqa_config.json", "config.json"), revision, False)]


@pytest.mark.parametrize("name", ["qwen", "", "./nowhere", "a/b/c", "/nowhere", "C:\\x"])
def test_what_is_neither_family_nor_checkpoint_is_refused(name):
    with pytest.raises(ValueError, match="neither a checkpoint nor a family with a known prompt"):
        served_prompt(name)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has neither a chartqa_config\.json nor a config\.json"):
        served_prompt(str(tmp_path))
    with pytest.raises(ValueError, match="prompt must be text"):
        served_prompt(str(write(tmp_path / "a", chartqa_config={"prompt": 3})))
