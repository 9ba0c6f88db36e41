"""Which PEFT weights of a model can be trained: what is active is what is saved, loaded, merged, resumed and asked."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LilyConfig, LoraConfig, PrefixTuningConfig, get_peft_model, inject_adapter_in_model

from chartqa_ft import ChartQATrainer, answer_questions, default_lora_config, load_checkpoint
from chartqa_ft.adapters import adapter_for, base_model
from chartqa_ft.models.peft_state import active_config, active_name

from ..support.common import arguments, drawn_charts
from ..support.families import build

LAYERS = {"r": 4, "target_modules": ["q_proj", "v_proj"]}


def trainer_of(model, processor, adapter, folder, peft_config=None, **changes) -> ChartQATrainer:
    rows = drawn_charts()
    return ChartQATrainer(
        model,
        arguments(folder, **{"max_steps": 2, "learning_rate": 0.1, **changes}),
        train_dataset=rows,
        eval_dataset=rows.select(range(4)),
        processing_class=processor,
        adapter=adapter,
        peft_config=peft_config,
    )


def logits(model, adapter) -> torch.Tensor:
    batch = adapter.encode(list(drawn_charts().select(range(3))))
    with torch.no_grad():
        return base_model(model.eval())(**adapter.model_inputs(batch)).logits


def refused(match, model, processor, adapter, folder, **changes) -> None:
    with pytest.raises(ValueError, match=match):
        trainer_of(model, processor, adapter, folder, **changes)
    assert not list(folder.glob("checkpoint-*"))


@pytest.mark.parametrize("name", ["chart", "lora", "default"])
def test_weights_of_any_name_are_saved_loaded_merged_and_resumed(base, tmp_path, name):
    model, processor, adapter = load_checkpoint(base)
    model = get_peft_model(model, LoraConfig(**LAYERS), adapter_name=name)
    saving = {"save_strategy": "steps", "save_steps": 1}
    run = trainer_of(model, processor, adapter, tmp_path, **saving)
    run.train()
    run.save_model()
    wanted = logits(run.model, adapter)
    assert active_name(run.model) == name
    for folder in (tmp_path, tmp_path / "checkpoint-2"):
        assert (folder / "adapter_model.safetensors").is_file()
        assert not (folder / name).exists()
        loaded, _, _ = load_checkpoint(folder)
        torch.testing.assert_close(logits(loaded, adapter), wanted, rtol=0, atol=1e-5)
        merged, _, _ = load_checkpoint(folder, merge=True)
        torch.testing.assert_close(logits(merged, adapter), wanted, rtol=0, atol=1e-4)
    fresh, _, _ = load_checkpoint(base)
    fresh = get_peft_model(fresh, LoraConfig(**LAYERS), adapter_name=name)
    again = trainer_of(fresh, processor, adapter, tmp_path, **saving)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    torch.testing.assert_close(logits(again.model, adapter), wanted, rtol=0, atol=1e-6)


def test_weights_that_peft_saved_in_a_subfolder_are_named(base, tmp_path):
    model, _, adapter = load_checkpoint(base)
    model = get_peft_model(model, LoraConfig(**LAYERS, init_lora_weights=False), adapter_name="chart")
    model.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"subfolders chart have PEFT weights.*load_checkpoint\('.*chart'\)"):
        load_checkpoint(tmp_path)
    loaded, _, _ = load_checkpoint(tmp_path / "chart")
    torch.testing.assert_close(logits(loaded, adapter), logits(model, adapter), rtol=0, atol=1e-5)


def test_a_wrapped_model_of_a_refused_method_is_refused(tmp_path):
    model, processor = build("llava")
    model = get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    adapter = adapter_for(model, processor)
    refused("PEFT weights 'default' of the model: PREFIX_TUNING", model, processor, adapter, tmp_path)


def test_of_two_sets_of_weights_the_active_one_is_trained_and_saved(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    model = get_peft_model(model, LoraConfig(**LAYERS, init_lora_weights=False))
    model.add_adapter("second", LoraConfig(r=2, target_modules=["fc1"]))
    model.set_adapter("second")
    first = {key: value.clone() for key, value in model.state_dict().items() if ".default." in key}
    run = trainer_of(model, processor, adapter, tmp_path)
    run.train()
    run.save_model()
    assert active_config(run.model).target_modules == {"fc1"}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == ["fc1"]
    wanted = logits(run.model, adapter)
    loaded, _, _ = load_checkpoint(tmp_path)
    torch.testing.assert_close(logits(loaded, adapter), wanted, rtol=0, atol=1e-5)
    merged = run.save_merged(tmp_path / "merged")
    torch.testing.assert_close(logits(load_checkpoint(merged)[0], adapter), wanted, rtol=0, atol=1e-4)
    left = run.model.state_dict()
    assert first
    assert all(torch.equal(left[key], value) for key, value in first.items())


def test_the_best_weights_of_another_name_come_back(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    model = get_peft_model(model, LoraConfig(**LAYERS), adapter_name="chart")
    best = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    run = trainer_of(
        model, processor, adapter, tmp_path, **best, load_best_model_at_end=True, metric_for_best_model="loss"
    )
    run.train()
    loaded, _, _ = load_checkpoint(run.state.best_model_checkpoint)
    torch.testing.assert_close(logits(run.model, adapter), logits(loaded, adapter), rtol=0, atol=1e-5)


def test_several_active_weights_are_refused(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    model = get_peft_model(model, LoraConfig(**LAYERS))
    model.add_adapter("second", LoraConfig(**LAYERS))
    model.base_model.set_adapter(["default", "second"])
    refused("several active PEFT weights.*'default', 'second'.*set_adapter", model, processor, adapter, tmp_path)


def test_disabled_weights_are_refused(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    model = get_peft_model(model, LoraConfig(**LAYERS))
    model.base_model.disable_adapter_layers()
    refused("are disabled: call model.base_model.enable", model, processor, adapter, tmp_path)


def test_merged_weights_are_refused(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    model = get_peft_model(model, LoraConfig(**LAYERS))
    model.merge_adapter()
    refused("'default' are merged into the layers.*unmerge_adapter", model, processor, adapter, tmp_path)


def test_weights_that_transformers_added_are_refused(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    try:
        model.add_adapter(LoraConfig(**LAYERS))
    except ValueError:  # transformers 5.24 wants a later PEFT for it: leave the model as it would
        model = inject_adapter_in_model(LoraConfig(**LAYERS), model)
        model._hf_peft_config_loaded = True
    refused("added by model.add_adapter.*peft_config=", model, processor, adapter, tmp_path)


def test_weights_in_a_part_of_the_model_are_refused(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    model.decoder = get_peft_model(model.decoder, LoraConfig(**LAYERS))
    refused("decoder of the model has PEFT weights", model, processor, adapter, tmp_path)


def test_a_mixed_model_is_refused(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    mixed = get_peft_model(model, LoraConfig(**LAYERS), mixed=True)
    refused("PeftMixedModel cannot be saved", mixed, processor, adapter, tmp_path)


def test_a_peft_model_beside_a_peft_config_is_refused(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    config = default_lora_config(model, r=2)
    wrapped = get_peft_model(model, config)
    refused(
        "peft_config= was given for a model that already", wrapped, processor, adapter, tmp_path, peft_config=config
    )


def test_token_rows_of_one_of_two_tied_embeddings_are_refused(base, tmp_path):
    model, processor, adapter = load_checkpoint(base)
    model = get_peft_model(model, LoraConfig(**LAYERS, trainable_token_indices={"embed_tokens": [5]}))
    refused("one of two tied embeddings.*peft_config=", model, processor, adapter, tmp_path)


def test_weights_that_cannot_be_merged_are_refused_if_they_are_to_be_pushed_merged(base, tmp_path):
    for config, match in (
        (LilyConfig(r=2, target_modules=["q_proj"]), "push_merged=True: LILY weights cannot be merged"),
        (LoraConfig(r=2, target_modules=["lm_head"], lora_bias=True), r"push_merged=True: lora_bias=True .*lm_head"),
    ):
        model, processor, adapter = load_checkpoint(base)
        refused(match, model, processor, adapter, tmp_path, peft_config=config, push_merged=True)
        trainer_of(load_checkpoint(base)[0], processor, adapter, tmp_path, peft_config=config)


def test_answers_can_be_compared_with_those_of_the_base_model(base):
    model, processor, adapter = load_checkpoint(base)
    rows = list(drawn_charts().select(range(4)))
    ask = {"images": [row["image"] for row in rows], "questions": [row["question"] for row in rows]}
    without = answer_questions(model, processor, **ask, adapter=adapter, max_new_tokens=4)
    wrapped = get_peft_model(model, LoraConfig(**LAYERS, init_lora_weights=False, lora_alpha=200))
    assert answer_questions(wrapped, processor, **ask, adapter=adapter, max_new_tokens=4) != without
    with wrapped.disable_adapter():
        assert answer_questions(wrapped, processor, **ask, adapter=adapter, max_new_tokens=4) == without
