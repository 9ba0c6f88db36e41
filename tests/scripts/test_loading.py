"""Load data and models as the arguments of a script say: parts, precision, seeds, damaged checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch

from chartqa_ft import default_lora_config, load_chartqa, stratified_subset
from chartqa_ft.scripts import DataArguments, DatasetArguments, ModelArguments, parse
from chartqa_ft.scripts.loading import load_model, load_records, load_split, naming

from ..support.common import drawn_charts
from ..support.families import build
from ..support.launching import EVALUATE, example, save_family, write_original_layout


def parsed(tmp_path: Path, *line: str):
    return parse([*line, "--use_cpu", "--output_dir", str(tmp_path / "out")], ModelArguments, description="")


def test_damaged_checkpoints_are_named(tmp_path):
    model, processor = build("llava")
    base = save_family("llava", tmp_path / "base")
    model.name_or_path = str(base)
    adapter = tmp_path / "adapter"
    peft.get_peft_model(model, default_lora_config(model)).save_pretrained(adapter)
    processor.save_pretrained(adapter)
    data = write_original_layout(tmp_path / "data", train=drawn_charts())
    damages = [(base, "model.safetensors"), (base, "config.json"), (base, "tokenizer.json")]
    damages += [(adapter, "adapter_model.safetensors"), (adapter, "adapter_config.json")]
    for number, (source, name) in enumerate(damages):
        folder = tmp_path / f"damaged{number}"
        shutil.copytree(source, folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
        line = ["--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "scores"), "--use_cpu"]
        with pytest.raises(SystemExit) as stopped:
            example(EVALUATE).main([*line, "--dataset_name", str(data), "--eval_split", "train"])
        message = str(stopped.value.code)
        assert message.startswith("error: "), name
        assert str(folder) in message, name
        assert len(message.splitlines()) == 1


def test_frozen_weights_take_the_precision_of_the_run_and_trained_ones_float32(tmp_path):
    model, processor = build("llava")
    folder = tmp_path / "base"
    model.to(torch.float16).save_pretrained(folder)
    processor.save_pretrained(folder)
    line = ("--model_name_or_path", str(folder))
    for more, frozen, wanted in ((["--bf16"], True, torch.bfloat16), (["--bf16"], False, torch.float32)):
        script, args = parsed(tmp_path, *line, *more)
        assert {weight.dtype for weight in load_model(script, args, frozen=frozen)[0].parameters()} == {wanted}
    script, args = parsed(tmp_path, *line)
    assert {weight.dtype for weight in load_model(script, args, frozen=True)[0].parameters()} == {torch.float32}


def test_settings_reach_the_adapter(tmp_path):
    line = ("--model_name_or_path", str(save_family("llava", tmp_path / "base")))
    line += ("--prompt", "Q: {question}", "--max_length", "77", "--on_long_answer", "warn")
    _, _, adapter = load_model(*parsed(tmp_path, *line))
    assert (adapter.prompt, adapter.max_length, adapter.on_long_answer) == ("Q: {question}", 77, "warn")


def test_the_seed_decides_how_an_adapter_begins(tmp_path):
    line = ["--model_name_or_path", str(save_family("llava", tmp_path / "base"))]

    def first(seed: int) -> torch.Tensor:
        script, args = parsed(tmp_path, *line, "--seed", str(seed))
        model, _, _ = load_model(script, args, frozen=True)
        wrapped = peft.get_peft_model(model, default_lora_config(model))
        return torch.cat([weight.flatten() for name, weight in wrapped.named_parameters() if "lora_A" in name])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_errors_say_what_was_loaded_once():
    with pytest.raises(OSError, match=r"^a/b cannot be loaded: too short$"), naming("a/b"):
        raise OSError("too short")
    with pytest.raises(OSError, match=r"^a/b is too short$"), naming("a/b"):
        raise OSError("a/b is too short")
    with pytest.raises(OSError, match=r"^a/b cannot be loaded: Expecting property name"), naming("a/b"):
        json.loads("{")
    with pytest.raises(ValueError, match=r"^a mistake of ours$"), naming("a/b"):
        raise ValueError("a mistake of ours")


def test_records_are_the_parts_that_the_arguments_name(tmp_path):
    records = drawn_charts()
    data = write_original_layout(tmp_path / "data", train=records.select(range(4, 16)), val=records.select(range(10)))
    script = DataArguments(dataset_name=str(data), train_split="train[:8]", max_eval_samples=4)
    _, args = parsed(tmp_path, "--seed", "3")
    train, evaluation = load_records(script, args)
    everything = load_chartqa(data)
    assert train["question"] == everything["train"]["question"][:8]
    assert evaluation["question"] == stratified_subset(everything["val"], 4, seed=3)["question"]
    assert evaluation["question"] != stratified_subset(everything["val"], 4, seed=0)["question"]
    assert len(load_split(script, "val")) == 10
    assert load_split(script, "val[2:4]")["question"] == everything["val"]["question"][2:4]


def test_columns_images_and_bad_records_are_read_as_the_arguments_say(tmp_path):
    record = drawn_charts()[0]
    (tmp_path / "charts").mkdir()
    record["image"].save(tmp_path / "charts" / "a.png")
    data = tmp_path / "questions.csv"
    data.write_text("file,q,answer\na.png,Why?,1\nnowhere.png,Who?,2\n")
    settings = {
        "dataset_name": str(data),
        "image_dir": str(tmp_path / "charts"),
        "column_map": ["image=file", "question=q"],
    }
    with pytest.raises(ValueError, match=r"questions.csv, row 3: no image file: 'nowhere.png' .* --on_error skip"):
        load_split(DatasetArguments(**settings), "train")
    assert list(load_split(DatasetArguments(**settings, on_error="skip"), "train")["question"]) == ["Why?"]
    with pytest.raises(ValueError, match="--dataset_revision is for data sets on the Hub"):
        load_split(DatasetArguments(**settings, dataset_revision="v1"), "train")


def test_questions_without_an_answer_are_read_where_they_are_asked_for(tmp_path):
    drawn_charts()[0]["image"].save(tmp_path / "a.png")
    data = tmp_path / "questions.csv"
    data.write_text("image,question,answer\na.png,Why?,1\na.png,Who?,\n")
    with pytest.raises(ValueError, match=r"row 3: no answer: column 'answer' holds ''.* --require_answers False"):
        load_split(DatasetArguments(str(data)), "train")
    assert load_split(DatasetArguments(str(data), require_answers=False), "train")["answer"][:] == ["1", ""]
