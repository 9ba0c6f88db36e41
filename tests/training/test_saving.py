"""What a saved model holds, and what it must not hold."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from chartqa_ft import ChartQATrainer, load_checkpoint
from chartqa_ft.adapters import adapter_for

from ..support.common import arguments, drawn_charts, tiny, trainer


def test_saved_files_hold_no_pickle_of_arguments_and_no_token(tmp_path):
    secret = "hf_averysecrettoken"
    learning = trainer(tmp_path, save_strategy="steps", save_steps=1, hub_token=secret)
    learning.train()
    learning.save_model()
    for folder in (tmp_path, tmp_path / "checkpoint-1"):
        assert not (folder / "training_args.bin").exists()
        assert (folder / "model.safetensors").is_file()
        saved = json.loads((folder / "training_args.json").read_text())
        assert saved["learning_rate"] == 1e-3
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_the_prompt_is_saved_and_used_again(tmp_path):
    model, processor = tiny()
    prompt = "Question: {question} <s_answer>"
    learning = trainer(tmp_path, model=model, adapter=adapter_for(model, processor, prompt=prompt, max_length=60))
    learning.save_model()
    settings = json.loads((tmp_path / "chartqa_config.json").read_text())
    assert settings["prompt"] == prompt
    assert settings["metric_variant"] == "pix2struct"
    assert settings["versions"]["torch"] == version("torch")  # builds may add more to torch.__version__
    _, _, adapter = load_checkpoint(tmp_path)
    assert (adapter.prompt, adapter.max_length) == (prompt, 60)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    found = adapter_for(*plain)
    assert (found.prompt, found.max_length) == (prompt, 60)
    again = ChartQATrainer(str(tmp_path), arguments(tmp_path / "again"), processing_class=plain[1])
    assert again.adapter.prompt == prompt
    _, _, other = load_checkpoint(tmp_path, prompt="{question} <s_answer>")
    assert other.prompt == "{question} <s_answer>"


def test_a_model_that_could_not_be_saved_is_refused_before_training(tmp_path):
    model, _ = tiny()
    model.config.num_beams = 4
    with pytest.raises(ValueError, match="this model could not be saved after training"):
        trainer(tmp_path, model=model)


def test_a_lora_config_trains_and_saves_the_lora_weights_alone(tmp_path):
    from peft import LoraConfig

    model, processor = tiny()
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    records = drawn_charts().select(range(6))
    learning = ChartQATrainer(
        str(tmp_path / "base"),
        arguments(tmp_path / "lora", max_steps=3, learning_rate=1e-2),
        train_dataset=records,
        eval_dataset=records,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )
    learning.train()
    trained = [name for name, parameter in learning.model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    learning.save_model()
    assert (tmp_path / "lora" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "lora" / "model.safetensors").exists()
    wanted = list(learning.predict(records).predictions)
    for merge in (False, True):
        model, processor, adapter = load_checkpoint(tmp_path / "lora", merge=merge)
        again = ChartQATrainer(model, arguments(tmp_path / "again"), processing_class=processor, adapter=adapter)
        assert list(again.predict(records).predictions) == wanted


def test_missing_checkpoints_and_folders_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json or adapter_config\.json"):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_checkpoint(tmp_path / "nowhere")
