"""Each argument of a script is defined once."""

from __future__ import annotations

import dataclasses

import pytest

from chartqa_ft.scripts import arguments

from ..support.launching import EVALUATE, FINETUNE, LORA, OWN, example

SHARED = (arguments.CheckpointArguments, arguments.ModelArguments, arguments.DataArguments)
OVERRIDDEN = {
    FINETUNE: {"max_length"},
    LORA: {"model_name_or_path"},
    OWN: {"dataset_name"},
    EVALUATE: {"model_name_or_path", "eval_split"},
}
"""Arguments with another default in a script."""


@pytest.mark.parametrize("path", OVERRIDDEN, ids=lambda path: path.stem)
def test_a_script_defines_no_shared_argument_again(path):
    module = example(path)
    script = getattr(module, "ScriptArguments", None) or module.EvaluationArguments
    shared = {field.name: field for one in SHARED for field in dataclasses.fields(one)}
    fields = {field.name: field for field in dataclasses.fields(script)}
    changed = {name for name in fields.keys() & shared.keys() if fields[name].default != shared[name].default}
    assert changed == OVERRIDDEN[path]
    for name in fields.keys() & shared.keys() - changed:
        assert fields[name].metadata == shared[name].metadata, name


def test_no_argument_is_in_two_groups():
    model, data = (
        {field.name for field in dataclasses.fields(one)}
        for one in (arguments.ModelArguments, arguments.DataArguments)
    )
    assert not model & data
