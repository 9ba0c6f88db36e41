"""Training with a PEFT adapter: what the trainer sets and says, and what comes back from the adapter's folder."""

from __future__ import annotations

import logging

import pytest
import torch
from peft import LoraConfig

from chartqa_ft.adapters import adapter_for
from chartqa_ft.adapters.decoder_prompt import add_prompt_tokens
from chartqa_ft.evaluation.answering import answer_questions
from chartqa_ft.models import add_tokens
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.models.lora import add_peft, default_lora_config
from chartqa_ft.training.progress import chart_cost
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import arguments
from ..support.families import build, records
from ..support.launching import save_family


def lora_trainer(model, processor, folder, peft_config=None, **changes):
    prompt = None if "<s_answer>" in processor.tokenizer.get_vocab() else "{question}"
    return ChartQATrainer(
        model,
        arguments(folder, max_steps=3, learning_rate=1e-2, **changes),
        train_dataset=records(4),
        eval_dataset=records(4),
        processing_class=processor,
        adapter=adapter_for(model, processor, prompt=prompt),
        peft_config=peft_config,
    )


def answers(model, processor):
    rows = records(4)
    images, questions = [row["image"] for row in rows], [row["question"] for row in rows]
    return answer_questions(model, processor, images, questions, max_new_tokens=6)


@pytest.mark.parametrize("asked", [None, True])
def test_ddp_looks_for_unused_parameters_only_when_asked(tmp_path, asked):
    model, processor = build("llava")
    run = lora_trainer(model, processor, tmp_path, default_lora_config(model), ddp_find_unused_parameters=asked)
    assert run.args.ddp_find_unused_parameters is (asked or False)
    full, processor = build("llava")
    # LLaVA's last vision block takes no part in its loss: DDP has to look for such when all weights are trained.
    assert lora_trainer(full, processor, tmp_path).args.ddp_find_unused_parameters is True
    assert lora_trainer(*build("unichart"), tmp_path).args.ddp_find_unused_parameters is False


def test_a_checkpoint_in_16_bits_is_trained_in_32(tmp_path, caplog):
    model, processor = build("llava")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    run = ChartQATrainer(str(tmp_path / "base"), arguments(tmp_path / "out"), train_dataset=records(2))
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    assert torch.equal(run.model.lm_head.weight, model.lm_head.weight.float())
    kept = ChartQATrainer(
        str(tmp_path / "base"),
        arguments(tmp_path / "out"),
        train_dataset=records(2),
        peft_config=LoraConfig(r=2, target_modules=["q_proj"]),
    )
    assert kept.model.get_base_model().lm_head.weight.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in kept.model.parameters() if parameter.requires_grad} == {torch.float32}
    loaded, processor, _ = load_checkpoint(tmp_path / "base")
    with caplog.at_level(logging.WARNING, logger="chartqa_ft"):
        lora_trainer(loaded, processor, tmp_path / "out").train()
    assert "weights are trained in bfloat16, where most updates" in caplog.text


@pytest.mark.parametrize("name", ["pix2struct", "unichart", "llava", "florence2"])
def test_models_in_16_bits_answer(name):
    model, processor = build(name)
    assert len(answers(model.to(torch.bfloat16), processor)) == 4


def test_dead_targets_are_named_after_the_first_step(tmp_path, caplog):
    model, processor = build("llava")
    run = lora_trainer(model, processor, tmp_path, LoraConfig(r=2, target_modules="all-linear"))
    with caplog.at_level(logging.WARNING, logger="chartqa_ft"):
        run.train()
    (message,) = [record.getMessage() for record in caplog.records if "take part in the loss" in record.getMessage()]
    assert message.startswith("6 adapted modules do not take part in the loss: model.vision_tower.")
    caplog.clear()
    model, processor = build("llava")
    with caplog.at_level(logging.WARNING, logger="chartqa_ft"):
        lora_trainer(model, processor, tmp_path, default_lora_config(model, vision=True)).train()
    assert not caplog.records


def test_a_second_adapter_is_refused(tmp_path):
    model, processor = build("llava")
    wrapped = add_peft(model, LoraConfig(r=2, target_modules="all-linear"))
    with pytest.raises(ValueError, match="already has PEFT weights: leave it out"):
        lora_trainer(wrapped, processor, tmp_path, LoraConfig(r=2, target_modules="all-linear"))
    lora_trainer(wrapped, processor, tmp_path).train()


@pytest.mark.parametrize("name", ["nougat", "llava"])
def test_new_tokens_travel_with_the_adapter(tmp_path, name):
    """Tied (the first) and separate embeddings grow, the new row alone is trained, and all of it comes back."""
    model, processor, _ = load_checkpoint(save_family(name, tmp_path / "base"), prompt="{question}")
    before = model.get_input_embeddings().weight.detach().clone()
    known = len(processor.tokenizer)
    (new,) = add_tokens(model, processor, ["<chart-task>"])
    assert new == known == len(before)
    run = ChartQATrainer(
        model,
        arguments(tmp_path / "out", max_steps=3, learning_rate=1e-2),
        train_dataset=records(4),
        processing_class=processor,
        adapter=adapter_for(model, processor, prompt="<chart-task> {question} ="),
        peft_config=default_lora_config(model, new_tokens=[new]),
    )
    run.train()
    run.save_model()
    expected = answers(run.model, processor)
    for merge in (False, True):
        again, its_processor, adapter = load_checkpoint(tmp_path / "out", merge=merge)
        assert adapter.prompt == "<chart-task> {question} ="
        assert answers(again, its_processor) == expected
    weight = again.get_input_embeddings().weight
    assert torch.equal(weight[:known], before)
    assert not torch.equal(weight[known], before.mean(dim=0))


