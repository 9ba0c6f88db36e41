"""Arguments of an optimizer that transformers creates: the table says what each optimizer reads."""

from __future__ import annotations

import inspect
import re

import pytest
from transformers import trainer_optimizer
from transformers.training_args import OptimizerNames

from chartqa_ft.training.checks.optimizer_arguments import OPTIM_ARGS, TARGETS, UNREAD

from ...support.common import arguments, trainer

HANDLERS = {str(name.value): trainer_optimizer._OPTIMIZER_HANDLERS[name] for name in OptimizerNames}
ADAM = {"adam_beta1", "adam_beta2", "adam_epsilon"}
SOURCES = {name: inspect.getsource(handler) for name, handler in HANDLERS.items()}


def names_read(source: str) -> set[str]:
    """The names that a handler reads in `optim_args`, as its source has them."""
    found = set(re.findall(r"optim_args(?:\.get|\.pop)?[\[(]\"(\w+)\"", source))
    found |= set(re.findall(r"\"(\w+)\" in ctx\.optim_args", source))
    for names in re.findall(r"for key in \(([^)]*)\)", source):
        found |= set(re.findall(r"\"(\w+)\"", names))
    return found


def test_the_table_has_what_transformers_reads():
    assert set(OPTIM_ARGS) <= set(HANDLERS)
    for name, source in SOURCES.items():
        if "bitsandbytes" in source:  # one handler for several kinds
            assert "ademamix" in source
            assert "additional_optim_kwargs = ctx.optim_args" in source
            wanted = names_read(source) if "ademamix" in name else set()
        else:
            wanted = names_read(source)
        if OPTIM_ARGS.get(name, {}) is not None:
            assert set(OPTIM_ARGS.get(name, {})) == wanted, name
        assert ("_setup_low_rank_optimizer" in source) == name.startswith(TARGETS), name


def test_the_optimizers_without_arguments_of_adam_are_those_of_transformers():
    for name, source in SOURCES.items():
        if "bitsandbytes" in source:
            reads = {"rmsprop": set(), "lion": {"adam_beta1", "adam_beta2"}}
            read = next((names for part, names in reads.items() if part in name), ADAM)
        else:
            read = ADAM if "adam_kwargs" in source and name != "schedule_free_sgd" else set()
        unread = next((set(names) for start, names in UNREAD.items() if name.startswith(start)), set())
        assert unread == ADAM - read, name
    sgd = SOURCES["schedule_free_sgd"].partition("SCHEDULE_FREE_SGD:")[2].partition("else:")[0]
    assert "adam_kwargs" not in sgd


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optim_args": "nothing=1"},
            "optim_args='nothing=1' would not be used: optim='adamw_torch_fused' reads",
        ),
        ({"optim": "adafactor", "optim_args": "eps=1"}, "optim='adafactor' reads none"),
        ({"optim": "sgd", "optim_args": "x"}, "has 'x': write name=value, separated by commas"),
        ({"optim": "sgd", "optim_args": "momentum=0.9,"}, "has '': write name=value"),
        ({"optim": "sgd", "optim_args": "momentum="}, "has 'momentum=': write name=value"),
        ({"optim": "sgd", "optim_args": "momentum=0.9,momentum=0.8"}, "has momentum twice"),
        ({"optim": "sgd", "optim_args": "momentum=high"}, "momentum must be a number, got 'high'"),
        ({"optim": "sgd", "optim_args": "nesterov=maybe"}, "nesterov must be true or false, got 'maybe'"),
        ({"optim": "rmsprop", "optim_args": "beta1=0.5"}, "has beta1, which optim='rmsprop' does not read, but mom"),
        ({"optim": "stable_adamw", "optim_args": "kahan_sum=false"}, "kahan_sum must be true, or be left out"),
        ({"optim": "galore_adamw", "optim_args": "rank=1.5"}, "rank must be a whole number, got '1.5'"),
        ({"optim_target_modules": "all-linear"}, "optim_target_modules='all-linear' would not be used: only"),
        ({"optim": "sgd", "optim_target_modules": ["q_proj"]}, "optim_target_modules=.'q_proj'. would not be used"),
        ({"optim": "sgd", "adam_beta1": 0.8}, "adam_beta1=0.8 would not be used with optim='sgd'"),
        ({"optim": "lion_8bit", "adam_epsilon": 1e-6}, "adam_epsilon=1e-06 would not be used with optim='lion_8bit'"),
    ],
)
def test_what_the_optimizer_does_not_read_is_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_what_the_optimizer_reads_is_used(tmp_path):
    run = trainer(tmp_path, optim="sgd", optim_args="momentum=0.5, nesterov=true", learning_rate=0.1)
    run.create_optimizer()
    group = run.optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.5, True)
    arguments(tmp_path, optim="galore_adamw", optim_args="rank=4", optim_target_modules="all-linear")
    arguments(tmp_path, optim="rmsprop_bnb", optim_args="anything=1")
    arguments(tmp_path, optim="lion_8bit", adam_beta1=0.8)
