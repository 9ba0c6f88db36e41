"""Each argument of a script is defined once."""

from __future__ import annotations

import dataclasses
from functools import partial

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
    known = [*SHARED, arguments.EvalDataArguments] if path == EVALUATE else SHARED
    shared = {field.name: field for one in known for field in dataclasses.fields(one)}
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


def test_programs_run_only_if_asked_for() -> None:
    assert arguments.ScoringArguments().metric_extract is None
    assert arguments.ScoringArguments(metric_extract="boxed").metric_extract == "boxed"
    assert arguments.ScoringArguments(run_programs=True, metric_extract="program").metric_extract == "program"
    with pytest.raises(ValueError, match=r"--run_programs and --metric_extract boxed.*leave out one of them"):
        arguments.ScoringArguments(run_programs=True, metric_extract="boxed")
    with pytest.raises(ValueError, match="--answers_picture"):
        arguments.ScoringArguments(answers_picture="all")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (arguments.DataArguments, "max_train_samples"),
        (arguments.DataArguments, "max_eval_samples"),
        (partial(example(EVALUATE).EvaluationArguments, model_name_or_path="m", output_dir="o"), "max_eval_samples"),
    ],
)
def test_no_question_is_no_number_of_questions(script, name):
    with pytest.raises(ValueError, match=f"--{name} must be at least 1, got 0: leave it out for all questions"):
        script(**{name: 0})
    assert getattr(script(**{name: 1}), name) == 1


def test_a_split_to_evaluate_is_not_ignored_beside_a_file_of_charts():
    with pytest.raises(ValueError, match="of --train_split train to score the model on: leave out --eval_split test"):
        arguments.DataArguments(split_file="split.json", eval_split="test")
    assert arguments.DataArguments(split_file="split.json", eval_split="train").split_file == "split.json"
    assert arguments.EvalDataArguments(split_file="split.json", eval_split="test").eval_split == "test"