def test_taught_markers_start_from_the_mean_every_time(tmp_path):
    rows = []
    for _ in range(2):
        model, processor = build("trocr")
        processor.tokenizer.add_tokens(["<filler>"])
        known = model.get_input_embeddings().weight.detach().clone()
        added = add_prompt_tokens(model, processor)
        weight = model.get_input_embeddings().weight
        assert len(weight) == len(processor.tokenizer)
        rows.append(weight[len(known) :])
        assert torch.allclose(weight[len(known) :], known.mean(dim=0), atol=1e-6)
        assert added == len(processor.tokenizer) - len(known) - 1
    assert torch.equal(*rows)


@pytest.mark.parametrize(("name", "cost"), [("llava_next", {"max_tiles": 1}), ("unichart", {"image_size": 128})])
def test_what_a_chart_costs_comes_back_with_the_adapter(tmp_path, name, cost):
    folder = save_family(name, tmp_path / "base")
    plain_adapter = load_checkpoint(folder)[2]
    model, processor, adapter = load_checkpoint(folder, image_cost=cost)
    usual, chosen = (a.image_tokens(a.encode(records(4))) for a in (plain_adapter, adapter))
    assert chosen != usual
    run = lora_trainer(model, processor, tmp_path / "out", default_lora_config(model))
    run.train()
    run.save_model()
    again, its_processor, its_adapter = load_checkpoint(tmp_path / "out")
    assert its_adapter.image_tokens(its_adapter.encode(records(4))) == chosen
    assert answers(again, its_processor) == answers(run.model, processor)


def test_the_image_tokens_of_a_chart_are_printed_before_training(tmp_path, capsys):
    model, processor = build("qwen2_5_vl")
    lora_trainer(model, processor, tmp_path, disable_tqdm=False).train()
    assert "a chart takes 6 to 8 image tokens (the first 4 records)" in capsys.readouterr().out
    adapter = adapter_for(model, processor)
    counted = (adapter.encode(records(4))["input_ids"] == model.config.image_token_id).sum(dim=1)
    assert (counted.min(), counted.max()) == (6, 8)
    assert "is not known for this family" in chart_cost(adapter, [])


def test_the_prompt_of_an_adapter_is_used_whoever_asks(tmp_path):
    folder = save_family("smolvlm", tmp_path / "base")
    model, processor, adapter = load_checkpoint(folder, prompt="Read: {question}")
    run = ChartQATrainer(
        model,
        arguments(tmp_path / "out"),
        train_dataset=records(2),
        processing_class=processor,
        adapter=adapter,
        peft_config=default_lora_config(model),
    )
    run.train()
    run.save_model()
    again, its_processor, its_adapter = load_checkpoint(tmp_path / "out")
    assert its_adapter.prompt == "Read: {question}" == adapter_for(again, its_processor).prompt


def test_a_saved_adapter_is_trained_on_or_merged_and_adapted_again(tmp_path):
    model, processor, _ = load_checkpoint(save_family("llava", tmp_path / "base"))
    first = lora_trainer(model, processor, tmp_path / "first", default_lora_config(model))
    first.train()
    first.save_model()
    loaded, processor, _ = load_checkpoint(tmp_path / "first")
    with pytest.raises(ValueError, match=r"load them with load_checkpoint\(..., trainable=True\)"):
        lora_trainer(loaded, processor, tmp_path / "refused").train()
    again = ChartQATrainer(str(tmp_path / "first"), arguments(tmp_path / "on"), train_dataset=records(2))
    before = {name: p.detach().clone() for name, p in again.model.named_parameters() if p.requires_grad}
    assert len(before) == 2 * 14
    again.train()
    assert all(not torch.equal(p, before[n]) for n, p in again.model.named_parameters() if n in before)

    merged, processor, _ = load_checkpoint(tmp_path / "first", merge=True)
    second = lora_trainer(merged, processor, tmp_path / "second", default_lora_config(merged))
    second.train()
    second.save_model()
    stacked, its_processor, _ = load_checkpoint(tmp_path / "second")
    assert answers(stacked, its_processor) == answers(second.model, processor)
    (tmp_path / "second" / "adapter_model.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no adapter_model\.safetensors: fetch or save the PEFT checkpoint again"
    ):
        load_checkpoint(tmp_path / "second")


def test_the_seed_decides_how_an_adapter_begins(tmp_path):
    weights = []
    for noise in (1, 2):
        model, processor = build("llava")
        torch.manual_seed(noise)
        run = lora_trainer(model, processor, tmp_path, default_lora_config(model))
        weights.append([p.detach() for n, p in run.model.named_parameters() if "lora_A" in n])
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))
