"""Optimizers and schedulers of the user hold the weights that are trained, or are refused."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft import ChartQATrainer, default_lora_config

from ...support.common import arguments, drawn_charts, tiny


def start(folder, model, processor, changes=None, **own):
    args = arguments(folder, **{"max_steps": 2, "learning_rate": 1e-2, **(changes or {})})
    return ChartQATrainer(model, args, train_dataset=drawn_charts(), processing_class=processor, **own)


def test_an_optimizer_without_the_peft_weights_is_refused(tmp_path):
    model, processor = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with pytest.raises(ValueError, match=r"lacks (\d+) of the \1 trainable parameters \(it was created before .*peft"):
        start(tmp_path, model, processor, peft_config=default_lora_config(model), optimizers=(optimizer, None))


def test_an_optimizer_of_another_model_is_refused(tmp_path):
    model, processor = tiny()
    optimizer = torch.optim.SGD(tiny()[0].parameters(), lr=1e-2)
    with pytest.raises(ValueError, match="parameters of the optimizer in optimizers are not in the model"):
        start(tmp_path, model, processor, optimizers=(optimizer, None))


def test_a_scheduler_of_another_optimizer_is_refused(tmp_path):
    model, processor = tiny()
    one, other = (torch.optim.SGD(model.parameters(), lr=1e-2) for _ in range(2))
    scheduler = torch.optim.lr_scheduler.LambdaLR(other, lambda step: 1.0)
    with pytest.raises(ValueError, match="changes the learning rate of another optimizer"):
        start(tmp_path, model, processor, optimizers=(one, scheduler))
    with pytest.raises(ValueError, match="changes the learning rate of an optimizer that is not used"):
        start(tmp_path, model, processor, optimizers=(None, scheduler))


def test_an_optimizer_of_a_part_of_the_model_is_warned_of_and_trains_this_part(tmp_path):
    model, processor = tiny()
    part = list(model.decoder.model.decoder.layers.parameters())
    optimizer = torch.optim.SGD(part, lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    learning = start(tmp_path, model, processor, optimizers=(optimizer, scheduler))
    (finding,) = learning.check("train").warnings
    assert f"of the {len(list(model.parameters()))} trainable parameters" in str(finding)
    before, still = part[0].detach().clone(), next(model.encoder.parameters()).detach().clone()
    learning.train()
    assert not torch.equal(part[0], before)
    assert torch.equal(next(model.encoder.parameters()), still)
    learning.train()  # the scheduler of the first call is no reason to refuse the second


def test_a_class_of_optimizers_is_used_also_with_peft(tmp_path):
    model, processor = tiny()
    own = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.5, "momentum": 0.1})}
    learning = start(tmp_path, model, processor, peft_config=default_lora_config(model), **own)
    learning.train()
    assert type(learning.optimizer.optimizer) is torch.optim.SGD
    assert all(bool(weight.any()) for name, weight in learning.model.state_dict().items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"optimizers": torch.optim.SGD}, "must be a pair"),
        ({"optimizer_cls_and_kwargs": torch.optim.SGD}, "must be a pair such as"),
        ({"optimizers": (1, None), "optimizer_cls_and_kwargs": (torch.optim.SGD, {})}, "exclude each other"),
        ({"model_init": tiny}, "either a model or a model_init"),
    ],
)
def test_what_excludes_each_other_is_refused(tmp_path, own, message):
    with pytest.raises(ValueError, match=message):
        start(tmp_path, *tiny(), **own)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (torch.optim.SGD, {"lr": "x"}, r"\(SGD, {'lr': 'x'}\) cannot be created \(TypeError"),
        (torch.optim.SGD, {"nothing": 1}, r"\(SGD, {'nothing': 1}\) cannot be created"),
        (torch.optim.Adam, {"lr": -1.0}, r"\(Adam, .* cannot be created \(ValueError: Invalid learning rate"),
    ],
)
def test_an_optimizer_that_cannot_be_created_is_named_before_the_first_step(tmp_path, kind, settings, message):
    run = start(tmp_path, *tiny(), optimizer_cls_and_kwargs=(kind, settings))
    with pytest.raises(ValueError, match=f"optimizer_cls_and_kwargs={message}"):
        run.train()
    assert run.state.global_step == 0


# ---------------------------------------------------------------------- arguments beside an optimizer of the user
def test_settings_of_the_arguments_that_an_own_optimizer_contradicts_are_warned_of(tmp_path):
    model, processor = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.8, 0.999))
    changes = {"weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.98}
    learning = start(tmp_path, model, processor, changes, optimizers=(optimizer, None))
    assert [str(finding) for finding in learning.check("train").warnings] == [
        "learning_rate=0.01, adam_beta2=0.98 of the arguments would not be used, because optimizers has other values: "
        "set them there, or leave them out"
    ]


def test_settings_of_the_arguments_beside_a_class_of_optimizers_are_warned_of(tmp_path):
    own = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.5})}
    (finding,) = start(tmp_path, *tiny(), {"weight_decay": 0.1}, **own).check("train").warnings
    assert finding.message.startswith("learning_rate=0.01 of the arguments would not be used")


@pytest.mark.parametrize("rate", [1e-2, 5e-5])
def test_a_rate_that_an_own_optimizer_has_too_or_that_is_the_default_is_fine(tmp_path, rate):
    model, processor = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    learning = start(tmp_path, model, processor, {"learning_rate": rate}, optimizers=(optimizer, None))
    assert learning.check("train").warnings == []
    learning.train()
    assert learning.check("train").warnings == []  # the schedule has changed the rate since


def test_two_choices_of_an_optimizer_are_refused(tmp_path):
    own = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.5})}
    with pytest.raises(ValueError, match="optim='sgd' would not be used with optimizer_cls_and_kwargs: leave one of"):
        start(tmp_path, *tiny(), {"optim": "sgd"}, **own)
    model, processor = tiny()
    own = {"optimizers": (torch.optim.SGD(model.parameters(), lr=1e-2), None)}
    with pytest.raises(ValueError, match=r"optim='adafactor' would not be used with optimizers=\(optimizer, \.\.\.\)"):
        start(tmp_path, model, processor, {"optim": "adafactor"}, **own)
