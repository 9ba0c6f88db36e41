"""Arguments of `load_checkpoint` and files of a checkpoint that would be ignored or crash are named."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from chartqa_ft import load_checkpoint
from chartqa_ft.models.chartqa_config import read_settings
from chartqa_ft.models.load_checks import check_finite, check_token_ids

from ..support.common import tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for part in tiny():
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (
            {"revision": "main"},
            ValueError,
            "revision='main' selects a version .* is a local folder: leave revision out",
        ),
        ({"revision": 5}, TypeError, "revision must be the name"),
        ({"merge": "no"}, TypeError, "merge must be True or False, got 'no'"),
        ({"trainable": 1}, TypeError, "trainable must be True or False"),
        ({"trust_remote_code": "yes"}, TypeError, "trust_remote_code must be True or False"),
        ({"compat": "no"}, TypeError, "compat must be True, False or None"),
        ({"prompt": 5}, TypeError, "prompt must be a str"),
        ({"prompt": "Answer:"}, ValueError, "has no field"),
        ({"dtype": "nothing"}, ValueError, "dtype='nothing' is no dtype of torch"),
        ({"dtype": "nn"}, ValueError, "dtype='nn' is no dtype of torch"),
    ],
)
def test_arguments(saved, arguments, kind, words):
    with pytest.raises(kind, match=words):
        load_checkpoint(saved, **arguments)


def test_paths():
    for wrong, kind in ((None, TypeError), (5, TypeError), (["a"], TypeError), ("", ValueError), (" \t", ValueError)):
        with pytest.raises(kind, match="path_or_repo"):
            load_checkpoint(wrong)


def test_right_arguments_are_used(saved):
    model, _, adapter = load_checkpoint(str(saved), dtype="bfloat16", prompt="Q: {question}", compat=False)
    assert model.dtype == torch.bfloat16
    assert adapter.prompt == "Q: {question}"


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["null", "[]", "5", '"text"', "[" * 100_000, '{"a": ', ""])
def test_files_that_hold_no_json_object(folder, file, content):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=rf"{file} is damaged .*: fetch or save the checkpoint again"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "changes",
    [{"max_length": value} for value in ("x", 0, -1, 1.5, True, [5])]
    + [{"metric_variant": value} for value in (5, ["lenient"], "nothing", "Lenient", "")]
    + [{"adapter": 5}, {"compat": 1}, {"prompt": 5}, {"image": []}, {"versions": "5.0"}],
)
def test_settings_of_the_checkpoint(tmp_path, changes):
    (tmp_path / "chartqa_config.json").write_text(json.dumps(changes))
    with pytest.raises(ValueError, match=rf"chartqa_config.json: {next(iter(changes))} must be"):
        read_settings(tmp_path)


def test_settings_that_are_null_or_unknown(tmp_path):
    settings = {"max_length": None, "adapter": None, "metric_variant": None, "compat": None, "more": 1}
    (tmp_path / "chartqa_config.json").write_text(json.dumps(settings))
    assert read_settings(tmp_path) == settings


@pytest.mark.parametrize("variant", ["pix2struct", "relaxed", "detect_decimal_comma", None])
def test_variants_that_are_known(tmp_path, variant):
    (tmp_path / "chartqa_config.json").write_text(json.dumps({"metric_variant": variant}))
    assert read_settings(tmp_path) == {"metric_variant": variant}


def test_settings_that_nothing_reads_are_named(folder, caplog):
    settings = {"prompt": "Q: {question}", "max_length": 64, "image": {}, "promt": "Q: {question}", "font": "a.ttf"}
    (folder / "chartqa_config.json").write_text(json.dumps(settings))
    assert load_checkpoint(folder)[2].prompt == "Q: {question}"
    assert "chartqa_config.json has settings that are not used: font, promt. Correct their names" in caplog.text
    caplog.clear()
    (folder / "chartqa_config.json").write_text(json.dumps({"prompt": "Q: {question}", "compat": False}))
    load_checkpoint(folder)
    assert "not used" not in caplog.text


@pytest.mark.parametrize("content", [None, "{}", '{"pad_token": "<pad>"}'])
def test_a_tokenizer_without_the_token_that_ends_answers(folder, content):
    file = folder / "tokenizer_config.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(ValueError, match=r"no eos_token .*tokenizer_config\.json is missing .* perhaps to '</s>'"):
        load_checkpoint(folder)


def test_a_checkpoint_of_another_adapter(folder):
    (folder / "chartqa_config.json").write_text(json.dumps({"adapter": "causal"}))
    with pytest.raises(ValueError, match="trained with the adapter 'causal', and its model gets 'decoder-prompt'"):
        load_checkpoint(folder)
    (folder / "chartqa_config.json").write_text(json.dumps({"adapter": "decoder-prompt"}))
    assert load_checkpoint(folder)[2].name == "decoder-prompt"


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("wrong", [10**6, -1, "x", [2, 10**6], True])
def test_ids_of_no_token(folder, wrong):
    edit(folder / "generation_config.json", eos_token_id=wrong)
    with pytest.raises(ValueError, match=r"eos_token_id=.* is no token of the model, which has \d+"):
        load_checkpoint(folder)


def test_no_padding_token_may_be_minus_one(folder):
    model, _ = tiny()
    for unset in (None, -1, 1):
        model.generation_config.pad_token_id = unset
        check_token_ids(folder, model)
    model.generation_config.pad_token_id = model.get_input_embeddings().weight.shape[0]
    with pytest.raises(ValueError, match="pad_token_id"):
        check_token_ids(folder, model)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(folder, value):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, weight in weights.items() if weight.ndim == 2 and weight.is_floating_point())
    weights[name][0, 0] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="1 weight is not finite"):
        load_checkpoint(folder)


def test_weights_that_need_no_check():
    check_finite("out", [("a", torch.zeros(2, device="meta")), ("b", torch.zeros(0)), ("c", torch.ones(2).bool())])
    largest = torch.full((4,), torch.finfo(torch.float16).max, dtype=torch.float16)
    check_finite("out", [("a", largest), ("b", -largest)])
    with pytest.raises(ValueError, match=r"2 weights are not finite .*such as a:"):
        check_finite("out", [("a", largest * 2), ("b", torch.tensor([float("nan")]).bfloat16())])


def test_configs_that_make_no_model(folder):
    for changes in ({"model_type": "nothing"}, {"encoder": {"model_type": "donut-swin", "embed_dim": 8}}):
        edit(folder / "config.json", **changes)
        with pytest.raises(ValueError, match=r"(?s)model was not loaded .* Check .*model/config\.json"):
            load_checkpoint(folder)
