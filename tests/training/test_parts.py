"""`freeze` and `learning_rates`: what is trained, at which rate, and that nothing else changes."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

from chartqa_ft import ChartQATrainer, ChartQATrainingArguments, default_lora_config
from chartqa_ft.models.parts import model_parts
from chartqa_ft.scripts import DataArguments
from chartqa_ft.scripts.parsing import parse
from chartqa_ft.training.parts import check_rates
from chartqa_ft.training.summary import summary

from ..support.common import arguments, drawn_charts, tiny, trainer
from ..support.families import records
from ..support.family_cases import ready, run_of

LLAVA = {"weight_decay": 0.1, "learning_rate": 1e-3, "generation_max_new_tokens": 2}


class GradientsByName(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        named = model.named_parameters()
        self.found = {name: None if weight.grad is None else weight.grad.clone() for name, weight in named}


def one_step(folder, **changes):
    """Train LLaVA for one step; return loss, gradients, weights before and after, and the part of each weight."""
    model, adapter = ready("llava")
    gradients = GradientsByName()
    run = run_of(folder, model, adapter, records(4), callbacks=[gradients], **{**LLAVA, **changes})
    names = {id(weight): name for name, weight in run.model.named_parameters()}
    parts = {names[id(weight)]: part for part, weights in model_parts(model).items() for weight in weights}
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    loss = run.train().training_loss
    return loss, gradients.found, before, dict(run.model.named_parameters()), parts, run


def test_frozen_parts_get_no_gradient_and_the_rest_is_trained_as_without_freeze(tmp_path):
    loss, gradients, before, after, parts, _ = one_step(tmp_path)
    for frozen in (["vision"], ["projector"], ["language"], ["vision", "language"]):
        own_loss, own_gradients, _, own_after, _, _ = one_step(tmp_path, freeze=frozen)
        assert own_loss == loss
        for name, part in parts.items():
            if part in frozen:
                assert own_gradients[name] is None, name
                assert torch.equal(own_after[name], before[name]), name
            else:
                assert torch.equal(own_after[name], after[name]), name
                same = own_gradients[name], gradients[name]
                assert same == (None, None) or torch.equal(*same), name
    assert {part for name, part in parts.items() if not torch.equal(after[name], before[name])} == set(parts.values())


def test_each_part_is_updated_at_its_own_rate_with_upstreams_weight_decay(tmp_path):
    rates = {"vision": 1e-5, "projector": 1e-2}
    runs = {rate: one_step(tmp_path, learning_rate=rate)[3] for rate in (1e-3, *rates.values())}
    _, _, _, after, parts, run = one_step(tmp_path, learning_rates=rates)
    for name, part in parts.items():
        assert torch.equal(after[name], runs[rates.get(part, 1e-3)][name]), name

    decayed = set(run.get_decay_parameter_names(run.model))
    names = {id(weight): name for name, weight in run.model.named_parameters()}
    groups = run.optimizer.param_groups
    assert [(group.get("part"), group["weight_decay"]) for group in groups] == [
        (None, 0.1),
        *([(None, 0.0)] if groups[1].get("part") is None else []),
        *[(part, decay) for decay in (0.1, 0.0) for part in ("vision", "projector")],
    ]
    for group in groups:
        for weight in group["params"]:
            name = names[id(weight)]
            assert parts[name] == group.get("part", "language")
            assert (name in decayed) is (group["weight_decay"] > 0)
    assert sum(len(group["params"]) for group in groups) == len(names)
    entry = run.state.log_history[0]
    assert (entry["learning_rate"], entry["learning_rate_vision"]) == (1e-3, 1e-5)
    assert entry["learning_rate_projector"] == 1e-2


def test_the_parts_are_in_the_summary_before_the_training(tmp_path, caplog):
    run = trainer(tmp_path, freeze="vision", learning_rates='{"language": 2e-4}')
    with caplog.at_level("INFO", logger="chartqa_ft"):
        run.train()
    trained = sum(weight.numel() for weight in run.model.decoder.parameters())
    assert f"vision is frozen; language has {trained:,} parameters to train at learning rate 0.0002" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", logger="chartqa_ft"):
        trainer(tmp_path).train()
    assert "parts:" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"freeze": ["visoin"]},
            "freeze has 'visoin', which is no part of a model: the parts are vision, projector",
        ),
        ({"learning_rates": {"decoder": 1e-4}}, "learning_rates has 'decoder', which is no part of a model"),
        (
            {"learning_rates": {"vision": "fast"}},
            r"learning_rates\['vision'\] must be a number of at least 0, got 'f",
        ),
        ({"learning_rates": {"vision": -1e-4}}, r"learning_rates\['vision'\] must be a number of at least 0"),
        ({"learning_rates": {"vision": 10**400}}, r"learning_rates\['vision'\] must be a number of at least 0"),
        ({"learning_rates": {"vision": True}}, r"learning_rates\['vision'\] must be a number of at least 0, got True"),
        ({"learning_rates": "vision=1"}, "learning_rates must be a dict, or JSON"),
        ({"learning_rates": '{"vision": 1'}, "is not valid JSON"),
        ({"freeze": 3}, "freeze must be a list of str or None, got 3"),
        ({"freeze": "vision", "learning_rates": {"vision": 1e-4}}, "vision is in freeze and in learning_rates"),
        ({"freeze": ["vision", "projector", "language"]}, "freeze has all parts"),
    ],
)
def test_wrong_values_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_what_a_model_lacks_or_does_not_train_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(ValueError, match=r"freeze has 'projector', which .* lacks: its parts are vision and language"):
        trainer(tmp_path, freeze=["projector"])
    with pytest.raises(ValueError, match=r"learning_rates has 'projector', which .* lacks: its parts are"):
        trainer(tmp_path, learning_rates={"projector": 1e-4})
    frozen, processor = tiny()
    frozen.encoder.requires_grad_(False)
    with pytest.raises(ValueError, match="learning_rates has 'vision', but none of its weights is trained"):
        trainer(tmp_path, model=frozen, learning_rates={"vision": 1e-4})
    model, _ = tiny()
    optimizers = torch.optim.SGD(model.parameters(), lr=0.1), None
    with pytest.raises(ValueError, match=r"learning_rates would not be used with optimizers=\(optimizer, ...\)"):
        ChartQATrainer(
            model,
            arguments(tmp_path, learning_rates={"vision": 1e-4}),
            train_dataset=drawn_charts(),
            processing_class=processor,
            optimizers=optimizers,
        )
    with pytest.raises(ValueError, match=r"freeze=\['vision', 'language'\] leaves no weight to train: leave out"):
        trainer(tmp_path, freeze=["vision", "language"]).train()


def test_beside_lora_only_the_lora_weights_of_other_parts_are_trained(tmp_path):
    model, adapter = ready("qwen2_5_vl")
    settings = {"peft_config": default_lora_config(model, vision=True), "learning_rates": {"language": 1e-2}}
    run = run_of(tmp_path, model, adapter, records(4), freeze=["vision"], **settings)
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    run.train()
    changed = {name for name, weight in run.model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed
    assert all("language_model" in name and "lora_" in name for name in changed)
    assert [group["lr"] for group in run.optimizer.param_groups if group["params"]] == [1e-2]

    model, adapter = ready("qwen2_5_vl")
    lora = default_lora_config(model)
    with pytest.raises(ValueError, match=r"none of its weights is trained: leave it out \(vision=True of default"):
        run_of(tmp_path, model, adapter, records(4), peft_config=lora, learning_rates={"vision": 1e-2})
    model, adapter = ready("qwen2_5_vl")
    with pytest.raises(ValueError, match=r"leaves no weight to train: .*PEFT weights are in the language model"):
        run_of(tmp_path, model, adapter, records(4), peft_config=lora, freeze=["language"]).train()


def test_optimizers_of_the_user_train_the_parts_that_are_not_frozen(tmp_path):
    model, processor = tiny()
    settings = {"train_dataset": drawn_charts(), "processing_class": processor}
    still, moves = (next(part.parameters()) for part in (model.encoder, model.decoder))
    before = still.detach().clone(), moves.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    run = ChartQATrainer(model, arguments(tmp_path, freeze="vision"), optimizers=(optimizer, None), **settings)
    (line,) = [line for line in summary(run) if line.startswith("parts: ")]
    assert line.endswith("parameters to train")  # at the rate of the optimizer, not at that of the arguments
    run.train()
    assert torch.equal(still, before[0])
    assert not torch.equal(moves, before[1])

    own = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.5, "momentum": 0.1})}
    args = arguments(tmp_path, learning_rates={"language": 0.25})
    run = ChartQATrainer(tiny()[0], args, **own, **settings)
    run.create_optimizer()
    found = [(group["lr"], group["momentum"]) for group in run.optimizer.param_groups if group["params"]]
    assert set(found) == {(0.5, 0.1), (0.25, 0.1)}


def test_a_run_with_parts_is_resumed_to_the_same_bits_and_only_with_the_same_parts(tmp_path):
    settings = {"freeze": ["vision"], "learning_rates": {"language": 3e-3}, "save_steps": 1, "save_strategy": "steps"}
    unbroken = trainer(tmp_path / "one", max_steps=2, **settings)
    unbroken.train()
    shutil.copytree(tmp_path / "one" / "checkpoint-1", tmp_path / "two" / "checkpoint-1")
    resumed = trainer(tmp_path / "two", max_steps=2, **settings)
    resumed.train(resume_from_checkpoint=True)
    weights = resumed.model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in unbroken.model.state_dict().items())
    with pytest.raises(ValueError, match=r"checkpoint-1 cannot be loaded: .* of another model, optimizer, freeze or"):
        trainer(tmp_path / "two", max_steps=2).train(resume_from_checkpoint=str(tmp_path / "two" / "checkpoint-1"))


def test_rates_beside_an_optimizer_of_deepspeed_are_refused():
    model, _ = tiny()
    plugin = SimpleNamespace(hf_ds_config=SimpleNamespace(config={"optimizer": {"type": "AdamW"}}))
    args = SimpleNamespace(learning_rates={"language": 1e-3}, deepspeed_plugin=plugin)
    with pytest.raises(ValueError, match="the configuration of DeepSpeed has an optimizer of its own"):
        check_rates(model, args)
    plugin.hf_ds_config.config = {"zero_optimization": {"stage": 2}}
    check_rates(model, args)


def test_the_command_line_and_yaml_mean_the_same(tmp_path):
    (tmp_path / "run.yaml").write_text("freeze: [vision]\nlearning_rates:\n  projector: 1e-3\n")
    own = ["--output_dir", str(tmp_path), "--use_cpu"]
    line = ["--freeze", "vision", "--learning_rates", '{"projector": 1e-3}']
    for given in ([str(tmp_path / "run.yaml"), *own], [*own, *line]):
        args = parse(given, DataArguments, description=None)[1]
        assert (args.freeze, args.learning_rates) == (["vision"], {"projector": 1e-3})
    assert ChartQATrainingArguments.default_arguments()["freeze"] is None
