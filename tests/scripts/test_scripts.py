"""What scripts share: the command line and YAML, errors in one line, precision, held-out charts, merging."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import peft
import pytest
import torch
from datasets import Dataset
from PIL import Image

from chartqa_ft import ChartQATrainer, default_lora_config, load_chartqa, load_checkpoint
from chartqa_ft.data.splitting import split_by_chart
from chartqa_ft.scripts import parse, parse_mapping
from chartqa_ft.scripts.arguments import DataArguments, ModelArguments
from chartqa_ft.scripts.running import load_model, one_line_errors, trainable_share

from ..support.common import arguments, drawn_charts
from ..support.families import build
from ..support.launching import EVALUATE, example


@dataclass
class Script(DataArguments, ModelArguments):
    small: bool = False


def parsed(tmp_path: Path, *line: str):
    defaults = {"learning_rate": 1e-4, "output_dir": str(tmp_path / "out")}
    return parse(
        [*line, "--use_cpu"],
        Script,
        description="",
        defaults=defaults,
        defaults_with={"small": {"learning_rate": 1e-5, "max_steps": 7}},
    )


def save_family(name: str, folder: Path) -> Path:
    model, processor = build(name)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


# ---------------------------------------------------------------------- arguments
def test_a_switch_brings_defaults_that_the_command_line_and_the_file_overrule(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("small: true\ncolumn_map: {image: file, question: the question}\n")
    assert parsed(tmp_path)[1].learning_rate == 1e-4
    script, args = parsed(tmp_path, str(file))
    assert (args.learning_rate, args.max_steps, script.small) == (1e-5, 7, True)
    assert parse_mapping(script.column_map) == {"image": "file", "question": "the question"}
    assert parsed(tmp_path, str(file), "--learning_rate", "2e-3")[1].learning_rate == 2e-3
    assert parsed(tmp_path, str(file), "--small", "False")[1].learning_rate == 1e-4
    file.write_text("")
    assert parsed(tmp_path, str(file))[1].learning_rate == 1e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- learning_rate\n", "must hold lines like 'learning_rate: 1e-4', not a list"),
        ("a: [1\n", "run.yaml cannot be read: it is no YAML: see line 1, column 4 to line 2, column 1"),
        (None, "run.yaml cannot be read: [Errno 2] No such file"),
    ],
)
def test_a_yaml_file_that_cannot_be_read_is_named(tmp_path, capsys, text, message):
    if text is not None:
        (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(SystemExit):
        parsed(tmp_path, str(tmp_path / "run.yaml"))
    assert message in capsys.readouterr().err


def test_pairs():
    assert parse_mapping(None) is None
    assert parse_mapping(["image=a=b", "question=q"]) == {"image": "a=b", "question": "q"}
    with pytest.raises(ValueError, match="'question' is no pair like image=file"):
        parse_mapping(["image=file", "question"])


# ---------------------------------------------------------------------- errors
def test_errors_of_users_become_one_line_and_others_stay():
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise ConnectionError("no network\n\n  try later")
    assert stopped.value.code == "error: no network try later"
    with pytest.raises(SystemExit, match="error: FileNotFoundError"), one_line_errors():
        raise FileNotFoundError
    with pytest.raises(RuntimeError, match="a mistake of ours"), one_line_errors():
        raise RuntimeError("a mistake of ours")
    with pytest.raises(SystemExit, match="error: no GPU"), one_line_errors(RuntimeError):
        raise RuntimeError("no GPU")


def test_damaged_checkpoints_are_named(tmp_path):
    model, processor = build("llava")
    base = save_family("llava", tmp_path / "base")
    model.name_or_path = str(base)
    adapter = tmp_path / "adapter"
    peft.get_peft_model(model, default_lora_config(model)).save_pretrained(adapter)
    processor.save_pretrained(adapter)
    data = own_charts(tmp_path / "data")
    damages = [(base, "model.safetensors"), (base, "config.json"), (base, "tokenizer.json")]
    damages += [(adapter, "adapter_model.safetensors"), (adapter, "adapter_config.json")]
    for number, (source, name) in enumerate(damages):
        folder = tmp_path / f"damaged{number}"
        shutil.copytree(source, folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
        line = ["--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "scores"), "--use_cpu"]
        with pytest.raises(SystemExit) as stopped:
            example(EVALUATE).main([*line, "--dataset_name", str(data), "--split", "train"])
        message = str(stopped.value.code)
        assert message.startswith("error: "), name
        assert str(folder) in message, name
        assert len(message.splitlines()) == 1


# ---------------------------------------------------------------------- models
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


def test_trainable_share_counts_what_is_trained():
    model, _ = build("llava")
    total = sum(weight.numel() for weight in model.parameters())
    assert trainable_share(model) == f"{total:,} of {total:,} parameters are trained (100 %)"
    wrapped = peft.get_peft_model(model, default_lora_config(model, r=2))
    trained = sum(weight.numel() for weight in wrapped.parameters() if weight.requires_grad)
    share = 100 * trained / (total + trained)
    assert trainable_share(wrapped) == f"{trained:,} of {total + trained:,} parameters are trained ({share:.3g} %)"


@pytest.mark.filterwarnings("error:Could not find a config file")
def test_an_adapter_of_a_hub_model_names_the_hub_model_and_merges(tmp_path, monkeypatch):
    folder = save_family("llava", tmp_path / "abc")  # in the cache a folder has the commit's name
    asked = []

    def download(name, revision=None, **kwargs):
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model, _, _ = load_checkpoint("someone/tiny", revision="v1")
    config = default_lora_config(model, revision="v1", init_lora_weights=False)
    trainer = ChartQATrainer(
        model,
        arguments(tmp_path / "out"),
        processing_class=build("llava")[1],
        peft_config=config,
    )
    trainer.save_model()
    saved = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == ("someone/tiny", "abc")
    trainer.save_merged(tmp_path / "merged")
    assert asked == [("someone/tiny", "v1"), ("someone/tiny", "abc")]
    merged, _, adapter = load_checkpoint(tmp_path / "merged")
    assert adapter.prompt == trainer.adapter.prompt
    expected = trainer.model.merge_and_unload().state_dict()
    assert set(merged.state_dict()) == set(expected)
    for name, weight in merged.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)


# ---------------------------------------------------------------------- held-out charts
def own_charts(folder: Path, copies: dict[str, str] | None = None) -> Path:
    """Six charts with two questions each, and copies of them under other names."""
    folder.mkdir()
    rows = ["image,question,answer"]
    for number in range(6):
        Image.new("RGB", (40, 30), (40 * number, 0, 0)).save(folder / f"{number}.png")
        rows += [f"{number}.png,How red?,{40 * number}", f"{number}.png,How green?,0"]
    for name, source in (copies or {}).items():
        shutil.copy(folder / source, folder / name)
        rows.append(f"{name},How red again?,{40 * int(source[0])}")
    (folder / "questions.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_no_chart_is_on_both_sides_even_under_another_name(tmp_path):
    copies = {f"copy{number}.png": f"{number}.png" for number in range(6)}
    records = load_chartqa(own_charts(tmp_path / "own", copies), split="train")
    draws = set()
    for seed in range(6):
        train, held_out = split_by_chart(records, 0.34, seed=seed)
        answers = [{row["answer"] for row in side if "red" in row["question"]} for side in (train, held_out)]
        assert not answers[0] & answers[1]
        assert (len(answers[0]), len(answers[1])) == (4, 2)
        assert (len(train), len(held_out)) == (12, 6)
        order = [f"{row['chart_id']} {row['question']}" for row in records]
        for side in (train, held_out):
            places = [order.index(f"{row['chart_id']} {row['question']}") for row in side]
            assert places == sorted(places)
        again = split_by_chart(records, 0.34, seed=seed)[1]
        assert again["question"] == held_out["question"]
        assert again["chart_id"] == held_out["chart_id"]
        draws.add(frozenset(held_out["chart_id"]))
    assert len(draws) > 1


def test_at_least_one_chart_is_on_each_side(tmp_path):
    records = load_chartqa(own_charts(tmp_path / "own"), split="train")
    for share, charts in ((0.001, 1), (0.999, 5)):
        assert len(set(split_by_chart(records, share)[1]["chart_id"])) == charts


def test_what_cannot_be_divided_is_said(tmp_path):
    records = drawn_charts()
    with pytest.raises(ValueError, match="held_out must be a share between 0 and 1, not 1"):
        split_by_chart(records, 1)
    with pytest.raises(ValueError, match="1 different chart"):
        split_by_chart(records.select([0, 0]))
    with pytest.raises(ValueError, match="need the columns image and chart_id"):
        split_by_chart(Dataset.from_dict({"question": ["a", "b"]}))
