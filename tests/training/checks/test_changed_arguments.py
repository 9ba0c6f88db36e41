"""Arguments of a trainer that are changed later take effect, or are refused by name."""

from __future__ import annotations

import inspect
import re

import pytest

from chartqa_ft.training import batches

from ...support.common import drawn_charts, trainer


def test_arguments_of_batches_take_effect_when_they_are_changed(tmp_path):
    learning = trainer(tmp_path, eval_dataset=drawn_charts().select(range(4)))
    made = learning._collators["train"]
    assert learning.check("train").ok
    assert learning._collators["train"] is made
    learning.args.group_by_chart, learning.args.random_padding = False, True
    learning.train()
    collator = learning._collators["train"]
    assert (collator.group_by_chart, collator.random_padding) == (False, "seeded")
    assert learning.data_collator is collator
    learning.args.group_by_chart = None
    learning.evaluate()
    assert learning._collators["eval"].group_by_chart is True


def test_an_argument_of_batches_that_is_impossible_is_refused_when_it_is_changed(tmp_path):
    learning = trainer(tmp_path)
    learning.args.pack_questions = True
    (error,) = learning.check("train").errors
    assert "pack_questions=True is not possible" in error.message
    with pytest.raises(ValueError, match="pack_questions=True is not possible"):
        learning.train()


def test_the_arguments_of_batches_are_those_that_are_read():
    made_of = (batches.make_collators, batches._refuse_packing, batches._packs_questions)
    read = {name for part in made_of for name in re.findall(r"\bargs\.(\w+)", inspect.getsource(part))}
    assert read == set(batches.COLLATOR_ARGUMENTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("freeze", ["vision"]),
        ("bf16", True),
        ("report_to", ["wandb"]),
        ("activation_checkpointing", True),
        ("chunk_encoder", False),
        ("metric_for_best_model", "relaxed_acuracy"),
        ("greater_is_better", True),
    ],
)
def test_an_argument_that_is_read_once_is_refused_when_it_is_changed(tmp_path, name, value):
    learning = trainer(tmp_path)
    setattr(learning.args, name, value)
    with pytest.raises(ValueError, match=rf"trainer\.args\.{name} was changed after .*: create a new trainer with"):
        learning.train()
    assert learning.state.global_step == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bf16_full_eval", True, "would leave the weights in 16 bits"),
        ("metric_variant", "typo", "unknown variant"),
        ("metric_interval", "wald", "metric_interval must be one of"),
        ("max_steps", 0, "max_steps must be a whole number of at least 1"),
        ("per_device_train_batch_size", 0, "per_device_train_batch_size must be"),
        ("generation_num_beams", 0, "generation_num_beams must be"),
        ("generation_max_length", 3, "counts the prompt"),
        ("average_tokens_across_devices", False, "makes the update depend on the number of ranks"),
        ("auto_find_batch_size", True, "would change the rows of a step"),
        ("save_total_limit", 1, "deletes the last whole checkpoint"),
        ("learning_rate", "fast", "learning_rate must be a number"),
    ],
)
def test_a_value_that_is_refused_is_refused_later_too(tmp_path, name, value, message):
    learning = trainer(tmp_path, eval_dataset=drawn_charts().select(range(2)))
    before = next(learning.model.parameters()).dtype
    setattr(learning.args, name, value)
    for call in (learning.train, learning.evaluate):
        with pytest.raises(ValueError, match=message):
            call()
    assert (learning.state.global_step, next(learning.model.parameters()).dtype) == (0, before)


def test_values_that_are_derived_from_others_are_not_refused_later(tmp_path):
    following = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1}
    learning = trainer(
        tmp_path, eval_dataset=drawn_charts().select(range(2)), metric_for_best_model="loss", **following
    )
    assert learning.args.lr_scheduler_kwargs == {"mode": "min"}
    learning.args.lr_scheduler_type = "constant"
    learning.args.eval_strategy = "no"
    assert learning.check("train").ok


# ---------------------------------------------------------------------- a second training
@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1e-6}, {"weight_decay": 0.5}, {"optim": "sgd"}, {"learning_rates": {"vision": 1e-6}}]
)
def test_a_second_training_uses_the_arguments_of_its_optimizer(tmp_path, changes):
    learning = trainer(tmp_path, max_steps=1, learning_rate=1e-3, lr_scheduler_type="constant")
    learning.train()
    for name, value in changes.items():
        setattr(learning.args, name, value)
    learning.train()
    groups = learning.optimizer.param_groups
    assert type(learning.optimizer.optimizer).__name__ == ("SGD" if "optim" in changes else "AdamW")
    rates = {changes.get("learning_rate", 1e-3), *changes.get("learning_rates", {}).values()}
    assert {group["lr"] for group in groups} == rates
    assert max(group["weight_decay"] for group in groups) == changes.get("weight_decay", 0.0)


def test_a_second_training_goes_on_with_the_optimizer_of_the_first(tmp_path):
    learning = trainer(tmp_path, max_steps=1)
    learning.train()
    learning.args.logging_steps, learning.args.max_steps = 7, 2
    inner = learning.optimizer.optimizer
    learning.train()
    assert learning.optimizer.optimizer is inner
